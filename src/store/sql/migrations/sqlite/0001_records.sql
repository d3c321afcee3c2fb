CREATE TABLE organisations (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    metadata TEXT NOT NULL
);

CREATE TABLE teams (
    organisation TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (organisation, id),
    UNIQUE (organisation, name)
);

CREATE TABLE users (
    organisation TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    PRIMARY KEY (organisation, id),
    UNIQUE (organisation, name)
);

CREATE TABLE models (
    organisation TEXT NOT NULL,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    provider TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (organisation, name)
);

-- One row: the version of the last change of any key. It is counted up by the transaction that changes a key and stays
-- locked to its end, so versions become visible in their order.
CREATE TABLE key_version (n INTEGER NOT NULL);
INSERT INTO key_version (n) VALUES (0);

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    organisation TEXT NOT NULL,
    name TEXT NOT NULL,
    team TEXT,
    user_id TEXT,
    fingerprint BLOB NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    expires INTEGER,
    timezone TEXT,
    revoked BOOLEAN NOT NULL,
    policies TEXT NOT NULL,
    rotations INTEGER NOT NULL,
    created INTEGER NOT NULL,
    version INTEGER NOT NULL UNIQUE,
    UNIQUE (organisation, name),
    CHECK (team IS NULL OR user_id IS NULL)
);

CREATE TABLE key_grants (
    key_id TEXT NOT NULL,
    resource INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (key_id, resource, name)
) WITHOUT ROWID;
CREATE INDEX key_grants_by_name ON key_grants (resource, name, key_id);

CREATE TABLE key_rotations (
    key_id TEXT NOT NULL,
    n INTEGER NOT NULL,
    at INTEGER NOT NULL,
    previous_hint TEXT NOT NULL,
    previous_expires INTEGER,
    expires INTEGER,
    actor TEXT NOT NULL,
    PRIMARY KEY (key_id, n)
);

CREATE TABLE usage_records (
    request_id TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    organisation TEXT NOT NULL,
    key_id TEXT NOT NULL,
    team TEXT,
    user_id TEXT,
    provider TEXT,
    model TEXT,
    endpoint TEXT NOT NULL,
    stream BOOLEAN NOT NULL,
    status INTEGER NOT NULL,
    ended TEXT NOT NULL,
    code TEXT,
    usage_source TEXT NOT NULL,
    latency_ms INTEGER NOT NULL,
    overhead_us INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    units INTEGER NOT NULL,
    cost_nanos INTEGER,
    provider_request_id TEXT,
    trace_id TEXT,
    details TEXT NOT NULL,
    plugins TEXT NOT NULL
);
CREATE INDEX usage_by_time ON usage_records (at, request_id);
CREATE INDEX usage_by_key ON usage_records (key_id, at);
CREATE INDEX usage_by_organisation ON usage_records (organisation, at);

CREATE TABLE usage_plugins (
    plugin TEXT NOT NULL,
    at INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    PRIMARY KEY (plugin, at, request_id)
) WITHOUT ROWID;
CREATE INDEX usage_plugins_by_time ON usage_plugins (at, request_id);

CREATE TABLE journal (
    lease TEXT NOT NULL PRIMARY KEY,
    replica TEXT NOT NULL,
    opened INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX journal_by_expiry ON journal (expires);

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    dedup TEXT NOT NULL,
    body BLOB NOT NULL,
    due INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    sender TEXT,
    leased_until INTEGER NOT NULL DEFAULT 0,
    dead BOOLEAN NOT NULL DEFAULT FALSE,
    why TEXT NOT NULL DEFAULT '',
    UNIQUE (topic, dedup)
);
CREATE INDEX outbox_by_due ON outbox (topic, dead, due);
