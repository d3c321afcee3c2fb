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
CREATE TABLE key_version (n BIGINT NOT NULL);
INSERT INTO key_version (n) VALUES (0);

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    organisation TEXT NOT NULL,
    name TEXT NOT NULL,
    team TEXT,
    user_id TEXT,
    fingerprint BYTEA NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    expires BIGINT,
    timezone TEXT,
    revoked BOOLEAN NOT NULL,
    policies TEXT NOT NULL,
    rotations BIGINT NOT NULL,
    created BIGINT NOT NULL,
    version BIGINT NOT NULL UNIQUE,
    UNIQUE (organisation, name),
    CHECK (team IS NULL OR user_id IS NULL)
);

CREATE TABLE key_grants (
    key_id TEXT NOT NULL,
    resource BIGINT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (key_id, resource, name)
);
CREATE INDEX key_grants_by_name ON key_grants (resource, name, key_id);

CREATE TABLE key_rotations (
    key_id TEXT NOT NULL,
    n BIGINT NOT NULL,
    at BIGINT NOT NULL,
    previous_hint TEXT NOT NULL,
    previous_expires BIGINT,
    expires BIGINT,
    actor TEXT NOT NULL,
    PRIMARY KEY (key_id, n)
);

CREATE TABLE usage_records (
    request_id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    organisation TEXT NOT NULL,
    key_id TEXT NOT NULL,
    team TEXT,
    user_id TEXT,
    provider TEXT,
    model TEXT,
    endpoint TEXT NOT NULL,
    stream BOOLEAN NOT NULL,
    status BIGINT NOT NULL,
    ended TEXT NOT NULL,
    code TEXT,
    usage_source TEXT NOT NULL,
    latency_ms BIGINT NOT NULL,
    overhead_us BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    total_tokens BIGINT NOT NULL,
    units BIGINT NOT NULL,
    cost_nanos BIGINT,
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
    at BIGINT NOT NULL,
    request_id TEXT NOT NULL,
    PRIMARY KEY (plugin, at, request_id)
);
CREATE INDEX usage_plugins_by_time ON usage_plugins (at, request_id);

CREATE TABLE journal (
    lease TEXT NOT NULL PRIMARY KEY,
    replica TEXT NOT NULL,
    opened BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX journal_by_expiry ON journal (expires);

CREATE TABLE outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic TEXT NOT NULL,
    dedup TEXT NOT NULL,
    body BYTEA NOT NULL,
    due BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    sender TEXT,
    leased_until BIGINT NOT NULL DEFAULT 0,
    dead BOOLEAN NOT NULL DEFAULT FALSE,
    why TEXT NOT NULL DEFAULT '',
    UNIQUE (topic, dedup)
);
CREATE INDEX outbox_by_due ON outbox (topic, dead, due);
