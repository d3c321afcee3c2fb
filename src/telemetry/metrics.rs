//! The registry of metrics, and the handles that are resolved once, when a configuration is loaded.
//!
//! Counting on the hot path is one or two atomic additions: no map, no lock, no string. A handle stays valid for the life
//! of the process; resolving the same labels again (after a reload) gives the same series, so a reload resets nothing.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Encoder, IntCounter, IntGauge, Registry, TextEncoder};

use super::families::{Counters, Gauges, Histograms};
use super::governance::GovernanceMetrics;
use super::handles::{
    DecisionMetrics, EvidenceMetrics, InFlight, ModelMetrics, ModuleMetrics, PluginMetrics, PoolMetrics, ProviderError, ProviderMetrics,
    RouteMetrics, SessionMetrics, TextMetrics,
};
use super::keys::KeyMetrics;
use super::outbox::OutboxMetrics;
use super::{lines, names};
use crate::error::codes;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The table of metric names is inconsistent.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The registry refused: two metrics of one name, or a malformed name.
    #[error("metric table: {0}")]
    Registry(#[from] prometheus::Error),
    /// The code resolves a metric with another number of labels than the table states.
    #[error("metric table: {0} has another number of labels")]
    Labels(&'static str),
}

/// All metrics of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Counters<3>,
    request_duration: Histograms<2>,
    in_flight: IntGauge,
    overhead: Histograms<1>,
    denials: Vec<(&'static str, IntCounter)>,
    denials_other: IntCounter,
    provider_requests: Counters<2>,
    provider_duration: Histograms<1>,
    provider_errors: Counters<2>,
    plugin_executions: Counters<3>,
    plugin_duration: Histograms<2>,
    plugin_errors: Counters<2>,
    security_decisions: Counters<2>,
    security_runs: Counters<3>,
    security_duration: Histograms<2>,
    security_redactions: Counters<2>,
    security_blocks: Counters<2>,
    security_session_errors: IntCounter,
    security_texts: Counters<2>,
    stream_sessions: Counters<2>,
    stream_duration: Histograms<1>,
    tokens: Counters<3>,
    request_tokens: Histograms<1>,
    pool_depth: Gauges<1>,
    pool_tasks: Counters<1>,
    pool_duration: Histograms<1>,
    pool_dropped: Counters<1>,
    evidence: EvidenceMetrics,
    governance: std::sync::Arc<GovernanceMetrics>,
    keys: KeyMetrics,
    outbox: OutboxMetrics,
    reload_success: IntCounter,
    reload_failure: IntCounter,
    reload_successful: IntGauge,
    reload_time: IntGauge,
    memory: IntGauge,
    logs_dropped: IntCounter,
}

impl Metrics {
    /// A registry with every metric of [`names::ALL`].
    ///
    /// # Errors
    /// Only when the table contradicts itself, which a test rules out.
    pub fn new() -> Result<Arc<Self>, MetricsError> {
        let r = Registry::new();
        let denials = Counters::<1>::new(&r, names::DENIALS)?;
        let reloads = Counters::<1>::new(&r, names::CONFIG_RELOADS)?;
        let counter = |family| Counters::<0>::new(&r, family).map(|c| c.with([]));
        let gauge = |family| Gauges::<0>::new(&r, family).map(|g| g.with([]));
        Gauges::<1>::new(&r, names::BUILD_INFO)?.with([env!("CARGO_PKG_VERSION")]).set(1);
        gauge(names::PROCESS_START)?.set(unix_seconds());
        let metrics = Self {
            requests: Counters::new(&r, names::REQUESTS)?,
            request_duration: Histograms::new(&r, names::REQUEST_DURATION)?,
            in_flight: gauge(names::REQUESTS_IN_FLIGHT)?,
            overhead: Histograms::new(&r, names::OVERHEAD)?,
            denials: codes::ALL.iter().map(|code| (code.code, denials.with([code.code]))).collect(),
            denials_other: denials.with(["other"]),
            provider_requests: Counters::new(&r, names::PROVIDER_REQUESTS)?,
            provider_duration: Histograms::new(&r, names::PROVIDER_REQUEST_DURATION)?,
            provider_errors: Counters::new(&r, names::PROVIDER_ERRORS)?,
            plugin_executions: Counters::new(&r, names::PLUGIN_EXECUTIONS)?,
            plugin_duration: Histograms::new(&r, names::PLUGIN_EXECUTION_DURATION)?,
            plugin_errors: Counters::new(&r, names::PLUGIN_ERRORS)?,
            security_decisions: Counters::new(&r, names::SECURITY_DECISIONS)?,
            security_runs: Counters::new(&r, names::SECURITY_MODULE_RUNS)?,
            security_duration: Histograms::new(&r, names::SECURITY_MODULE_DURATION)?,
            security_redactions: Counters::new(&r, names::SECURITY_REDACTIONS)?,
            security_blocks: Counters::new(&r, names::SECURITY_BLOCKS)?,
            security_session_errors: counter(names::SECURITY_SESSION_ERRORS)?,
            security_texts: Counters::new(&r, names::SECURITY_TEXTS)?,
            stream_sessions: Counters::new(&r, names::STREAM_SESSIONS)?,
            stream_duration: Histograms::new(&r, names::STREAM_DURATION)?,
            tokens: Counters::new(&r, names::TOKENS_TOTAL)?,
            request_tokens: Histograms::new(&r, names::REQUEST_TOKENS)?,
            pool_depth: Gauges::new(&r, names::ASYNC_QUEUE_DEPTH)?,
            pool_tasks: Counters::new(&r, names::ASYNC_TASKS)?,
            pool_duration: Histograms::new(&r, names::ASYNC_TASK_DURATION)?,
            pool_dropped: Counters::new(&r, names::ASYNC_DROPPED)?,
            evidence: EvidenceMetrics {
                written: counter(names::EVIDENCE_WRITTEN)?,
                dropped: counter(names::EVIDENCE_DROPPED)?,
                write_errors: counter(names::EVIDENCE_WRITE_ERRORS)?,
                checkpoints: counter(names::EVIDENCE_CHECKPOINTS)?,
                queue_depth: gauge(names::EVIDENCE_QUEUE_DEPTH)?,
            },
            governance: std::sync::Arc::new(GovernanceMetrics::new(&r)?),
            keys: KeyMetrics::new(&r)?,
            outbox: OutboxMetrics::new(&r)?,
            reload_success: reloads.with(["success"]),
            reload_failure: reloads.with(["failure"]),
            reload_successful: gauge(names::CONFIG_RELOAD_SUCCESSFUL)?,
            reload_time: gauge(names::CONFIG_RELOAD_TIME)?,
            memory: gauge(names::PROCESS_MEMORY)?,
            logs_dropped: counter(names::LOGS_DROPPED)?,
            registry: r,
        };
        metrics.reload_successful.set(1);
        metrics.reload_time.set(unix_seconds());
        Ok(Arc::new(metrics))
    }

    /// The handles of a route; resolve them when the configuration is loaded.
    pub fn route(&self, route: &str) -> RouteMetrics {
        let class = |class| ["false", "true"].map(|stream| self.requests.with([route, class, stream]));
        RouteMetrics {
            requests: names::STATUS_CLASSES.map(class),
            duration: ["false", "true"].map(|stream| self.request_duration.with([route, stream])),
            overhead: self.overhead.with([route]),
            streams: names::ENDS.map(|end| self.stream_sessions.with([route, end])),
            stream_duration: self.stream_duration.with([route]),
        }
    }

    /// The handles of a plugin instance at a gate (`pre_route`, …).
    pub fn plugin(&self, instance: &str, gate: &str) -> PluginMetrics {
        PluginMetrics {
            executions: names::DECISIONS.map(|decision| self.plugin_executions.with([instance, gate, decision])),
            duration: self.plugin_duration.with([instance, gate]),
            errors: self.plugin_errors.with([instance, gate]),
        }
    }

    /// The handles of a SafetySec module at a phase (`pre_upstream`, …).
    pub fn safety_module(&self, module: &str, phase: &str) -> ModuleMetrics {
        ModuleMetrics {
            runs: names::READINGS.map(|outcome| self.security_runs.with([module, phase, outcome])),
            duration: self.security_duration.with([module, phase]),
            redactions: self.security_redactions.with([module, phase]),
            blocks: self.security_blocks.with([module, phase]),
        }
    }

    /// The handles of SafetySec's decisions at a phase.
    pub fn safety_decisions(&self, phase: &str) -> DecisionMetrics {
        DecisionMetrics(names::SECURITY_DECISION_WORDS.map(|decision| self.security_decisions.with([phase, decision])))
    }

    /// The handles of the texts that SafetySec is given at a phase.
    pub fn safety_texts(&self, phase: &str) -> TextMetrics {
        TextMetrics { read: self.security_texts.with([phase, "read"]), remembered: self.security_texts.with([phase, "remembered"]) }
    }

    /// The handle of SafetySec's sessions.
    pub fn safety_sessions(&self) -> SessionMetrics {
        SessionMetrics(self.security_session_errors.clone())
    }

    /// The handles of a provider, or of a route's plain HTTP upstream.
    pub fn provider(&self, provider: &str) -> ProviderMetrics {
        ProviderMetrics {
            requests: names::STATUS_CLASSES
                .map(|class| self.provider_requests.with([provider, if class == "other" { "error" } else { class }])),
            duration: self.provider_duration.with([provider]),
            errors: ProviderError::ALL.map(|error| self.provider_errors.with([provider, error.as_str()])),
        }
    }

    /// The token counters of a configured model.
    pub fn model(&self, provider: &str, model: &str) -> ModelMetrics {
        let class = |class| self.tokens.with([class, provider, model]);
        ModelMetrics {
            input: class("input"),
            output: class("output"),
            cached: class("cached"),
            reasoning: class("reasoning"),
            embeddings: class("embeddings"),
            per_request: self.request_tokens.with([provider]),
        }
    }

    /// The handles of a background queue.
    pub fn pool(&self, name: &str) -> PoolMetrics {
        PoolMetrics {
            depth: self.pool_depth.with([name]),
            tasks: self.pool_tasks.with([name]),
            duration: self.pool_duration.with([name]),
            dropped: self.pool_dropped.with([name]),
        }
    }

    /// The metrics of the outbox.
    pub fn outbox(&self) -> OutboxMetrics {
        self.outbox.clone()
    }

    /// The metrics of the evidence writer.
    pub fn evidence(&self) -> EvidenceMetrics {
        self.evidence.clone()
    }

    /// The metrics of the table of keys made at run time.
    pub fn keys(&self) -> KeyMetrics {
        self.keys.clone()
    }

    /// The metrics of limits, budgets and usage.
    pub fn governance(&self) -> std::sync::Arc<GovernanceMetrics> {
        self.governance.clone()
    }

    /// Counts a request as in flight until the returned guard is dropped.
    pub fn enter(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts a refusal by its code; a code that is not the gateway's own counts as `other`.
    pub fn denied(&self, code: &str) {
        let known = self.denials.iter().find(|(known, _)| *known == code);
        known.map_or(&self.denials_other, |(_, counter)| counter).inc();
    }

    /// Counts an attempt to replace the running configuration.
    pub fn reloaded(&self, success: bool) {
        self.reload_successful.set(i64::from(success));
        if success {
            self.reload_success.inc();
            self.reload_time.set(unix_seconds());
        } else {
            self.reload_failure.inc();
        }
    }

    /// All metrics in Prometheus' text format, see [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        if let Some(bytes) = resident_memory() {
            self.memory.set(bytes);
        }
        self.logs_dropped.inc_by(lines::lost().saturating_sub(self.logs_dropped.get()));
        let mut text = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!(target: "telemetry", "metrics could not be encoded: {error}");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Resident memory in bytes; `None` where `/proc` does not tell.
fn resident_memory() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn everything_in_the_table_is_exposed_and_nothing_else() {
        let metrics = Metrics::new().unwrap();
        let (_route, _plugin, _provider) = (metrics.route("openai"), metrics.plugin("audit_log", "pre_route"), metrics.provider("openai"));
        let _safety =
            (metrics.safety_module("jailbreak", "pre_upstream"), metrics.safety_decisions("pre_upstream"), metrics.safety_sessions());
        let _texts = metrics.safety_texts("pre_upstream");
        let (_model, _pool) = (metrics.model("openai", "gpt"), metrics.pool("background"));
        let outbox = metrics.outbox();
        outbox.outcome("hook", "sent");
        outbox.took("hook", Duration::ZERO);
        outbox.depth("hook", 0, 0, 0);
        outbox.paused("hook", 0);
        let text = metrics.render();
        let mut exposed: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next()).collect();
        let mut named: Vec<&str> = names::ALL.iter().map(|family| family.name).collect();
        exposed.sort_unstable();
        named.sort_unstable();
        assert_eq!(exposed, named);
    }

    #[test]
    fn handles_count_what_they_say() {
        let metrics = Metrics::new().unwrap();
        let route = metrics.route("openai");
        route.finished(200, true, Duration::from_millis(30), Duration::from_micros(40));
        route.finished(403, false, Duration::from_millis(1), Duration::from_micros(7));
        route.stream_finished("client_abort", Duration::from_secs(1));
        let plugin = metrics.plugin("pii_mask", "pre_upstream");
        plugin.observe("changed", Duration::from_micros(3));
        plugin.observe("timeout", Duration::from_millis(200));
        plugin.observe("skipped_rollout", Duration::ZERO);
        plugin.observe("invented", Duration::ZERO);
        let provider = metrics.provider("openai");
        provider.answered(503, Duration::from_millis(10));
        provider.failed(ProviderError::Connect, Duration::from_millis(10));
        metrics.model("openai", "gpt").add(10, 5, 2, 1, false);
        metrics.denied("overloaded");
        metrics.denied("made_by_a_plugin");
        metrics.reloaded(false);
        let guard = metrics.enter();
        let text = metrics.render();
        drop(guard);
        for line in [
            r#"gateway_requests_total{route="openai",status_class="2xx",stream="true"} 1"#,
            r#"gateway_requests_total{route="openai",status_class="4xx",stream="false"} 1"#,
            r#"gateway_overhead_seconds_bucket{route="openai",le="0.00001"} 1"#,
            r#"gateway_stream_sessions_total{outcome="client_abort",route="openai"} 1"#,
            r#"gateway_plugin_executions_total{decision="changed",plugin_name="pii_mask",plugin_stage="pre_upstream"} 1"#,
            r#"gateway_plugin_executions_total{decision="other",plugin_name="pii_mask",plugin_stage="pre_upstream"} 1"#,
            r#"gateway_plugin_errors_total{plugin_name="pii_mask",plugin_stage="pre_upstream"} 1"#,
            r#"gateway_plugin_execution_duration_seconds_count{plugin_name="pii_mask",plugin_stage="pre_upstream"} 3"#,
            r#"gateway_provider_requests_total{provider="openai",status_class="5xx"} 1"#,
            r#"gateway_provider_requests_total{provider="openai",status_class="error"} 1"#,
            r#"gateway_provider_errors_total{provider="openai",reason="connect"} 1"#,
            r#"gateway_tokens_total{class="cached",model="gpt",provider="openai"} 2"#,
            r#"gateway_denials_total{code="overloaded"} 1"#,
            r#"gateway_denials_total{code="other"} 1"#,
            "gateway_config_last_reload_successful 0",
            "gateway_requests_in_flight 1",
        ] {
            assert!(text.contains(line), "missing {line} in\n{text}");
        }
        assert!(metrics.render().contains("gateway_requests_in_flight 0"));
    }

    #[test]
    fn a_reload_keeps_the_counts() {
        let metrics = Metrics::new().unwrap();
        metrics.route("openai").finished(200, false, Duration::ZERO, Duration::ZERO);
        metrics.route("openai").finished(200, false, Duration::ZERO, Duration::ZERO);
        let text = metrics.render();
        assert!(text.contains(r#"gateway_requests_total{route="openai",status_class="2xx",stream="false"} 2"#));
    }
}
