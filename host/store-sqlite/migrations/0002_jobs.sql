-- Scheduled work of the host: schedule, lock and memory of the last run in one row. due_ms is the next run, and while claimed
-- the end of the claim; was_due_ms is when the run under way was due.
CREATE TABLE job (
    name TEXT NOT NULL PRIMARY KEY,
    every_ms INTEGER NOT NULL,
    stale_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    was_due_ms INTEGER NOT NULL,
    owner TEXT,
    epoch INTEGER NOT NULL,
    forced INTEGER NOT NULL,
    declared_ms INTEGER NOT NULL,
    last_begun_ms INTEGER,
    last_ended_ms INTEGER,
    last_ok_ms INTEGER,
    last_result TEXT,
    last_error TEXT,
    last_epoch INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    took_over INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row at most: the clock by which addresses rest.
CREATE TABLE rest_clock (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at_ms INTEGER NOT NULL,
    looks INTEGER NOT NULL
) STRICT;

-- For pruning, and for the ends of rests.
CREATE INDEX event_age ON event (at_ms);
CREATE INDEX audit_age ON audit (at_ms);
CREATE INDEX lease_resting ON lease (free_after_ms) WHERE service_id IS NULL;
