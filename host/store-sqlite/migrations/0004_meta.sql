-- What is to be known of the books themselves: an unfinished copy, that they were restored.
CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- VM numbers that were seen on a server when restored books were merged with it: they are never given out.
CREATE TABLE foreign_vmid (
    server TEXT NOT NULL,
    vmid INTEGER NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (server, vmid)
) STRICT, WITHOUT ROWID;
