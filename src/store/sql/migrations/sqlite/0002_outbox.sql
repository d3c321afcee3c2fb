ALTER TABLE outbox ADD COLUMN destination TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN ordering TEXT;
ALTER TABLE outbox ADD COLUMN content_type TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN request TEXT;
ALTER TABLE outbox ADD COLUMN created INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outbox_by_id ON outbox (topic, dead, id);
CREATE INDEX outbox_by_order ON outbox (topic, ordering, id);
CREATE INDEX outbox_by_sender ON outbox (sender);

CREATE TABLE outbox_origins (
    run TEXT NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL
);
