CREATE INDEX outbox_by_key ON outbox (topic, dead, ordering, id);
DROP INDEX outbox_by_order;
DROP INDEX outbox_by_id;
