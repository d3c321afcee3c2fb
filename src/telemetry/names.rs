//! The table of all metrics: name, kind, labels, help and buckets.
//!
//! The names are a contract with dashboards and alert rules (`conf/`), which a test compares with this table. Changing the
//! labels of a metric breaks them; add another metric instead. Label values come from the configuration or from a fixed
//! set, never from a caller, so the number of series is known once the configuration is.

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only increases; its name ends in `_total`.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

/// One metric with all its series.
#[derive(Debug)]
pub struct Family {
    /// The name as scraped, without the `_bucket`, `_sum` and `_count` of a histogram.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// Label names, in the order in which handles give their values.
    pub labels: &'static [&'static str],
    /// The text of the `# HELP` line.
    pub help: &'static str,
    /// Upper bounds of the buckets, ascending, in the unit of the name; empty unless it is a histogram.
    pub buckets: &'static [f64],
}

/// Buckets for whole requests: from a refusal (well under a millisecond) to a long stream.
const REQUEST_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0];
/// Buckets for the gateway's own share of a request, where tens of microseconds matter.
const OVERHEAD_SECONDS: &[f64] =
    &[0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];
/// Buckets for one plugin: from a check of a header to a callout that times out.
const PLUGIN_SECONDS: &[f64] =
    &[0.000_001, 0.000_005, 0.000_025, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Buckets for the tokens of one request.
const TOKENS: &[f64] = &[16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 50000.0, 131_072.0, 524_288.0, 1_048_576.0];

macro_rules! families {
    ($($konst:ident = $kind:ident $name:literal [$($label:literal),*] $($buckets:ident)?, $help:literal;)*) => {
        $(#[doc = $help] pub const $konst: &Family = &Family {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help, buckets: families!(@ $($buckets)?),
        };)*
        /// Every metric, in the order of this file.
        pub const ALL: &[&Family] = &[$($konst),*];
    };
    (@) => { &[] };
    (@ $buckets:ident) => { $buckets };
}

families! {
    REQUESTS = Counter "gateway_requests_total" ["route", "status_class", "stream"],
        "Requests answered, by route, class of the status sent and whether the answer was a stream.";
    REQUEST_DURATION = Histogram "gateway_request_duration_seconds" ["route", "stream"] REQUEST_SECONDS,
        "Time from the request head to the last byte of the answer.";
    REQUESTS_IN_FLIGHT = Gauge "gateway_requests_in_flight" [],
        "Requests admitted and not yet finished.";
    OVERHEAD = Histogram "gateway_overhead_seconds" ["route"] OVERHEAD_SECONDS,
        "Time of a request that was the gateway's own: total minus waiting for the caller and the upstream.";
    DENIALS = Counter "gateway_denials_total" ["code"],
        "Requests the gateway refused, by error code; codes that plugins invent are counted as other.";
    PROVIDER_REQUESTS = Counter "gateway_provider_requests_total" ["provider", "status_class"],
        "Attempts sent to a provider, by class of its status; error where no status came.";
    PROVIDER_REQUEST_DURATION = Histogram "gateway_provider_request_duration_seconds" ["provider"] REQUEST_SECONDS,
        "Time of an attempt from connecting to the end of the provider's answer.";
    PROVIDER_ERRORS = Counter "gateway_provider_errors_total" ["provider", "reason"],
        "Attempts that failed, tried again or not: connect, timeout, broken (the answer broke off), throttled (429), status (5xx). A kept-alive connection that was found dead and replaced is none.";
    PLUGIN_EXECUTIONS = Counter "gateway_plugin_executions_total" ["plugin_name", "plugin_stage", "decision"],
        "Plugin executions by instance, gate and decision.";
    PLUGIN_EXECUTION_DURATION = Histogram "gateway_plugin_execution_duration_seconds" ["plugin_name", "plugin_stage"] PLUGIN_SECONDS,
        "Time a plugin took, executions that scope or rollout skipped left out.";
    PLUGIN_ERRORS = Counter "gateway_plugin_errors_total" ["plugin_name", "plugin_stage"],
        "Plugin executions that failed, panicked or ran out of time.";
    SECURITY_DECISIONS = Counter "gateway_security_decisions_total" ["phase", "decision"],
        "Decisions of SafetySec by phase; would_redact and would_block were not carried out, unavailable means a module that must look could not.";
    SECURITY_MODULE_RUNS = Counter "gateway_security_module_runs_total" ["security_module", "phase", "decision"],
        "Readings of a SafetySec module by phase and what came of them.";
    SECURITY_MODULE_DURATION = Histogram "gateway_security_module_duration_seconds" ["security_module", "phase"] PLUGIN_SECONDS,
        "Time a SafetySec module looked, over all texts of a phase.";
    SECURITY_REDACTIONS = Counter "gateway_security_redactions_total" ["security_module", "phase"],
        "Values that a SafetySec module had replaced.";
    SECURITY_BLOCKS = Counter "gateway_security_blocks_total" ["security_module", "phase"],
        "Requests and answers that a SafetySec module had blocked.";
    SECURITY_SESSION_ERRORS = Counter "gateway_security_session_errors_total" [],
        "Calls of the session store that failed; decisions then rest on the request alone, or are refused where so configured.";
    SECURITY_TEXTS = Counter "gateway_security_texts_total" ["phase", "result"],
        "Texts of requests and answers that SafetySec was shown: read, or remembered from an equal one before.";
    RATELIMIT_DECISIONS = Counter "gateway_ratelimit_decisions_total" ["ratelimit_stage", "ratelimit_module", "decision"],
        "What policies decided, by gate, field and decision (allow, reject, shadow).";
    RATELIMIT_REJECTIONS = Counter "gateway_ratelimit_rejections_total" ["ratelimit_stage", "ratelimit_module"],
        "Requests that a policy refused.";
    BUDGET_DECISIONS = Counter "gateway_budget_decisions_total" ["decision"],
        "What became of reservations: reserved, settled, released, budget_exceeded, quota_exceeded, error.";
    BUDGET_THRESHOLDS = Counter "gateway_budget_thresholds_total" [],
        "Thresholds of budgets and quotas that were crossed.";
    STATE_ERRORS = Counter "gateway_state_errors_total" [],
        "Limits, budgets and settlements for which the state store did not answer.";
    USAGE_PUBLISH = Counter "gateway_usage_publish_total" [],
        "Usage records handed to the spool: accepted requests, and with record_denials refused ones whose key is known.";
    USAGE_ENQUEUE_ERRORS = Counter "gateway_usage_enqueue_errors_total" [],
        "Usage records that the spool could not take.";
    USAGE_FLUSH_ERRORS = Counter "gateway_usage_flush_errors_total" [],
        "Batches that the record store did not take, which are offered again, and files or places in them that cannot be read.";
    USAGE_FLUSHED = Counter "gateway_usage_flushed_total" [],
        "Usage records that the record store has.";
    USAGE_RECOVERED = Counter "gateway_usage_recovered_total" [],
        "Usage records of requests whose process was killed, written from what it had reserved.";
    USAGE_QUEUE_DEPTH = Gauge "gateway_usage_queue_depth" [],
        "Usage records that wait in the spool.";
    KEYS_KNOWN = Gauge "gateway_keys" [],
        "Keys made at run time that this process knows.";
    KEY_LOOKUPS = Counter "gateway_key_lookups_total" ["result"],
        "Lookups of keys made at run time: found, unknown, revoked, expired, unavailable.";
    KEY_TABLE_AGE = Gauge "gateway_key_table_age_seconds" [],
        "Time since the record store said last which keys there are.";
    STREAM_SESSIONS = Counter "gateway_stream_sessions_total" ["route", "outcome"],
        "Streamed answers by how they ended.";
    STREAM_DURATION = Histogram "gateway_stream_duration_seconds" ["route"] REQUEST_SECONDS,
        "Time from the head of a streamed answer to its end.";
    TOKENS_TOTAL = Counter "gateway_tokens_total" ["class", "provider", "model"],
        "Tokens by class (input, output, cached, reasoning, embeddings), provider and configured model name.";
    REQUEST_TOKENS = Histogram "gateway_request_tokens" ["provider"] TOKENS,
        "Input and output tokens of one request together.";
    ASYNC_QUEUE_DEPTH = Gauge "gateway_async_queue_depth" ["async_pool_name"],
        "Background jobs accepted and not yet finished.";
    ASYNC_TASKS = Counter "gateway_async_tasks_total" ["async_pool_name"],
        "Background jobs finished.";
    ASYNC_TASK_DURATION = Histogram "gateway_async_task_duration_seconds" ["async_pool_name"] PLUGIN_SECONDS,
        "Time a background job took, waiting in the queue left out.";
    ASYNC_DROPPED = Counter "gateway_async_dropped_total" ["async_pool_name"],
        "Background jobs refused because the queue was full.";
    OUTBOX_DELIVERIES = Counter "gateway_outbox_deliveries_total" ["plugin_name", "outcome"],
        "Deliveries by instance and what came of them: accepted, refused, dropped or would_send when handed over; sent, retry, dead or disabled at an attempt; expired when one was given up `keep_dead` ago.";
    OUTBOX_ATTEMPT_DURATION = Histogram "gateway_outbox_attempt_duration_seconds" ["plugin_name"] REQUEST_SECONDS,
        "Time of an attempt to deliver.";
    OUTBOX_PENDING = Gauge "gateway_outbox_pending" ["plugin_name"],
        "Deliveries in the record store that wait or are under way.";
    OUTBOX_DEAD = Gauge "gateway_outbox_dead" ["plugin_name"],
        "Deliveries in the record store that were given up.";
    OUTBOX_OLDEST = Gauge "gateway_outbox_oldest_seconds" ["plugin_name"],
        "Age of the oldest delivery that waits.";
    OUTBOX_PAUSED = Gauge "gateway_outbox_paused_destinations" ["plugin_name"],
        "Destinations to which this process sends nothing for now.";
    OUTBOX_SPOOLED = Gauge "gateway_outbox_spooled" [],
        "Deliveries that wait in files for the record store.";
    OUTBOX_UNREADABLE = Counter "gateway_outbox_unreadable_total" [],
        "Places at which a file of the outbox could not be read on: what stood behind them in it is lost, if it was more than half a delivery.";
    EVIDENCE_WRITTEN = Counter "gateway_evidence_written_total" [],
        "Evidence records written: one per request, one per later background execution, one per end of a delivery.";
    EVIDENCE_DROPPED = Counter "gateway_evidence_dropped_total" [],
        "Evidence records lost because the queue was full or the disk refused them.";
    EVIDENCE_WRITE_ERRORS = Counter "gateway_evidence_write_errors_total" [],
        "Writes of evidence that the file system refused.";
    EVIDENCE_CHECKPOINTS = Counter "gateway_evidence_checkpoints_total" [],
        "Signed checkpoints written.";
    EVIDENCE_QUEUE_DEPTH = Gauge "gateway_evidence_queue_depth" [],
        "Evidence records accepted and not yet written.";
    CONFIG_RELOADS = Counter "gateway_config_reloads_total" ["result"],
        "Attempts to load the configuration while running, success or failure.";
    CONFIG_RELOAD_SUCCESSFUL = Gauge "gateway_config_last_reload_successful" [],
        "1 when the last attempt to load the configuration worked, otherwise 0.";
    CONFIG_RELOAD_TIME = Gauge "gateway_config_last_reload_success_timestamp_seconds" [],
        "When the running configuration was loaded, in seconds since 1970.";
    BUILD_INFO = Gauge "gateway_build_info" ["version"],
        "Always 1; the label names the build.";
    PROCESS_START = Gauge "process_start_time_seconds" [],
        "When the process started, in seconds since 1970.";
    LOGS_DROPPED = Counter "gateway_logs_dropped_total" [],
        "Log lines that were lost because stderr took nothing.";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" [],
        "Resident memory of the process.";
}

/// Values of `status_class`, indexed by the first digit of the status; index 0 is for anything that is not a status.
pub const STATUS_CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Values of a plugin's `decision`; anything else is counted as the last one.
pub const DECISIONS: [&str; 13] = [
    "allowed",
    "changed",
    "blocked",
    "would_block",
    "would_change",
    "error",
    "timeout",
    "panicked",
    "skipped_scope",
    "skipped_rollout",
    "enqueued",
    "dropped",
    "other",
];

/// Results of a SafetySec module.
pub const READINGS: [&str; 8] = ["allow", "observe", "redact", "block", "would_redact", "would_block", "error", "panicked"];

/// Decisions of SafetySec at a phase.
pub const SECURITY_DECISION_WORDS: [&str; 7] = ["allow", "observe", "redact", "block", "would_redact", "would_block", "unavailable"];

/// How a streamed answer can end, the `End` of an outcome; anything else is counted as the last one.
pub const ENDS: [&str; 6] = ["complete", "client_abort", "upstream_error", "blocked", "timeout", "other"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut seen = std::collections::HashSet::new();
        for family in ALL {
            let name = family.name;
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("gateway_") || name.starts_with("process_"), "{name} has no known prefix");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}: _total is for counters");
            assert_eq!(family.kind == Kind::Histogram, !family.buckets.is_empty(), "{name}: buckets are for histograms");
            assert!(family.buckets.windows(2).all(|pair| pair[0] < pair[1]), "{name}: buckets ascend");
            assert!(!name.ends_with("milliseconds") && !name.contains("_ms"), "{name}: base units");
            assert!(family.help.ends_with('.'), "{name}: the help is a sentence");
        }
    }

    #[test]
    fn labels_hold_nothing_that_a_caller_chooses() {
        const BOUNDED: [&str; 18] = [
            "ratelimit_stage",
            "ratelimit_module",
            "security_module",
            "phase",
            "route",
            "status_class",
            "stream",
            "code",
            "provider",
            "reason",
            "plugin_name",
            "plugin_stage",
            "decision",
            "outcome",
            "class",
            "model",
            "async_pool_name",
            "result",
        ];
        for family in ALL {
            for label in family.labels {
                assert!(BOUNDED.contains(label) || *label == "version", "{}: label {label} is not known to be bounded", family.name);
            }
        }
    }
}
