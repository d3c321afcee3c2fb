//! The few members of a request body that steer the gateway, read in one pass without copying.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::endpoint::Endpoint;
use super::scan::{Scalar, Scan};

/// Why a body could not be read. Contains nothing of the body, so it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Not JSON, not UTF-8, trailing bytes after the JSON, or nested deeper than 127 levels. The byte offset is
    /// approximate.
    Syntax {
        /// Line of the offending byte, from 1.
        line: usize,
        /// Column of the offending byte, from 1.
        column: usize,
    },
    /// JSON, but not an object.
    NotAnObject,
    /// `model` or `stream` stands twice, or a steering member under another case: parsers would disagree on it.
    Ambiguous(&'static str),
    /// A steering member has a value of the wrong type.
    WrongType(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column } => write!(f, "not valid JSON at line {line}, column {column}"),
            Self::NotAnObject => f.write_str("the body must be a JSON object"),
            Self::Ambiguous(key) => write!(f, "`{key}` is given more than once or in another case"),
            Self::WrongType(key) => write!(f, "`{key}` has the wrong type"),
        }
    }
}

impl std::error::Error for ParseError {}

impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> Self {
        Self::Syntax { line: error.line(), column: error.column() }
    }
}

/// The steering members of a request body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head<'a> {
    /// `model`, decoded; absent or null is `None`.
    pub model: Option<Cow<'a, str>>,
    /// The range of the value of `model` in the body, quotes included, for [`super::set_string`].
    pub model_span: Option<Range<usize>>,
    /// `provider` if it is a string: Odock's own member, which may name the model's provider family once more.
    pub provider: Option<Cow<'a, str>>,
    /// `stream`.
    pub stream: bool,
    /// The edit that makes a stream report its usage, as OpenAI's chats and completions can
    /// (`stream_options.include_usage`); `None` if the request asks for it already, is no stream, or has a malformed
    /// `stream_options`.
    pub ask_usage: Option<Insertion>,
    /// How much is asked for.
    pub wants: Wants,
    /// A member that names models beside `model`, of which a provider might take another than was asked for.
    pub others: Option<&'static str>,
}

/// How much a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// The most tokens that one answer may have, under the name that the endpoint has for it; the largest of several.
    pub max_tokens: Option<u64>,
    /// How many answers are wanted: the larger of `n` and `best_of`, where the endpoint knows them, for each of its prompts.
    pub choices: Option<u64>,
    /// The number of texts in `input`, as embeddings take them; a list of tokens counts as one.
    pub inputs: Option<u64>,
    /// How often the provider's own tools may be called that tell their calls (Anthropic's `max_uses`).
    pub calls: u64,
    /// The answer is made after the request is over (`background` of responses).
    pub background: bool,
}

/// Calls of a provider's own tool that names no maximum.
const CALLS: u64 = 5;

/// Members that steer a request at some endpoint.
const STEERING: [&str; 13] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "prompt",
    "input",
    "background",
    "models",
    "fallbacks",
];

/// Whether a member steers a request of this endpoint. Of endpoints that nobody here knows only `model` and `stream` do.
fn steers(endpoint: Endpoint, name: &str) -> bool {
    match name {
        "model" | "stream" => true,
        _ if endpoint == Endpoint::Other => false,
        "max_tokens" | "max_completion_tokens" | "max_output_tokens" => bounds(endpoint, name),
        "n" | "best_of" => multiplies(endpoint, name),
        "prompt" => multiplies(endpoint, "best_of"),
        "input" => endpoint == Endpoint::Embeddings,
        "background" => endpoint == Endpoint::Responses,
        _ => true,
    }
}

/// Whether a member limits the tokens of an answer of this endpoint. For unknown endpoints any such member may.
fn bounds(endpoint: Endpoint, name: &str) -> bool {
    match endpoint {
        Endpoint::ChatCompletions => name != "max_output_tokens",
        Endpoint::Completions | Endpoint::Messages | Endpoint::CountTokens => name == "max_tokens",
        Endpoint::Responses => name == "max_output_tokens",
        Endpoint::Embeddings | Endpoint::Images | Endpoint::ImageEdits | Endpoint::Audio => false,
        _ => true,
    }
}

/// Whether a member sets the number of answers of this endpoint.
fn multiplies(endpoint: Endpoint, name: &str) -> bool {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Images | Endpoint::ImageEdits => name == "n",
        Endpoint::Responses | Endpoint::Messages | Endpoint::CountTokens | Endpoint::Embeddings | Endpoint::Audio => false,
        _ => true,
    }
}

/// A possible edit of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insertion {
    /// The range to replace; mostly empty.
    pub at: Range<usize>,
    /// The replacement.
    pub text: &'static str,
}

/// Reads the steering members of a request body.
///
/// # Errors
/// [`ParseError`] when the body is not a JSON object in which every parser would find the same steering members. Other
/// members may repeat: [`super::texts()`] visits all of them.
pub fn head(endpoint: Endpoint, body: &[u8]) -> Result<Head<'_>, ParseError> {
    let mut scan = Scan::new(body)?;
    if scan.peek() != Some(b'{') {
        scan.skip()?;
        return Err(ParseError::NotAnObject);
    }
    let mut head = Head::default();
    // By default, inserted before the first member of the body.
    let mut ask = Some(Insertion { at: at(body, &scan) + 1..at(body, &scan) + 1, text: r#""stream_options":{"include_usage":true},"# });
    let (mut model, mut stream) = (Once("model", false), Once("stream", false));
    let mut prompts = 1;
    scan.object(|scan, name| {
        match name.text.as_ref() {
            "model" => {
                model.meet()?;
                match scan.scalar()? {
                    Scalar::Text(text) => {
                        head.model_span = Some(text.span.start - 1..text.span.end + 1);
                        head.model = Some(text.text);
                    }
                    Scalar::Null => {}
                    _ => return Err(ParseError::WrongType("model")),
                }
            }
            "stream" => {
                stream.meet()?;
                match scan.scalar()? {
                    Scalar::Bool(wanted) => head.stream = wanted,
                    Scalar::Null => {}
                    _ => return Err(ParseError::WrongType("stream")),
                }
            }
            // If the member repeats, the last one counts, as for nearly every parser.
            "stream_options" => ask = ask_in_options(body, scan)?,
            // A provider ignores a limit that its endpoint does not know, so it must not count here either: otherwise a
            // small number under another endpoint's name would hide a large answer.
            name @ ("max_tokens" | "max_completion_tokens" | "max_output_tokens") if bounds(endpoint, name) => {
                head.wants.max_tokens = head.wants.max_tokens.max(bound(endpoint, name, scan)?);
            }
            name @ ("n" | "best_of") if multiplies(endpoint, name) => {
                head.wants.choices = head.wants.choices.max(bound(endpoint, name, scan)?);
            }
            "prompt" if multiplies(endpoint, "best_of") => prompts = prompts.max(inputs(scan)?),
            "input" => head.wants.inputs = Some(inputs(scan)?),
            "tools" if endpoint == Endpoint::Messages => head.wants.calls = head.wants.calls.saturating_add(calls(scan)?),
            "background" if endpoint == Endpoint::Responses => match scan.scalar()? {
                Scalar::Bool(wanted) => head.wants.background |= wanted,
                Scalar::Null => {}
                _ => return Err(ParseError::WrongType("background")),
            },
            "models" | "fallbacks" => {
                if scan.scalar()? != Scalar::Null {
                    head.others = STEERING.into_iter().find(|other| *other == name.text);
                }
            }
            "provider" if scan.peek() == Some(b'"') => {
                if let Scalar::Text(text) = scan.scalar()? {
                    head.provider = Some(text.text);
                }
            }
            other => {
                // Go servers match members without regard to case: `Model` beside `model` would steer past us.
                if let Some(steering) = STEERING.into_iter().find(|name| folds_to(other, name)).filter(|name| steers(endpoint, name)) {
                    return Err(ParseError::Ambiguous(steering));
                }
                scan.skip()?;
            }
        }
        Ok(())
    })?;
    scan.end()?;
    if prompts > 1 {
        head.wants.choices = Some(head.wants.choices.unwrap_or(1).max(1).saturating_mul(prompts));
    }
    head.ask_usage = ask.filter(|_| head.stream);
    Ok(head)
}

/// The offset of the scan in the body.
fn at(body: &[u8], scan: &Scan<'_>) -> usize {
    body.len() - scan.rest().len()
}

/// A member that must not occur twice, and whether it has occurred.
struct Once(&'static str, bool);

impl Once {
    fn meet(&mut self) -> Result<(), ParseError> {
        if std::mem::replace(&mut self.1, true) { Err(ParseError::Ambiguous(self.0)) } else { Ok(()) }
    }
}

/// The edit that adds `include_usage` to the value of `stream_options` and keeps its other members; `None` if it is set
/// already.
fn ask_in_options(body: &[u8], scan: &mut Scan<'_>) -> Result<Option<Insertion>, ParseError> {
    let object = scan.peek() == Some(b'{');
    let start = at(body, scan);
    if !object {
        let nothing = scan.scalar()? == Scalar::Null;
        return Ok(nothing.then(|| Insertion { at: start..at(body, scan), text: r#"{"include_usage":true}"# }));
    }
    let mut ask = Some(Insertion { at: start + 1..start + 1, text: r#""include_usage":true"# });
    let mut told = false;
    scan.object(|scan, name| {
        scan.peek();
        let start = at(body, scan);
        let value = scan.scalar()?;
        if name.text == "include_usage" {
            told = true;
            ask = (value != Scalar::Bool(true)).then(|| Insertion { at: start..at(body, scan), text: "true" });
        } else if let Some(ask) = ask.as_mut().filter(|_| !told) {
            ask.text = r#""include_usage":true,"#;
        }
        Ok(())
    })?;
    Ok(ask)
}

/// Whether a name is another one but for the case of its letters, as Go's parsers see it: they take the sign of the Kelvin for
/// a k, and the long s for an s.
fn folds_to(name: &str, other: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    name.eq_ignore_ascii_case(other) || !name.is_ascii() && name.chars().map(fold).eq(other.chars())
}

/// A number that bounds what a request takes. What cannot be read leaves as it is, and somebody there might read it.
fn bound(endpoint: Endpoint, name: &str, scan: &mut Scan<'_>) -> Result<Option<u64>, ParseError> {
    let value = scan.scalar()?;
    let read = whole(&value);
    match STEERING.into_iter().find(|steering| *steering == name) {
        Some(name) if read.is_none() && value != Scalar::Null && steers(endpoint, name) => Err(ParseError::WrongType(name)),
        _ => Ok(read),
    }
}

/// How often a list of tools lets those be called that a provider carries out itself and counts in its usage.
fn calls(scan: &mut Scan<'_>) -> Result<u64, ParseError> {
    let mut sum = 0_u64;
    if scan.peek() != Some(b'[') {
        return scan.skip().map(|()| sum);
    }
    scan.array(|scan| {
        if scan.peek() != Some(b'{') {
            return scan.skip();
        }
        let (mut counted, mut most) = (false, None);
        scan.object(|scan, name| {
            match name.text.as_ref() {
                "type" => counted |= matches!(scan.scalar()?, Scalar::Text(kind) if kind.text.starts_with("web_")),
                "max_uses" => most = most.max(whole(&scan.scalar()?)),
                _ => scan.skip()?,
            }
            Ok(())
        })?;
        sum = sum.saturating_add(if counted { most.unwrap_or(CALLS) } else { 0 });
        Ok(())
    })?;
    Ok(sum)
}

/// How many texts a value stands for.
fn inputs(scan: &mut Scan<'_>) -> Result<u64, ParseError> {
    if scan.peek() != Some(b'[') {
        return scan.skip().map(|()| 1);
    }
    let (mut count, mut tokens) = (0, true);
    scan.array(|scan| {
        count += 1;
        tokens &= matches!(scan.peek(), Some(b'-' | b'0'..=b'9'));
        scan.skip()
    })?;
    Ok(if tokens { count.min(1) } else { count })
}

/// A whole number that is not negative; fractions are rounded up.
fn whole(value: &Scalar<'_>) -> Option<u64> {
    let Scalar::Number(number) = value else { return None };
    // `as` saturates, so 1e300 is u64::MAX.
    number.parse().ok().or_else(|| number.parse().ok().filter(|n: &f64| *n >= 0.0).map(|n| n.ceil() as u64))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::{Endpoint::ChatCompletions, *};
    use crate::wire::json::set_string;
    use bytes::Bytes;
    use proptest::prelude::*;

    #[test]
    fn steering_members() {
        let body = br#"{"messages":[{"role":"user","content":"a \"model\": \"x\""}], "max_tokens":5,"n":3,"max_completion_tokens":9.0,
            "stream":true,"stream_options":{"include_usage":true,"x":[1,{}]},"model" : "gpt-4o"}"#;
        let head = head(ChatCompletions, body).unwrap();
        assert!(matches!(head.model, Some(Cow::Borrowed("gpt-4o"))));
        assert_eq!(&body[head.model_span.clone().unwrap()], br#""gpt-4o""#);
        assert!(head.stream && head.ask_usage.is_none());
        assert_eq!((head.wants.max_tokens, head.wants.choices), (Some(9), Some(3)));
    }

    #[test]
    fn every_endpoint_has_its_own_names_for_what_an_answer_may_have() {
        let body = br#"{"max_tokens":1,"max_completion_tokens":2,"max_output_tokens":3,"n":4,"best_of":5}"#;
        for (endpoint, max_tokens, choices) in [
            (Endpoint::ChatCompletions, Some(2), Some(4)),
            (Endpoint::Completions, Some(1), Some(5)),
            (Endpoint::Messages, Some(1), None),
            (Endpoint::Responses, Some(3), None),
            (Endpoint::Images, None, Some(4)),
            (Endpoint::Embeddings, None, None),
            (Endpoint::Other, Some(3), Some(5)),
        ] {
            let head = head(endpoint, body).unwrap();
            assert_eq!((head.wants.max_tokens, head.wants.choices), (max_tokens, choices), "{endpoint:?}");
        }
    }

    #[test]
    fn every_prompt_of_a_completion_has_answers_of_its_own() {
        for (members, choices) in [
            (r#""prompt":"a""#, None),
            (r#""prompt":["a","b","c"]"#, Some(3)),
            (r#""prompt":["a","b","c"],"n":2"#, Some(6)),
            (r#""best_of":4,"n":2,"prompt":["a","b"]"#, Some(8)),
            (r#""prompt":[1,2,3]"#, None),
            (r#""prompt":[[1,2],[3]]"#, Some(2)),
            (r#""prompt":["a",1,2]"#, Some(3)),
            (r#""prompt":[]"#, None),
        ] {
            let body = format!("{{{members}}}");
            assert_eq!(head(Endpoint::Completions, body.as_bytes()).unwrap().wants.choices, choices, "{members}");
            assert!(
                head(ChatCompletions, body.as_bytes()).unwrap().wants.choices.is_none_or(|n| n == 2),
                "{members}: chats have no prompt"
            );
        }
    }

    #[test]
    fn a_bound_that_cannot_be_read_is_refused() {
        use ParseError::{Ambiguous, WrongType};
        for (endpoint, member, name) in [
            (ChatCompletions, "max_tokens", "max_tokens"),
            (ChatCompletions, "max_completion_tokens", "max_completion_tokens"),
            (ChatCompletions, "n", "n"),
            (Endpoint::Completions, "best_of", "best_of"),
            (Endpoint::Responses, "max_output_tokens", "max_output_tokens"),
            (Endpoint::Messages, "max_tokens", "max_tokens"),
        ] {
            for value in [r#""100000""#, "true", "-1", "-0.5", "{}", "[1]"] {
                let body = format!(r#"{{"{member}":{value}}}"#);
                assert_eq!(head(endpoint, body.as_bytes()), Err(WrongType(name)), "{endpoint:?} {body}");
                assert!(head(Endpoint::Other, body.as_bytes()).is_ok(), "nobody knows what it means there: {body}");
            }
            for value in ["null", "5", "1e3", "100.0", "0"] {
                assert!(head(endpoint, format!(r#"{{"{member}":{value}}}"#).as_bytes()).is_ok(), "{endpoint:?} {member} {value}");
            }
            let shouted = format!(r#"{{"{}":5}}"#, member.to_uppercase());
            assert_eq!(head(endpoint, shouted.as_bytes()), Err(Ambiguous(name)), "{endpoint:?}");
            assert!(head(Endpoint::Other, shouted.as_bytes()).is_ok());
        }
        // The sign of the Kelvin, and the long s.
        assert_eq!(head(ChatCompletions, "{\"max_to\u{212a}ens\":5}".as_bytes()), Err(Ambiguous("max_tokens")));
        assert_eq!(head(ChatCompletions, "{\"\u{17f}tream\":true}".as_bytes()), Err(Ambiguous("stream")));
        // What this endpoint does not know bounds nothing here.
        assert!(head(ChatCompletions, br#"{"max_output_tokens":"x","Max_Output_Tokens":1,"best_of":"x","background":"x"}"#).is_ok());
        assert_eq!(head(Endpoint::Responses, br#"{"background":"yes"}"#), Err(WrongType("background")));
        assert_eq!(head(Endpoint::Responses, br#"{"Background":true}"#), Err(Ambiguous("background")));
    }

    #[test]
    fn what_is_asked_for_beside_tokens() {
        let wants = |endpoint, body: &str| head(endpoint, body.as_bytes()).unwrap().wants;
        assert!(wants(Endpoint::Responses, r#"{"background":true}"#).background);
        assert!(!wants(Endpoint::Responses, r#"{"background":null}"#).background);
        let tools = r#"{"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":10},{"name":"f","input_schema":{}},
            {"type":"web_fetch_20250910","name":"web_fetch"},{"type":"custom","max_uses":9},3]}"#;
        assert_eq!(wants(Endpoint::Messages, tools).calls, 10 + CALLS);
        assert_eq!(wants(ChatCompletions, tools).calls, 0, "nobody tells them there");
    }

    #[test]
    fn other_models_than_the_one_are_seen() {
        let others = |body: &str| head(ChatCompletions, body.as_bytes()).unwrap().others;
        assert_eq!(others(r#"{"model":"m","models":["secret"]}"#), Some("models"));
        assert_eq!(others(r#"{"model":"m","fallbacks":[{"model":"secret"}]}"#), Some("fallbacks"));
        assert_eq!(others(r#"{"model":"m","models":null,"metadata":{"models":["x"]}}"#), None);
        assert_eq!(head(ChatCompletions, br#"{"Models":["secret"]}"#), Err(ParseError::Ambiguous("models")));
    }

    #[test]
    fn texts_of_an_input_are_counted() {
        for (input, count) in [(r#""a""#, 1), (r#"["a","b"]"#, 2), ("[1,2,3]", 1), ("[[1,2],[3]]", 2), ("[]", 0)] {
            assert_eq!(
                head(Endpoint::Embeddings, format!(r#"{{"input":{input}}}"#).as_bytes()).unwrap().wants.inputs,
                Some(count),
                "{input}"
            );
        }
    }

    #[test]
    fn an_escaped_model_is_found_where_it_stands() {
        let body = Bytes::from_static(br#"{"a\n":"\"","m":[1.5,true,null],"mod\u0065l":"g\u0070t","z":1}"#);
        let head = head(ChatCompletions, &body).unwrap();
        assert_eq!(head.model.as_deref(), Some("gpt"));
        let changed = set_string(&body, head.model_span.unwrap(), "q\"\n");
        assert_eq!(&changed[..], br#"{"a\n":"\"","m":[1.5,true,null],"mod\u0065l":"q\"\n","z":1}"#);
    }

    #[test]
    fn usage_is_asked_for_where_it_is_missing_and_every_other_byte_stays() {
        let inserted = |body: &str| {
            let bytes = Bytes::copy_from_slice(body.as_bytes());
            let ask = head(ChatCompletions, body.as_bytes()).unwrap().ask_usage?;
            let out = crate::wire::json::overwrite(&bytes, &mut [(ask.at, ask.text.as_bytes())]);
            assert!(head(ChatCompletions, &out).unwrap().ask_usage.is_none(), "{body}");
            Some(String::from_utf8(out.to_vec()).unwrap())
        };
        for (body, expected) in [
            (r#"{"model":"m","stream":false}"#, None),
            (r#"{"model":"m"}"#, None),
            (r#"{"stream":true,"stream_options":{"include_usage":true,"x":1}}"#, None),
            (r#"{"stream":true,"stream_options":"x"}"#, None),
            (r#" { "stream":true}"#, Some(r#" {"stream_options":{"include_usage":true}, "stream":true}"#)),
            (r#"{"stream_options": null ,"stream":true}"#, Some(r#"{"stream_options": {"include_usage":true} ,"stream":true}"#)),
            (r#"{"stream_options":{ },"stream":true}"#, Some(r#"{"stream_options":{"include_usage":true },"stream":true}"#)),
            (r#"{"stream_options":{"a":[{}]},"stream":true}"#, Some(r#"{"stream_options":{"include_usage":true,"a":[{}]},"stream":true}"#)),
            (
                r#"{"stream_options":{"a":1,"include_usage": false,"b":2},"stream":true}"#,
                Some(r#"{"stream_options":{"a":1,"include_usage": true,"b":2},"stream":true}"#),
            ),
        ] {
            assert_eq!(inserted(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn what_parsers_would_read_differently_is_refused() {
        for (body, expected) in [
            (r#"{"model":"a","model":"b"}"#, Some(ParseError::Ambiguous("model"))),
            (r#"{"model":"a","mod\u0065l":"b"}"#, Some(ParseError::Ambiguous("model"))),
            (r#"{"model":"a","MODEL":"b"}"#, Some(ParseError::Ambiguous("model"))),
            (r#"{"stream":false,"stream":true}"#, Some(ParseError::Ambiguous("stream"))),
            (r#"{"model":5}"#, Some(ParseError::WrongType("model"))),
            (r#"{"stream":"yes"}"#, Some(ParseError::WrongType("stream"))),
            (r"[]", Some(ParseError::NotAnObject)),
            (r#""x""#, Some(ParseError::NotAnObject)),
            ("null", Some(ParseError::NotAnObject)),
            (r#"{"model":"a"} {"model":"b"}"#, None),
            (r#"{"model":"a"}x"#, None),
            ("{\"model\":\"a\u{1}\"}", None),
            (r#"{"model":"\ud800"}"#, None),
            (r#"{"a":"\ud800"}"#, None),
            ("\u{feff}{}", None),
            ("", None),
        ] {
            let error = head(ChatCompletions, body.as_bytes()).expect_err(body);
            match expected {
                Some(expected) => assert_eq!(error, expected, "{body}"),
                None => assert!(matches!(error, ParseError::Syntax { .. }), "{body}: {error}"),
            }
        }
        assert!(head(ChatCompletions, b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(head(ChatCompletions, deep.as_bytes()).is_err());
        assert_eq!(head(ChatCompletions, br#"{"model":null,"stream":null}"#).unwrap(), Head::default());
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = head(ChatCompletions, &body);
        }

        #[test]
        fn never_panics_near_json(body in r#"[{}\[\]",:a-c\\u0-9 modelstrun]{0,60}"#) {
            let _ = head(ChatCompletions, body.as_bytes());
        }

        #[test]
        fn the_span_is_the_model(model in any::<String>(), before in any::<String>(), new in any::<String>()) {
            let quote = |s: &str| serde_json::to_string(s).unwrap();
            let body = Bytes::from(format!(r#"{{"x":{{"y":[{}]}},"model":{} , "z":{}}}"#, quote(&before), quote(&model), quote(&before)));
            let found = head(ChatCompletions, &body).unwrap();
            prop_assert_eq!(found.model.as_deref(), Some(model.as_str()));
            let changed = set_string(&body, found.model_span.unwrap(), &new);
            let again = head(ChatCompletions, &changed).unwrap();
            prop_assert_eq!(again.model.as_deref(), Some(new.as_str()));
        }
    }
}
