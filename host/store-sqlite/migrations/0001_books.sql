-- What admins manage: one kind of row for all.
CREATE TABLE object (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- Ciphertexts only.
CREATE TABLE secret (
    owner TEXT NOT NULL,
    slot TEXT NOT NULL,
    sealed BLOB NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE kv (
    plugin TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (plugin, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE service (
    id TEXT NOT NULL PRIMARY KEY,
    panel TEXT NOT NULL,
    reference TEXT NOT NULL,
    plan TEXT NOT NULL,
    server TEXT NOT NULL,
    plugin TEXT NOT NULL,
    options TEXT NOT NULL,
    settings TEXT NOT NULL,
    ordered TEXT NOT NULL,
    facts TEXT NOT NULL,
    phase TEXT NOT NULL,
    suspended INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    state TEXT NOT NULL,
    state_version INTEGER NOT NULL,
    vmid INTEGER,
    absence_proven_ms INTEGER,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    UNIQUE (panel, reference)
) STRICT, WITHOUT ROWID;
CREATE INDEX service_phase ON service (phase);

-- Open operations and the last 50 of each service. log_last and log_rows count its log; epoch is that of its last claim, so
-- that a retried operation goes on counting.
CREATE TABLE operation (
    id TEXT NOT NULL PRIMARY KEY,
    service_id TEXT NOT NULL REFERENCES service (id),
    generation INTEGER NOT NULL,
    kind TEXT NOT NULL,
    plugin TEXT NOT NULL,
    status TEXT NOT NULL,
    state TEXT NOT NULL,
    state_version INTEGER NOT NULL,
    memo TEXT,
    attempt INTEGER NOT NULL,
    reason_code TEXT,
    reason_message TEXT,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    state_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    log_last INTEGER NOT NULL DEFAULT 0,
    log_rows INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    UNIQUE (service_id, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_needs_admin ON operation (service_id) WHERE status = 'needs-admin';
CREATE INDEX operation_open ON operation (service_id, generation) WHERE status IN ('queued', 'running', 'waiting');

CREATE TABLE operation_log (
    operation_id TEXT NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    step INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (operation_id, n)
) STRICT, WITHOUT ROWID;

-- Live operations: one a service. due_ms is the wake time, and while claimed the end of the claim. A row with wait_slot is
-- parked: it leaves the index that claims use.
CREATE TABLE queue (
    operation_id TEXT NOT NULL PRIMARY KEY REFERENCES operation (id),
    service_id TEXT NOT NULL UNIQUE REFERENCES service (id),
    due_ms INTEGER NOT NULL,
    was_due_ms INTEGER NOT NULL,
    owner TEXT,
    epoch INTEGER NOT NULL,
    rev INTEGER NOT NULL,
    taken_over INTEGER NOT NULL,
    preempted INTEGER NOT NULL,
    nudged INTEGER NOT NULL,
    wait_slot TEXT,
    ticket INTEGER,
    topic TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX queue_due ON queue (due_ms, operation_id) WHERE wait_slot IS NULL;
CREATE INDEX queue_parked ON queue (wait_slot, ticket) WHERE wait_slot IS NOT NULL;
CREATE INDEX queue_ticket ON queue (ticket) WHERE ticket IS NOT NULL;
CREATE INDEX queue_topic ON queue (topic) WHERE topic IS NOT NULL;

CREATE TABLE effect (
    operation_id TEXT NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    service_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    kind TEXT NOT NULL,
    server TEXT NOT NULL,
    body TEXT NOT NULL,
    slot_pool TEXT,
    slot_cap INTEGER,
    state TEXT NOT NULL,
    task TEXT,
    deadline_ms INTEGER NOT NULL,
    result TEXT,
    created_ms INTEGER NOT NULL,
    issued_ms INTEGER,
    resolved_ms INTEGER,
    PRIMARY KEY (operation_id, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX effect_issued ON effect (server, operation_id) WHERE state = 'issued';

-- A row is a held slot: a slot is held by the operation, not by the process that runs it.
CREATE TABLE slot (
    pool TEXT NOT NULL,
    number INTEGER NOT NULL,
    operation_id TEXT NOT NULL UNIQUE REFERENCES operation (id),
    PRIMARY KEY (pool, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    service_id TEXT,
    operation_id TEXT,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_age ON idempotency (at_ms);

CREATE TABLE lease (
    domain TEXT NOT NULL,
    family INTEGER NOT NULL,
    address BLOB NOT NULL,
    pool TEXT NOT NULL,
    service_id TEXT REFERENCES service (id),
    place INTEGER NOT NULL,
    network TEXT NOT NULL,
    ptr TEXT,
    leased_ms INTEGER NOT NULL,
    free_after_ms INTEGER NOT NULL,
    PRIMARY KEY (domain, family, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_service ON lease (service_id) WHERE service_id IS NOT NULL;
CREATE INDEX lease_pool ON lease (pool, family, address);

-- Every number that was ever reserved: one that is burnt or whose service is gone is never used again.
CREATE TABLE vmid (
    server TEXT NOT NULL,
    vmid INTEGER NOT NULL,
    service_id TEXT NOT NULL REFERENCES service (id),
    live INTEGER NOT NULL,
    PRIMARY KEY (server, vmid)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX vmid_live ON vmid (service_id) WHERE live = 1;
CREATE INDEX vmid_service ON vmid (service_id);

CREATE TABLE room (
    service_id TEXT NOT NULL PRIMARY KEY,
    server TEXT NOT NULL,
    node TEXT NOT NULL,
    memory_mib INTEGER NOT NULL,
    storage TEXT NOT NULL,
    disk_mib INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX room_server ON room (server);

-- Wish and ledger. sent = it may be at the provider; open = there is work to do; sought = the wish when it was handed to a
-- worker last.
CREATE TABLE record (
    zone TEXT NOT NULL,
    name TEXT NOT NULL,
    rtype TEXT NOT NULL,
    value TEXT NOT NULL,
    service_id TEXT NOT NULL,
    queue TEXT NOT NULL,
    ttl INTEGER,
    wanted INTEGER NOT NULL,
    sent INTEGER NOT NULL,
    open INTEGER NOT NULL,
    sought INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    reason TEXT,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (zone, name, rtype, value, service_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX record_service ON record (service_id);
CREATE INDEX record_due ON record (queue, due_ms) WHERE open = 1;

-- Claims on provider queues.
CREATE TABLE dns_queue (
    queue TEXT NOT NULL PRIMARY KEY,
    owner TEXT,
    epoch INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    service_id TEXT,
    panel TEXT,
    subject TEXT NOT NULL,
    generation INTEGER NOT NULL,
    data TEXT NOT NULL
) STRICT;
CREATE INDEX event_panel ON event (panel, seq);

CREATE TABLE delivery (
    seq INTEGER NOT NULL REFERENCES event (seq),
    hook TEXT NOT NULL,
    service_id TEXT,
    attempt INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    owner TEXT,
    epoch INTEGER NOT NULL,
    PRIMARY KEY (seq, hook)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_due ON delivery (due_ms);
CREATE INDEX delivery_order ON delivery (hook, service_id, seq);

CREATE TABLE audit (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE component (
    digest TEXT NOT NULL PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE plugin_version (
    id TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES component (digest),
    manifest TEXT NOT NULL,
    size INTEGER NOT NULL,
    installed_ms INTEGER NOT NULL,
    installed_by TEXT NOT NULL,
    PRIMARY KEY (id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollout (
    id TEXT NOT NULL PRIMARY KEY,
    current TEXT NOT NULL,
    previous TEXT,
    enabled INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    FOREIGN KEY (id, current) REFERENCES plugin_version (id, version)
) STRICT, WITHOUT ROWID;
