-- What is to be known of the books themselves: an unfinished copy, that they were restored.
CREATE TABLE meta (
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

-- VM numbers that were seen on a server when restored books were merged with it: they are never given out.
CREATE TABLE foreign_vmid (
    server TEXT COLLATE "C" NOT NULL,
    vmid BIGINT NOT NULL,
    why TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (server, vmid)
);
