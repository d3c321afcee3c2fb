//! `safety scan`: reads one JSON object per line and writes one verdict per line, in the same order.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{FAILED, OK, tell};
use super::Choice;
use crate::gateway::Builder;
use crate::safety::fingerprint::Fingerprints;
use crate::safety::{Engine, Passage, Phase, SafetyAction, Side};
use crate::wire::{Kind, Role};

const EXAMPLES: &str = r#"A line in:   {"id": 1, "text": "…", "side": "request"}
  side       request (default) or response
  role       system, user, assistant or tool; user for requests and assistant for answers if left out
  request_text  for answers: the system and user text of the request, as a string, or as [{"role", "text"}, …]
A line out:  {"id", "action", "score", "redacted", "findings": [{"module", "category", "start", "end", "score"}]}
  action     allow, observe, redact or block, as for a caller without a history
  score      risk of an attack or leak, 0 to 1; 0.5 is the point of decision. Redactions do not raise it
  start, end bytes of text

Examples:
  echo '{"id": 1, "text": "mail ada@example.org", "side": "request"}' | odock-edge safety scan
  jq -c '{id, text: .prompt}' prompts.jsonl | odock-edge safety scan -c conf/odock.yaml > verdicts.jsonl

A line that is no such object gives {"id", "error"}, the id null where it has none; the rest is judged, and the exit code is 1.
Texts are judged as in mode `security`, whatever `safety.mode` says."#;

/// Arguments of `safety scan`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
}

/// Judges the lines of stdin.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let engine = match super::engine(&args.choice, builder) {
        Ok(engine) => engine,
        Err(code) => return code,
    };
    let stdin = std::io::stdin();
    let stdout = std::io::stdout();
    match all(&engine, stdin.lock(), std::io::BufWriter::with_capacity(1 << 16, stdout.lock())) {
        Ok(true) => OK,
        Ok(false) => FAILED,
        // A reader that closes early (`| head`) is not a failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => OK,
        Err(error) => {
            tell(&error.to_string());
            FAILED
        }
    }
}

/// Judges every line. Returns whether all of them could be judged.
fn all(engine: &Engine, input: impl Read, mut out: impl Write) -> std::io::Result<bool> {
    let mut lines = BufReader::with_capacity(1 << 16, input);
    let (mut line, mut well) = (Vec::new(), true);
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            out.flush()?;
            return Ok(well);
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match answer(engine, &line) {
            Ok(verdict) => serde_json::to_writer(&mut out, &verdict)?,
            Err(refusal) => {
                well = false;
                serde_json::to_writer(&mut out, &refusal)?;
            }
        }
        out.write_all(b"\n")?;
        // Flush when no input is buffered: an interactive caller gets each verdict at once, and bulk input is not slowed
        // down.
        if lines.buffer().is_empty() {
            out.flush()?;
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    id: Value,
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(default = "request")]
    side: Side,
    #[serde(default)]
    role: Option<Words>,
    #[serde(default)]
    request_text: Option<Asked>,
}

const fn request() -> Side {
    Side::Request
}

/// The role of the speaker.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Words {
    #[serde(alias = "developer")]
    System,
    User,
    #[serde(alias = "model")]
    Assistant,
    #[serde(alias = "function")]
    Tool,
}

impl Words {
    const fn kind(self) -> Kind {
        match self {
            Self::System => Kind::Instruction,
            Self::User | Self::Assistant => Kind::Content,
            Self::Tool => Kind::ToolResult,
        }
    }

    const fn role(self) -> Role {
        match self {
            Self::System => Role::System,
            Self::User => Role::User,
            Self::Assistant => Role::Assistant,
            Self::Tool => Role::Tool,
        }
    }
}

/// The request to which an answer belongs. Given as one string, it is treated as system text.
struct Asked(Vec<(Words, String)>);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Said {
            role: Words,
            text: String,
        }
        use serde::de::Error;
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(vec![(Words::System, text)])),
            list @ Value::Array(_) => {
                let said: Vec<Said> = serde_json::from_value(list).map_err(D::Error::custom)?;
                Ok(Self(said.into_iter().map(|said| (said.role, said.text)).collect()))
            }
            Value::Null => Ok(Self(Vec::new())),
            _ => Err(D::Error::custom("request_text must be a string or a list of {role, text}")),
        }
    }
}

#[derive(Serialize)]
struct Verdict<'a> {
    id: Value,
    action: SafetyAction,
    score: f64,
    redacted: Cow<'a, str>,
    findings: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    module: &'static str,
    category: String,
    start: usize,
    end: usize,
    score: f64,
}

#[derive(Serialize)]
struct Refusal {
    id: Value,
    error: String,
}

fn answer<'a>(engine: &Engine, line: &'a [u8]) -> Result<Verdict<'a>, Refusal> {
    let refusal = |error: String| Refusal { id: Value::Null, error };
    let line = std::str::from_utf8(line).map_err(|_| refusal("not UTF-8".to_owned()))?;
    let line: Line<'a> = serde_json::from_str(line).map_err(|error| {
        // The answer to a malformed line still carries its id, if there is one, so that the caller can tell which line it
        // was.
        let id = serde_json::from_str::<Value>(line).ok().and_then(|mut line| line.get_mut("id").map(Value::take));
        Refusal { id: id.unwrap_or_default(), error: error.to_string() }
    })?;
    let asked = line.request_text.map(|Asked(said)| {
        let passages: Vec<_> = said.iter().map(|(words, text)| Passage::new(text, Side::Request, words.kind(), words.role())).collect();
        Arc::new(Fingerprints::of(&passages))
    });
    let (phase, usual) = match line.side {
        Side::Request => (Phase::PreUpstream, Words::User),
        Side::Response => (Phase::PostUpstream, Words::Assistant),
    };
    let words = line.role.unwrap_or(usual);
    let mut passage = Passage::new(&line.text, line.side, words.kind(), words.role());
    if let Some(asked) = asked.as_ref().filter(|_| line.side == Side::Response) {
        passage = passage.answering(asked);
    }
    let judgement = engine.judge(phase, std::slice::from_ref(&passage));
    if let Some(failure) = judgement.runs.iter().find_map(|run| run.failure.as_ref()) {
        return Err(Refusal { id: line.id, error: failure.text().to_owned() });
    }
    let decision = engine.decide(&judgement, None);
    let findings = judgement.found.into_iter().next().unwrap_or_default();
    let redacted = engine.redacted(&line.text, &findings);
    let risk = findings.iter().map(|finding| finding.score).fold(0.0, f32::max);
    let mut findings: Vec<Found> = findings
        .into_iter()
        .map(|f| Found {
            module: f.module,
            category: f.category.into_owned(),
            start: f.span.start,
            end: f.span.end,
            score: figure(f.score),
        })
        .collect();
    findings.sort_by_key(|found| (found.start, found.end));
    Ok(Verdict { id: line.id, action: decision.action, score: figure(risk), redacted: redacted.map_or(line.text, Cow::Owned), findings })
}

/// A score, rounded to the four digits that are meaningful.
fn figure(score: f32) -> f64 {
    (f64::from(score) * 1e4).round() / 1e4
}
