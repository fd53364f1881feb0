-- ?1 services, five operations each with a line of log and an effect, an address, a number and two events.
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
    INSERT INTO service SELECT printf('01900000-0000-7000-8000-%012d', i), 'shop', i, 'small', 'pve', 'proxmox-kvm',
    '{"memory":"2048","cores":"2"}', '{"image":"debian-12","main-domain":"example.com"}', '{}',
    '{"client-id":"42","fqdn":"vm.example.com"}', 'active', 0, 5, 'ready', 1, 10000 + i, NULL, i, i FROM n;
WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < 5)
    INSERT INTO operation (id, service_id, generation, kind, plugin, status, state, state_version, attempt, created_ms,
    started_ms, state_ms, ended_ms, log_last, log_rows, epoch)
    SELECT printf('0190000%d%s', g.i, substr(s.id, 9)), s.id, g.i, 'change', 'proxmox-kvm', 'succeeded', 'ready', 1, 0, 1, 2, 3,
    4, 1, 1, 3 FROM service s CROSS JOIN g WHERE ?1 > 0;
INSERT INTO operation_log SELECT id, 1, 5, 1,
    '{"line":{"level":"info","message":"the VM has what was ordered","fields":[]}}' FROM operation WHERE ?1 > 0;
INSERT INTO effect SELECT id, 1, service_id, generation, 'config', 'pve', '{"cores":2,"memory":2048}', NULL, NULL,
    'resolved', NULL, 9, '{"ok":true,"code":"","message":"OK"}', 1, 2, 3 FROM operation WHERE ?1 > 0;
INSERT INTO lease SELECT 'default', 4, unhex(printf('%08x', 167772160 + vmid)), 'v4', id, 0, '{"bridge":"vmbr0"}', NULL, 1, 0
    FROM service WHERE ?1 > 0;
INSERT INTO vmid SELECT 'pve', vmid, id, 1 FROM service WHERE ?1 > 0;
INSERT INTO event (id, at_ms, kind, service_id, panel, subject, generation, data)
    SELECT s.id, 1, 'service.phase-changed', s.id, 'shop', 'shop:' || s.reference, 1, '{"phase":"active"}'
    FROM service s CROSS JOIN (SELECT 1 UNION ALL SELECT 2) WHERE ?1 > 0;
