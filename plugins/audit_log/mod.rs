//! Writes one structured event per gate: who called what, and how it ended; never any content.

use crate::plugin::prelude::*;

mod field;

use field::{Field, Said};

/// The manifest, as printed by `plugins show audit_log`.
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
    evidence: &[
        ("event", "`request` or `response`"),
        ("organisation", "Name of the caller's organisation."),
        ("team", "Name of the caller's team."),
        ("user", "Name of the caller's user."),
        ("api_key", "Name of the virtual key, never its secret."),
        ("client_ip", "The caller's address."),
    ],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| {
        let config: Config = cx.parse()?;
        for (place, field) in config.fields.iter().enumerate() {
            if config.fields.iter().take(place).any(|other| other == field) {
                return Err(BuildError::at(format!("fields.{place}"), format!("`{}` is listed twice", field.as_str())));
            }
        }
        let noted = config.notes.then(|| config.fields.iter().copied().filter(|field| !field.is_on_record()).collect());
        Ok(Arc::new(AuditLog { level: config.level.of_log(), fields: config.fields, noted }))
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
    /// Whether the event is noted in the evidence record, with those fields that the record does not hold by itself.
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
    /// The fields to be noted in evidence; `None` if not even the event is noted.
    noted: Option<Vec<Field>>,
}

impl AuditLog {
    /// Writes an event: a line of the log, and notes of fields that the evidence record does not contain.
    fn tell<'v>(&self, event: &'static str, value: impl Fn(Field) -> Option<Said<'v>>, note: impl Fn(&'static str, String)) {
        if let Some(level) = self.level {
            log_line(TARGET, level, event, |line| {
                for field in &self.fields {
                    if let Some(said) = value(*field) {
                        said.tell(field.as_str(), line);
                    }
                }
            });
        }
        if let Some(noted) = &self.noted {
            note("event", event.to_owned());
            for field in noted {
                if let Some(said) = value(*field) {
                    note(field.as_str(), said.into_text());
                }
            }
        }
    }
}

#[async_trait]
impl Plugin for AuditLog {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        let cx = &*cx;
        self.tell("request", |field| field.of_request(cx), |key, value| cx.note(key, value));
        Ok(Verdict::Next)
    }

    fn is_prompt(&self) -> bool {
        true
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        self.tell("response", |field| field.of_outcome(cx), |key, value| cx.note(key, value));
        Ok(())
    }
}
