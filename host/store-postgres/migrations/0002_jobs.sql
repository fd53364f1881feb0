-- Scheduled work of the host: schedule, lock and memory of the last run in one row. due_ms is the next run, and while claimed
-- the end of the claim; was_due_ms is when the run under way was due.
CREATE TABLE job (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    every_ms BIGINT NOT NULL,
    stale_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    was_due_ms BIGINT NOT NULL,
    owner TEXT COLLATE "C",
    epoch BIGINT NOT NULL,
    forced BIGINT NOT NULL,
    declared_ms BIGINT NOT NULL,
    last_begun_ms BIGINT,
    last_ended_ms BIGINT,
    last_ok_ms BIGINT,
    last_result TEXT COLLATE "C",
    last_error TEXT COLLATE "C",
    last_epoch BIGINT NOT NULL,
    runs BIGINT NOT NULL,
    took_over BIGINT NOT NULL
);

-- One row at most: the clock by which addresses rest.
CREATE TABLE rest_clock (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    at_ms BIGINT NOT NULL,
    looks BIGINT NOT NULL
);

-- For pruning, and for the ends of rests.
CREATE INDEX event_age ON event (at_ms);
CREATE INDEX audit_age ON audit (at_ms);
CREATE INDEX lease_resting ON lease (free_after_ms) WHERE service_id IS NULL;
