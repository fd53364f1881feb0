-- Text sorts by its bytes, as in every engine of the books.

-- What admins manage: one kind of row for all.
CREATE TABLE object (
    kind TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);

-- Ciphertexts only.
CREATE TABLE secret (
    owner TEXT COLLATE "C" NOT NULL,
    slot TEXT COLLATE "C" NOT NULL,
    sealed BYTEA NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (owner, slot)
);

CREATE TABLE kv (
    plugin TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    PRIMARY KEY (plugin, key)
);

CREATE TABLE service (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    panel TEXT COLLATE "C" NOT NULL,
    reference TEXT COLLATE "C" NOT NULL,
    plan TEXT COLLATE "C" NOT NULL,
    server TEXT COLLATE "C" NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    options TEXT COLLATE "C" NOT NULL,
    settings TEXT COLLATE "C" NOT NULL,
    ordered TEXT COLLATE "C" NOT NULL,
    facts TEXT COLLATE "C" NOT NULL,
    phase TEXT COLLATE "C" NOT NULL,
    suspended BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    state_version BIGINT NOT NULL,
    vmid BIGINT,
    absence_proven_ms BIGINT,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    UNIQUE (panel, reference)
);
CREATE INDEX service_phase ON service (phase);

-- Open operations and the last 50 of each service. log_last and log_rows count its log; epoch is that of its last claim, so
-- that a retried operation goes on counting.
CREATE TABLE operation (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    service_id TEXT COLLATE "C" NOT NULL REFERENCES service (id),
    generation BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    plugin TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    state_version BIGINT NOT NULL,
    memo TEXT COLLATE "C",
    attempt BIGINT NOT NULL,
    reason_code TEXT COLLATE "C",
    reason_message TEXT COLLATE "C",
    created_ms BIGINT NOT NULL,
    started_ms BIGINT,
    state_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    log_last BIGINT NOT NULL DEFAULT 0,
    log_rows BIGINT NOT NULL DEFAULT 0,
    epoch BIGINT NOT NULL DEFAULT 0,
    UNIQUE (service_id, generation)
);
CREATE INDEX operation_needs_admin ON operation (service_id) WHERE status = 'needs-admin';
CREATE INDEX operation_open ON operation (service_id, generation) WHERE status IN ('queued', 'running', 'waiting');

CREATE TABLE operation_log (
    operation_id TEXT COLLATE "C" NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
    n BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    step BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (operation_id, n)
);

-- Live operations: one a service. due_ms is the wake time, and while claimed the end of the claim. A row with wait_slot is
-- parked: it leaves the index that claims use.
CREATE TABLE queue (
    operation_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES operation (id),
    service_id TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES service (id),
    due_ms BIGINT NOT NULL,
    was_due_ms BIGINT NOT NULL,
    owner TEXT COLLATE "C",
    epoch BIGINT NOT NULL,
    rev BIGINT NOT NULL,
    taken_over BIGINT NOT NULL,
    preempted BIGINT NOT NULL,
    nudged BIGINT NOT NULL,
    wait_slot TEXT COLLATE "C",
    ticket BIGINT,
    topic TEXT COLLATE "C"
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
CREATE INDEX queue_due ON queue (due_ms, operation_id) WHERE wait_slot IS NULL;
CREATE INDEX queue_parked ON queue (wait_slot, ticket) WHERE wait_slot IS NOT NULL;
CREATE INDEX queue_topic ON queue (topic) WHERE topic IS NOT NULL;

CREATE TABLE effect (
    operation_id TEXT COLLATE "C" NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    server TEXT COLLATE "C" NOT NULL,
    body TEXT COLLATE "C" NOT NULL,
    slot_pool TEXT COLLATE "C",
    slot_cap BIGINT,
    state TEXT COLLATE "C" NOT NULL,
    task TEXT COLLATE "C",
    deadline_ms BIGINT NOT NULL,
    result TEXT COLLATE "C",
    created_ms BIGINT NOT NULL,
    issued_ms BIGINT,
    resolved_ms BIGINT,
    PRIMARY KEY (operation_id, sequence)
);
CREATE INDEX effect_issued ON effect (server, operation_id) WHERE state = 'issued';

-- A row is a held slot: a slot is held by the operation, not by the process that runs it.
CREATE TABLE slot (
    pool TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    operation_id TEXT COLLATE "C" NOT NULL UNIQUE REFERENCES operation (id),
    PRIMARY KEY (pool, number)
);

CREATE TABLE idempotency (
    scope TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C",
    operation_id TEXT COLLATE "C",
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_age ON idempotency (at_ms);

CREATE TABLE lease (
    domain TEXT COLLATE "C" NOT NULL,
    family BIGINT NOT NULL,
    address BYTEA NOT NULL,
    pool TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" REFERENCES service (id),
    place BIGINT NOT NULL,
    network TEXT COLLATE "C" NOT NULL,
    ptr TEXT COLLATE "C",
    leased_ms BIGINT NOT NULL,
    free_after_ms BIGINT NOT NULL,
    PRIMARY KEY (domain, family, address)
);
CREATE INDEX lease_service ON lease (service_id) WHERE service_id IS NOT NULL;
CREATE INDEX lease_pool ON lease (pool, family, address);

-- Every number that was ever reserved: one that is burnt or whose service is gone is never used again.
CREATE TABLE vmid (
    server TEXT COLLATE "C" NOT NULL,
    vmid BIGINT NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL REFERENCES service (id),
    live BIGINT NOT NULL,
    PRIMARY KEY (server, vmid)
);
CREATE UNIQUE INDEX vmid_live ON vmid (service_id) WHERE live = 1;
CREATE INDEX vmid_service ON vmid (service_id);

CREATE TABLE room (
    service_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    server TEXT COLLATE "C" NOT NULL,
    node TEXT COLLATE "C" NOT NULL,
    memory_mib BIGINT NOT NULL,
    storage TEXT COLLATE "C" NOT NULL,
    disk_mib BIGINT NOT NULL
);
CREATE INDEX room_server ON room (server);

-- Wish and ledger. sent = it may be at the provider; open = there is work to do; sought = the wish when it was handed to a
-- worker last.
CREATE TABLE record (
    zone TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    rtype TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C" NOT NULL,
    queue TEXT COLLATE "C" NOT NULL,
    ttl BIGINT,
    wanted BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    open BIGINT NOT NULL,
    sought BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    reason TEXT COLLATE "C",
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (zone, name, rtype, value, service_id)
);
CREATE INDEX record_service ON record (service_id);
CREATE INDEX record_due ON record (queue, due_ms) WHERE open = 1;

-- Claims on provider queues.
CREATE TABLE dns_queue (
    queue TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner TEXT COLLATE "C",
    epoch BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);

CREATE TABLE event (
    seq BIGINT NOT NULL PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C",
    panel TEXT COLLATE "C",
    subject TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    data TEXT COLLATE "C" NOT NULL
);
CREATE INDEX event_panel ON event (panel, seq);

CREATE TABLE delivery (
    seq BIGINT NOT NULL REFERENCES event (seq),
    hook TEXT COLLATE "C" NOT NULL,
    service_id TEXT COLLATE "C",
    attempt BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    owner TEXT COLLATE "C",
    epoch BIGINT NOT NULL,
    PRIMARY KEY (seq, hook)
);
CREATE INDEX delivery_due ON delivery (due_ms);
CREATE INDEX delivery_order ON delivery (hook, service_id, seq);

CREATE TABLE audit (
    seq BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    body TEXT COLLATE "C" NOT NULL
);

CREATE TABLE component (
    digest TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    bytes BYTEA NOT NULL
);

CREATE TABLE plugin_version (
    id TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL REFERENCES component (digest),
    manifest TEXT COLLATE "C" NOT NULL,
    size BIGINT NOT NULL,
    installed_ms BIGINT NOT NULL,
    installed_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (id, version)
);

CREATE TABLE rollout (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    current TEXT COLLATE "C" NOT NULL,
    previous TEXT COLLATE "C",
    enabled BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    FOREIGN KEY (id, current) REFERENCES plugin_version (id, version)
);

-- Places in the line for slots. Taken under the lock of the pool, so that they rise in the order of commits.
CREATE SEQUENCE ticket;

-- Events and audit rows as they were committed, not numbered yet: transactions end in another order than they take numbers.
-- Whoever reads the feed first moves them into it, under the one row of `publisher`.
CREATE TABLE pending (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL
);

CREATE TABLE publisher (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    event_seq BIGINT NOT NULL,
    audit_seq BIGINT NOT NULL
);
INSERT INTO publisher VALUES (1, 0, 0);
