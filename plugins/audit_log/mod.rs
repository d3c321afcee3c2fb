//! Leaves one structured event a gate: who called what, and how it ended. Never what was said.

use crate::plugin::prelude::*;

mod field;

use field::Field;

/// What `plugins show audit_log` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "audit_log",
    version: "1.0.0",
    author: "Odock",
    category: "audit",
    kind: "audit",
    summary: "Writes structured events about requests to the log and the evidence record, never their content.",
    gates: &[Gate::PreRoute, Gate::PostResponse],
    styles: &[Style::Parallel, Style::Sequential, Style::Background],
    needs: &[Need::Background],
    streams: false,
    evidence: field::EVIDENCE,
    config_schema: schema_of::<Config>,
    build: |cx| {
        let config: Config = cx.parse()?;
        for (place, field) in config.fields.iter().enumerate() {
            if config.fields.iter().take(place).any(|other| other == field) {
                return Err(BuildError::at(format!("fields.{place}"), format!("`{}` is listed twice", field.as_str())));
            }
        }
        Ok(Arc::new(AuditLog { level: config.level.of_log(), fields: config.fields, notes: config.notes }))
    },
};

/// Configuration of `audit_log`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Level of the log lines, which have the target `audit`.
    level: LogLevel,
    /// What an event says. A field without a value is left out.
    fields: Vec<Field>,
    /// Whether the event goes to the evidence record as well.
    notes: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: LogLevel::Info, fields: Field::USUAL.to_vec(), notes: true }
    }
}

/// A level of the log.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum LogLevel {
    /// Nothing goes to the log.
    Off,
    /// As an error.
    Error,
    /// As a warning.
    Warn,
    /// As information.
    Info,
    /// For debugging.
    Debug,
    /// For tracing.
    Trace,
}

impl LogLevel {
    fn of_log(self) -> Option<log::Level> {
        match self {
            Self::Off => None,
            Self::Error => Some(log::Level::Error),
            Self::Warn => Some(log::Level::Warn),
            Self::Info => Some(log::Level::Info),
            Self::Debug => Some(log::Level::Debug),
            Self::Trace => Some(log::Level::Trace),
        }
    }
}

/// The target of the log lines.
const TARGET: &str = "audit";

struct AuditLog {
    level: Option<log::Level>,
    fields: Vec<Field>,
    notes: bool,
}

impl AuditLog {
    /// Whether anybody would see an event.
    fn wanted(&self) -> bool {
        self.notes || self.level.is_some_and(|level| log::log_enabled!(target: TARGET, level))
    }

    fn tell(&self, event: &'static str, pairs: &[(&'static str, String)]) {
        let Some(level) = self.level.filter(|level| log::log_enabled!(target: TARGET, *level)) else { return };
        log::logger().log(&log::Record::builder().level(level).target(TARGET).key_values(&pairs).args(format_args!("{event}")).build());
    }
}

#[async_trait]
impl Plugin for AuditLog {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        if self.wanted() {
            let pairs: Vec<_> = self.fields.iter().filter_map(|f| f.of_request(cx).map(|value| (f.as_str(), value))).collect();
            self.tell("request", &pairs);
            if self.notes {
                cx.note("event", "request");
                for (key, value) in pairs {
                    cx.note(key, value);
                }
            }
        }
        Ok(Verdict::Next)
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        if self.wanted() {
            let pairs: Vec<_> = self.fields.iter().filter_map(|f| f.of_outcome(cx).map(|value| (f.as_str(), value))).collect();
            self.tell("response", &pairs);
            if self.notes {
                cx.note("event", "response");
                for (key, value) in pairs {
                    cx.note(key, value);
                }
            }
        }
        Ok(())
    }
}
