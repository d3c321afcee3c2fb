//! The format of log lines on stderr: one JSON object per line, or text for people.
//!
//! Key-value pairs of the `log` macros become fields. Access lines have the target [`ACCESS`]. A line must not contain
//! anything that a caller or a provider sent; messages that Pingora itself logs pass [`without_query`], because a query may
//! contain a key.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{Level, Record};

use super::lines::Lines;
use super::time::Rfc3339;
use crate::config::LogFormat;
use crate::wire::object::{Object, Page};

/// The target of access lines, one per request.
pub const ACCESS: &str = "access";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Logging is set up already.
    #[error("logging is set up already")]
    Already,
    /// The writer thread could not be started.
    #[error("no thread for the log: {0}")]
    Thread(io::Error),
}

/// Sends log lines to stderr, and installs a panic hook that never prints the payload, which may quote traffic.
///
/// `level` is an `env_logger` filter such as `info,pingora=warn`; parts that do not parse are ignored.
///
/// # Errors
/// When the process has a logger already, or no thread can be started.
pub fn init(format: LogFormat, level: &str) -> Result<(), LogError> {
    if SINK.get().is_some() {
        return Err(LogError::Already);
    }
    let filter = env_logger::Builder::new().parse_filters(level).build();
    let most = filter.filter();
    let sink = Sink { filter, format, lines: Lines::start(move |lost| loss(format, SystemTime::now(), lost)).map_err(LogError::Thread)? };
    SINK.set(sink).map_err(|_| LogError::Already)?;
    log::set_logger(&Global).map_err(|_| LogError::Already)?;
    log::set_max_level(most);
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// Whether lines of this target and level are written.
pub fn enabled(target: &str, level: Level) -> bool {
    level <= log::max_level() && SINK.get().is_some_and(|sink| sink.wants(target, level))
}

/// Writes a line whose fields are added one by one, for lines that every request writes: the `log` macros would first
/// collect the fields in a list of dynamic values. The format and the filter are the same. A line must not contain anything
/// that a caller or a provider sent.
pub fn line(target: &str, level: Level, message: &str, fields: impl FnOnce(&mut Fields<'_, '_>)) {
    if level > log::max_level() {
        return;
    }
    if let Some(sink) = SINK.get().filter(|sink| sink.wants(target, level)) {
        sink.write(level, |out| sink.form(out, SystemTime::now(), level, target, message, fields));
    }
}

/// Set once by [`init`].
static SINK: OnceLock<Sink> = OnceLock::new();

/// The process's logger: the filter, the format and the destination of lines.
struct Sink {
    /// Only its filter is used; lines are formatted here.
    filter: env_logger::Logger,
    format: LogFormat,
    lines: Lines,
}

/// Forwards the `log` macros to [`SINK`].
struct Global;

impl log::Log for Global {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        SINK.get().is_some_and(|sink| sink.wants(metadata.target(), metadata.level()))
    }

    /// Limits the lines of libraries to `info`, whatever level was asked for: below it Pingora quotes whole heads and
    /// bodies.
    fn log(&self, record: &Record<'_>) {
        let ours = record.module_path().is_none_or(|module| module.starts_with("odock_edge"));
        if let Some(sink) = SINK.get()
            && (ours || record.level() <= Level::Info)
            && sink.filter.matches(record)
        {
            sink.write(record.level(), |out| sink.record(out, SystemTime::now(), record));
        }
    }

    fn flush(&self) {
        if let Some(sink) = SINK.get() {
            sink.lines.flush();
        }
    }
}

thread_local! {
    /// The buffer in which a line is formatted; reused, so that formatting allocates nothing.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Sink {
    fn wants(&self, target: &str, level: Level) -> bool {
        log::Log::enabled(&self.filter, &log::Metadata::builder().target(target).level(level).build())
    }

    fn write(&self, level: Level, form: impl FnOnce(&mut Vec<u8>)) {
        let mut form = Some(form);
        let mut put = |line: &mut Vec<u8>| {
            line.clear();
            if let Some(form) = form.take() {
                form(line);
            }
            self.lines.append(line);
        };
        // A new buffer for a value that logs while it is formatted, and for a thread that is ending.
        let done = LINE.try_with(|line| line.try_borrow_mut().map(|mut line| put(&mut line)));
        if !matches!(done, Ok(Ok(()))) {
            put(&mut Vec::new());
        }
        if level <= Level::Warn {
            self.lines.hurry();
        }
    }

    fn record(&self, out: &mut Vec<u8>, now: SystemTime, record: &Record<'_>) {
        self.form(out, now, record.level(), record.target(), &message(record), |fields| {
            let _ = record.key_values().visit(fields);
        });
    }

    fn form(
        &self,
        out: &mut Vec<u8>,
        now: SystemTime,
        level: Level,
        target: &str,
        message: &str,
        fields: impl FnOnce(&mut Fields<'_, '_>),
    ) {
        form(self.format, out, now, level, target, message, fields);
    }
}

fn panicked(info: &PanicHookInfo<'_>) {
    match info.location() {
        Some(place) => log::error!(target: "panic", file = place.file(), line = place.line(); "a task panicked"),
        None => log::error!(target: "panic", "a task panicked"),
    }
    log::logger().flush();
}

/// The line that tells how many lines were lost.
fn loss(format: LogFormat, now: SystemTime, lost: u64) -> Vec<u8> {
    let mut out = Vec::new();
    form(format, &mut out, now, Level::Warn, "log", "lines were lost", |fields| fields.number("lines", lost));
    out
}

/// One JSON object, or one line of text, and a line feed.
fn form(
    format: LogFormat,
    out: &mut Vec<u8>,
    now: SystemTime,
    level: Level,
    target: &str,
    message: &str,
    fields: impl FnOnce(&mut Fields<'_, '_>),
) {
    let mut page = Page::new(out);
    let now = Rfc3339(now).digits();
    match format {
        LogFormat::Json => {
            let mut line = Object::open(&mut page);
            let moment = line.member("ts");
            moment.put(b"\"");
            moment.put(&now);
            moment.put(b"\"");
            line.word("level", severity(level));
            line.text("target", target);
            line.text("msg", message);
            let mut line = Fields(Form::Json(line));
            fields(&mut line);
            if let Form::Json(line) = line.0 {
                line.close();
            }
        }
        LogFormat::Text => {
            page.put(&now);
            let _ = write!(page, " {level:5} {target}: ");
            push_visible(&mut page, message);
            fields(&mut Fields(Form::Text(&mut page)));
        }
    }
    page.put(b"\n");
}

/// The fields of a line being written. They come after the standard members and cannot replace them.
#[derive(Debug)]
pub struct Fields<'p, 'o>(Form<'p, 'o>);

#[derive(Debug)]
enum Form<'p, 'o> {
    Json(Object<'p, 'o>),
    Text(&'p mut Page<'o>),
}

impl<'o> Fields<'_, 'o> {
    /// A text field.
    pub fn text(&mut self, name: &str, value: &str) {
        match &mut self.0 {
            Form::Json(line) => line.text(name, value),
            Form::Text(line) => {
                push_name(line, name);
                push_text(line, value);
            }
        }
    }

    /// A text field, omitted for `None`.
    pub fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A field with a whole number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.plain(name).decimal(value);
    }

    /// A field with `true` or `false`.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.plain(name).put(if value { b"true" } else { b"false" });
    }

    /// A duration in milliseconds, with microsecond precision.
    pub fn millis(&mut self, name: &str, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        let page = self.plain(name);
        page.decimal(micros / 1000);
        let rest = micros % 1000;
        page.put(&[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
    }

    /// An id as lowercase hex digits.
    pub fn hex(&mut self, name: &str, bytes: &[u8]) {
        let quote: &[u8] = if matches!(self.0, Form::Json(_)) { b"\"" } else { b"" };
        let page = self.plain(name);
        page.put(quote);
        page.hex(bytes);
        page.put(quote);
    }

    /// Begins a field whose value looks the same in both formats.
    fn plain(&mut self, name: &str) -> &mut Page<'o> {
        match &mut self.0 {
            Form::Json(line) => line.member(name),
            Form::Text(line) => {
                push_name(line, name);
                line
            }
        }
    }
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

fn push_name(line: &mut Page<'_>, name: &str) {
    line.put(b" ");
    push_visible(line, name);
    line.put(b"=");
}

fn push_text(line: &mut Page<'_>, text: &str) {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '"') {
        push_visible(line, &format!("{text:?}"));
    } else {
        push_visible(line, text);
    }
}

/// Appends text with control characters escaped, so that no value can start a line of its own.
fn push_visible(line: &mut Page<'_>, text: &str) {
    if !text.contains(char::is_control) {
        return line.put(text.as_bytes());
    }
    for c in text.chars() {
        let _ = if c.is_control() { write!(line, "{}", c.escape_default()) } else { line.write_char(c) };
    }
}

impl<'kvs> VisitSource<'kvs> for Fields<'_, '_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let Form::Json(line) = &mut self.0 else {
            self.text(key.as_str(), &value.to_string());
            return Ok(());
        };
        match key.as_str() {
            "ts" | "level" | "target" | "msg" => Ok(()),
            name if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.') => value.visit(JsonValue(line.member(name))),
            name => {
                let quoted = serde_json::to_string(name).unwrap_or_default();
                value.visit(JsonValue(line.member(quoted.trim_matches('"'))))
            }
        }
    }
}

struct JsonValue<'a, 'l>(&'a mut Page<'l>);

impl JsonValue<'_, '_> {
    fn plain(self, value: impl fmt::Display) -> Result<(), Error> {
        write!(self.0, "{value}").map_err(Error::from)
    }
}

impl<'v> VisitValue<'v> for JsonValue<'_, '_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0.string(&value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        JsonValue(self.0).plain("null")
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0.decimal(value);
        Ok(())
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
        self.0.string(value);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn line(format: LogFormat, module: &'static str, text: &str, fields: &[(&str, Value<'_>)]) -> String {
        let mut out = Vec::new();
        let args = format_args!("{text}");
        let record =
            Record::builder().args(args).level(Level::Warn).target(ACCESS).module_path_static(Some(module)).key_values(&fields).build();
        form(format, &mut out, UNIX_EPOCH, record.level(), record.target(), &message(&record), |fields| {
            record.key_values().visit(fields).unwrap();
        });
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
            ("o\"dd", Value::from(-1)),
        ];
        let text = line(LogFormat::Json, "odock_edge::proxy", "request\ncomplete", &fields);
        assert_eq!(
            text,
            concat!(
                r#"{"ts":"1970-01-01T00:00:00.000000Z","level":"warn","target":"access","msg":"request\ncomplete","#,
                r#""request_id":"ab\n\"","status":200,"stream":true,"share":0.5,"odd":null,"o\"dd":-1}"#,
                "\n"
            )
        );
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    #[test]
    fn text_lines_are_one_line() {
        let text = line(LogFormat::Text, "odock_edge::proxy", "a\nb", &[("plugin", Value::from("x y\nz")), ("n", Value::from(3))]);
        assert_eq!(text, "1970-01-01T00:00:00.000000Z WARN  access: a\\nb plugin=\"x y\\nz\" n=3\n");
    }

    #[test]
    fn fields_given_one_by_one_make_the_same_line() {
        let shown = |format| {
            let mut out = Vec::new();
            form(format, &mut out, UNIX_EPOCH, Level::Info, "access", "request", |fields| {
                fields.hex("request_id", &[0xab, 1]);
                fields.text("route", "a b");
                fields.text("code", "");
                fields.number("status", 200);
                fields.flag("stream", false);
                fields.millis("duration_ms", Duration::from_micros(12_034));
            });
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            shown(LogFormat::Json),
            concat!(
                r#"{"ts":"1970-01-01T00:00:00.000000Z","level":"info","target":"access","msg":"request","#,
                r#""request_id":"ab01","route":"a b","code":"","status":200,"stream":false,"duration_ms":12.034}"#,
                "\n"
            )
        );
        assert_eq!(
            shown(LogFormat::Text),
            "1970-01-01T00:00:00.000000Z INFO  access: request request_id=ab01 route=\"a b\" code=\"\" status=200 stream=false duration_ms=12.034\n"
        );
    }

    #[test]
    fn a_loss_is_told_as_every_line_is() {
        let shown = |format| String::from_utf8(loss(format, UNIX_EPOCH, 7)).unwrap();
        let json = r#"{"ts":"1970-01-01T00:00:00.000000Z","level":"warn","target":"log","msg":"lines were lost","lines":7}"#;
        assert_eq!(shown(LogFormat::Json), format!("{json}\n"));
        assert_eq!(shown(LogFormat::Text), "1970-01-01T00:00:00.000000Z WARN  log: lines were lost lines=7\n");
    }

    #[test]
    fn a_query_of_a_foreign_line_is_not_logged() {
        let text = line(LogFormat::Json, "pingora_proxy::proxy_common", "Fail to proxy: GET /v1?key=sk-1&a=b, Host: x", &[]);
        assert!(text.contains("GET /v1?…, Host: x") && !text.contains("sk-1"), "{text}");
        assert_eq!(without_query("what? \"/a?b=c\" end?"), "what? \"/a?…\" end?");
    }
}
