//! The form of log lines: one JSON object a line, or text for people, on stderr.
//!
//! Key-value pairs of the `log` macros become fields. Access lines have the target [`ACCESS`]. Nothing that a caller or a
//! provider sent belongs into a line; what Pingora logs of its own accord goes through [`without_query`], because a
//! query may hold a key.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::time::SystemTime;

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

use super::lines::Lines;
use super::time::Rfc3339;
use crate::config::LogFormat;

/// The target of the one line that every request leaves.
pub const ACCESS: &str = "access";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Logging was set up before.
    #[error("logging is set up already")]
    Already,
    /// The thread that writes could not be started.
    #[error("no thread for the log: {0}")]
    Thread(io::Error),
}

/// Sends log lines to stderr and replaces the panic hook by one that never prints the payload, which may quote traffic.
///
/// `level` is an `env_logger` filter such as `info,pingora=warn`; parts that do not parse are ignored.
///
/// # Errors
/// When the process has a logger already, or no thread can be started.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    let mut builder = env_logger::Builder::new();
    let lines = Lines::start().map_err(LogError::Thread)?;
    builder.parse_filters(level).target(env_logger::Target::Pipe(Box::new(lines.clone()))).write_style(env_logger::WriteStyle::Never);
    match format {
        LogFormat::Json => builder.format(|out, record| write_json(out, record, SystemTime::now())),
        LogFormat::Text => builder.format(|out, record| write_text(out, record, SystemTime::now())),
    };
    let logger = builder.build();
    let most = logger.filter();
    log::set_boxed_logger(Box::new(Reserved { logger, lines })).map_err(|_| LogError::Already)?;
    log::set_max_level(most);
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// [`init`] for commands without a configuration: text at `info`, if nothing was set up before.
pub fn init_default() {
    let _ = init(LogFormat::Text, "info");
}

/// Keeps the libraries' own lines to `info` whatever was asked for: below that Pingora quotes whole heads and bodies.
struct Reserved {
    logger: env_logger::Logger,
    lines: Lines,
}

impl log::Log for Reserved {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let ours = record.module_path().is_none_or(|module| module.starts_with("odock_edge"));
        if ours || record.level() <= Level::Info {
            self.logger.log(record);
            if record.level() <= Level::Warn {
                self.lines.hurry();
            }
        }
    }

    fn flush(&self) {
        self.lines.flush();
    }
}

fn panicked(info: &PanicHookInfo<'_>) {
    match info.location() {
        Some(place) => log::error!(target: "panic", file = place.file(), line = place.line(); "a task panicked"),
        None => log::error!(target: "panic", "a task panicked"),
    }
    log::logger().flush();
}

/// One JSON object and a line feed. Fields of the record come after ours and cannot replace them.
fn write_json(out: &mut dyn Write, record: &Record<'_>, now: SystemTime) -> io::Result<()> {
    let mut line = String::with_capacity(256);
    let _ = write!(line, "{{\"ts\":\"{}\",\"level\":\"{}\",\"target\":", Rfc3339(now), severity(record.level()));
    push_string(&mut line, record.target());
    line.push_str(",\"msg\":");
    push_string(&mut line, &message(record));
    let mut fields = JsonFields(&mut line);
    let _ = record.key_values().visit(&mut fields);
    line.push_str("}\n");
    out.write_all(line.as_bytes())
}

fn write_text(out: &mut dyn Write, record: &Record<'_>, now: SystemTime) -> io::Result<()> {
    let mut line = String::with_capacity(192);
    let _ = write!(line, "{} {:5} {}: ", Rfc3339(now), record.level(), record.target());
    push_visible(&mut line, &message(record));
    let mut fields = TextFields(&mut line);
    let _ = record.key_values().visit(&mut fields);
    line.push('\n');
    out.write_all(line.as_bytes())
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn message<'a>(record: &Record<'a>) -> Cow<'a, str> {
    let text = match record.args().as_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(record.args().to_string()),
    };
    let foreign = !record.module_path().is_some_and(|module| module.starts_with("odock_edge"));
    if foreign && text.contains('?') { Cow::Owned(without_query(&text)) } else { text }
}

/// The text with everything between a `?` and the next blank, comma, quote or bracket replaced by `?…`.
pub fn without_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('?') {
        let (before, query) = rest.split_at(at + 1);
        let end = query.find(|c: char| c.is_whitespace() || ",\"'<>)]}".contains(c)).unwrap_or(query.len());
        out.push_str(before);
        if end > 0 {
            out.push('…');
        }
        rest = query.get(end..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn push_string(line: &mut String, text: &str) {
    // Nearly every value is plain; only the others pay for an escaped copy.
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        line.push('"');
        line.push_str(text);
        line.push('"');
    } else {
        line.push_str(&serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned()));
    }
}

/// Control characters escaped, so that no value can begin a line of its own.
fn push_visible(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
}

struct JsonFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for JsonFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if matches!(key.as_str(), "ts" | "level" | "target" | "msg") {
            return Ok(());
        }
        self.0.push(',');
        push_string(self.0, key.as_str());
        self.0.push(':');
        value.visit(JsonValue(self.0))
    }
}

struct JsonValue<'a>(&'a mut String);

impl JsonValue<'_> {
    fn plain(self, value: impl fmt::Display) -> Result<(), Error> {
        write!(self.0, "{value}").map_err(Error::from)
    }
}

impl<'v> VisitValue<'v> for JsonValue<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        push_string(self.0, &value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        JsonValue(self.0).plain("null")
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        JsonValue(self.0).plain(value)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        JsonValue(self.0).plain(value)
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), Error> {
        JsonValue(self.0).plain(value)
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), Error> {
        JsonValue(self.0).plain(value)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        if value.is_finite() { JsonValue(self.0).plain(value) } else { JsonValue(self.0).plain("null") }
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        JsonValue(self.0).plain(value)
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        push_string(self.0, value);
        Ok(())
    }
}

struct TextFields<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for TextFields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push(' ');
        push_visible(self.0, key.as_str());
        self.0.push('=');
        let text = value.to_string();
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '"') {
            push_visible(self.0, &format!("{text:?}"));
        } else {
            push_visible(self.0, &text);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn line(
        write: fn(&mut dyn Write, &Record<'_>, SystemTime) -> io::Result<()>,
        module: &'static str,
        text: &str,
        fields: &[(&str, Value<'_>)],
    ) -> String {
        let mut out = Vec::new();
        let args = format_args!("{text}");
        let record =
            Record::builder().args(args).level(Level::Warn).target(ACCESS).module_path_static(Some(module)).key_values(&fields).build();
        write(&mut out, &record, UNIX_EPOCH).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_lines_carry_fields_in_their_own_types() {
        let fields = [
            ("request_id", Value::from("ab\n\"")),
            ("status", Value::from(200u16)),
            ("stream", Value::from(true)),
            ("share", Value::from(0.5f64)),
            ("odd", Value::from(f64::NAN)),
            ("level", Value::from("forged")),
        ];
        let text = line(write_json, "odock_edge::proxy", "request\ncomplete", &fields);
        assert_eq!(
            text,
            concat!(
                r#"{"ts":"1970-01-01T00:00:00.000000Z","level":"warn","target":"access","msg":"request\ncomplete","#,
                r#""request_id":"ab\n\"","status":200,"stream":true,"share":0.5,"odd":null}"#,
                "\n"
            )
        );
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn text_lines_are_one_line() {
        let text = line(write_text, "odock_edge::proxy", "a\nb", &[("plugin", Value::from("x y\nz")), ("n", Value::from(3))]);
        assert_eq!(text, "1970-01-01T00:00:00.000000Z WARN  access: a\\nb plugin=\"x y\\nz\" n=3\n");
    }

    #[test]
    fn a_query_of_a_foreign_line_is_not_logged() {
        let text = line(write_json, "pingora_proxy::proxy_common", "Fail to proxy: GET /v1?key=sk-1&a=b, Host: x", &[]);
        assert!(text.contains("GET /v1?…, Host: x") && !text.contains("sk-1"), "{text}");
        assert_eq!(without_query("what? \"/a?b=c\" end?"), "what? \"/a?…\" end?");
    }
}
