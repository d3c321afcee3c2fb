-- Usage records, packed, some thousand in a row: one writing of a page instead of one for each record and index. `ids` are
-- the requests of a block, 16 bytes each, in the order of their records in `body`.
CREATE TABLE usage_blocks (
    id INTEGER PRIMARY KEY,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    records INTEGER NOT NULL,
    ids BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX usage_blocks_by_time ON usage_blocks (last_at, id, first_at, records);
