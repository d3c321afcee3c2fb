//! JSON-RPC 2.0 as the Model Context Protocol uses it: which methods and tools a body calls, and which tools an answer
//! offers.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::head::ParseError;
use super::scan::{Scalar, Scan};

/// The method that calls a tool.
const CALL: &str = "tools/call";

/// The calls in one body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls<'a> {
    /// The method of the first message that has one; a client's responses have none.
    pub method: Option<Cow<'a, str>>,
    /// The called tools in order, repeated calls included. A call without a name counts as an empty name.
    pub tools: Vec<Cow<'a, str>>,
    /// The target of the first message with a method: the name of a tool or prompt, or the URI of a resource.
    pub about: Option<Cow<'a, str>>,
    /// Number of messages.
    pub messages: usize,
}

/// Reads the calls of a body: a single message, or several in an array (JSON-RPC 2.0 §6).
///
/// # Errors
/// [`ParseError`] when the body is not such a message, or when parsers could disagree on its method or tool.
pub fn calls(body: &[u8]) -> Result<Calls<'_>, ParseError> {
    let mut scan = Scan::new(body)?;
    let mut calls = Calls::default();
    match scan.peek() {
        Some(b'{') => message(&mut scan, &mut calls)?,
        Some(b'[') => scan.array(|scan| match scan.peek() {
            Some(b'{') => message(scan, &mut calls),
            _ => scan.skip().and(Err(ParseError::NotAnObject)),
        })?,
        _ => {
            scan.skip()?;
            return Err(ParseError::NotAnObject);
        }
    }
    scan.end()?;
    Ok(calls)
}

/// Visits every string and every member name of a body, including those of repeated members.
///
/// # Errors
/// [`ParseError::Syntax`]; some strings may have been visited by then.
pub fn strings(body: &[u8], visit: &mut dyn FnMut(&str)) -> Result<(), ParseError> {
    let mut scan = Scan::new(body)?;
    strings_of(&mut scan, visit)?;
    scan.end()
}

fn strings_of(scan: &mut Scan<'_>, visit: &mut dyn FnMut(&str)) -> Result<(), ParseError> {
    match scan.peek() {
        Some(b'"') => scan.string().map(|string| visit(&string.text)),
        Some(b'[') => scan.array(|scan| strings_of(scan, visit)),
        Some(b'{') => scan.object(|scan, name| {
            visit(&name.text);
            strings_of(scan, visit)
        }),
        _ => scan.scalar().map(drop),
    }
}

fn message<'a>(scan: &mut Scan<'a>, calls: &mut Calls<'a>) -> Result<(), ParseError> {
    let (mut method, mut params, mut tool, mut resource) = (None, false, None, None);
    scan.object(|scan, name| match name.text.as_ref() {
        "method" => {
            if method.is_some() {
                return Err(ParseError::Ambiguous("method"));
            }
            method = Some(word(scan, "method")?);
            Ok(())
        }
        "params" => {
            if std::mem::replace(&mut params, true) {
                return Err(ParseError::Ambiguous("params"));
            }
            (tool, resource) = named(scan)?;
            Ok(())
        }
        // Some servers match member names case-insensitively.
        other => match ["method", "params"].into_iter().find(|known| other.eq_ignore_ascii_case(known)) {
            Some(known) => Err(ParseError::Ambiguous(known)),
            None => scan.skip(),
        },
    })?;
    calls.messages += 1;
    if calls.method.is_none() {
        calls.about = match method.as_deref() {
            Some(CALL | "prompts/get") => tool.clone(),
            Some("resources/read") => resource,
            _ => None,
        };
    }
    if method.as_deref() == Some(CALL) {
        calls.tools.push(tool.unwrap_or_default());
    }
    calls.method = calls.method.take().or(method);
    Ok(())
}

/// The `name` and `uri` of parameters.
type Named<'a> = (Option<Cow<'a, str>>, Option<Cow<'a, str>>);

/// Reads `name` and `uri` of an object; both are `None` if the parameters are not an object.
fn named<'a>(scan: &mut Scan<'a>) -> Result<Named<'a>, ParseError> {
    if scan.peek() != Some(b'{') {
        return scan.skip().map(|()| (None, None));
    }
    let (mut found, mut uri) = (None, None);
    scan.object(|scan, name| match name.text.as_ref() {
        "name" => {
            if found.is_some() {
                return Err(ParseError::Ambiguous("name"));
            }
            found = Some(word(scan, "name")?);
            Ok(())
        }
        "uri" if scan.peek() == Some(b'"') => {
            uri = Some(word(scan, "uri")?);
            Ok(())
        }
        other if other.eq_ignore_ascii_case("name") => Err(ParseError::Ambiguous("name")),
        _ => scan.skip(),
    })?;
    Ok((found, uri))
}

fn word<'a>(scan: &mut Scan<'a>, member: &'static str) -> Result<Cow<'a, str>, ParseError> {
    match scan.scalar()? {
        Scalar::Text(text) => Ok(text.text),
        _ => Err(ParseError::WrongType(member)),
    }
}

/// The answer without the tools that `keep` rejects; `None` if nothing has to be removed. Anything but a JSON-RPC answer
/// contains no tools.
pub fn offered(answer: &[u8], keep: impl Fn(&str) -> bool) -> Option<Bytes> {
    let mut lists = Vec::new();
    let read = (|| {
        let mut scan = Scan::new(answer)?;
        match scan.peek() {
            Some(b'[') => scan.array(|scan| tools(scan, answer, &mut lists))?,
            _ => tools(&mut scan, answer, &mut lists)?,
        }
        scan.end()
    })();
    if read.is_err() || lists.iter().flat_map(|list| &list.tools).all(|tool| keep(&tool.name)) {
        return None;
    }
    let mut out = Vec::with_capacity(answer.len());
    let mut at = 0;
    for List { span, tools } in &lists {
        out.extend_from_slice(answer.get(at..span.start)?);
        let kept: Vec<&[u8]> = tools.iter().filter(|tool| keep(&tool.name)).filter_map(|tool| answer.get(tool.span.clone())).collect();
        out.extend_from_slice(&kept.join(&b','));
        at = span.end;
    }
    out.extend_from_slice(answer.get(at..)?);
    Some(Bytes::from(out))
}

/// `result.tools` of an answer.
struct List<'a> {
    /// The range between its brackets.
    span: Range<usize>,
    tools: Vec<Tool<'a>>,
}

struct Tool<'a> {
    name: Cow<'a, str>,
    span: Range<usize>,
}

fn tools<'a>(scan: &mut Scan<'a>, answer: &'a [u8], lists: &mut Vec<List<'a>>) -> Result<(), ParseError> {
    within(scan, "result", &mut |scan| {
        within(scan, "tools", &mut |scan| {
            if scan.peek() != Some(b'[') {
                return scan.skip();
            }
            let at = |scan: &Scan<'_>| answer.len() - scan.rest().len();
            let start = at(scan) + 1;
            let mut tools = Vec::new();
            scan.array(|scan| {
                let name = scan.peek().map(|_| scan.clone()).map(|mut ahead| named(&mut ahead)).transpose();
                // Parsers could disagree on the name, so it counts as an empty one, which is not allowed.
                let name = name.unwrap_or_default().and_then(|(name, _)| name).unwrap_or_default();
                let start = at(scan);
                scan.skip()?;
                tools.push(Tool { name, span: start..at(scan) });
                Ok(())
            })?;
            lists.push(List { span: start..at(scan) - 1, tools });
            Ok(())
        })
    })
}

/// Reads the members with this name in an object; any other value is skipped.
fn within<'a>(scan: &mut Scan<'a>, wanted: &str, read: &mut dyn FnMut(&mut Scan<'a>) -> Result<(), ParseError>) -> Result<(), ParseError> {
    if scan.peek() != Some(b'{') {
        return scan.skip();
    }
    scan.object(|scan, name| if name.text == wanted { read(scan) } else { scan.skip() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn methods_and_tools() {
        let read = |body: &str| {
            let body = body.to_owned();
            let calls = calls(body.as_bytes()).unwrap();
            (calls.method.map(Cow::into_owned), calls.tools.iter().map(|tool| tool.to_string()).collect::<Vec<_>>())
        };
        let some = |method: &str| Some(method.to_owned());
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), (some("tools/list"), vec![]));
        assert_eq!(
            read(r#"{"params":{"arguments":{"name":"no"},"n\u0061me":"y\u0065s"},"method":"tools\/call","id":1}"#),
            (some("tools/call"), vec!["yes".to_owned()])
        );
        assert_eq!(read(r#"{"jsonrpc":"2.0","id":1,"result":{"name":"x"}}"#), (None, vec![]));
        let batch = r#"[{"method":"ping"},{"method":"tools/call","params":{"name":"a"}},{"method":"tools/call","params":[1]},{"id":3,"result":{}}]"#;
        assert_eq!(read(batch), (some("ping"), vec!["a".to_owned(), String::new()]));
    }

    #[test]
    fn what_two_parsers_would_read_differently_is_refused() {
        for (body, why) in [
            (r#"{"method":"ping","method":"tools/call"}"#, ParseError::Ambiguous("method")),
            (r#"{"method":"ping","Method":"tools/call"}"#, ParseError::Ambiguous("method")),
            (r#"{"params":{"name":"a"},"params":{"name":"b"}}"#, ParseError::Ambiguous("params")),
            (r#"{"PARAMS":{"name":"a"}}"#, ParseError::Ambiguous("params")),
            (r#"{"params":{"name":"a","name":"b"}}"#, ParseError::Ambiguous("name")),
            (r#"{"params":{"name":"a","NAME":"b"}}"#, ParseError::Ambiguous("name")),
            (r#"{"method":5}"#, ParseError::WrongType("method")),
            (r#"{"method":"tools/call","params":{"name":["a"]}}"#, ParseError::WrongType("name")),
            ("[1]", ParseError::NotAnObject),
            ("[[]]", ParseError::NotAnObject),
            ("\"x\"", ParseError::NotAnObject),
        ] {
            assert_eq!(calls(body.as_bytes()), Err(why), "{body}");
        }
        for body in ["", "{", "{} {}", "{\"method\":\"\\ud800\"}", "\u{feff}{}"] {
            assert!(matches!(calls(body.as_bytes()), Err(ParseError::Syntax { .. })), "{body}");
        }
    }

    #[test]
    fn tools_that_may_not_be_called_are_not_offered() {
        let answer = br#"{"jsonrpc":"2.0", "id":1,"result":{"tools":[ {"name":"a","description":"]"} , {"name":"b"},{"name":"\u0061"}, 5 ],"nextCursor":"z"}}"#;
        let kept = offered(answer, |name| name == "a").unwrap();
        assert_eq!(
            std::str::from_utf8(&kept).unwrap(),
            r#"{"jsonrpc":"2.0", "id":1,"result":{"tools":[{"name":"a","description":"]"},{"name":"\u0061"}],"nextCursor":"z"}}"#
        );
        assert_eq!(offered(answer, |_| true), None);
        assert_eq!(offered(br#"{"result":{"tools":[{"name":"b"}]}}"#, |_| false).unwrap(), &br#"{"result":{"tools":[]}}"#[..]);
        assert_eq!(
            offered(br#"[{"result":{"tools":[{"name":"b"}]}},{"id":1}]"#, |_| false).unwrap(),
            &br#"[{"result":{"tools":[]}},{"id":1}]"#[..]
        );
        for nothing in [
            "",
            "x",
            "{}",
            r#"{"result":{"content":[{"name":"b"}]}}"#,
            r#"{"tools":[{"name":"b"}]}"#,
            r#"{"result":{"tools":{"name":"b"}}}"#,
        ] {
            assert_eq!(offered(nothing.as_bytes(), |_| false), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn the_rest_of_an_answer_stays(names in proptest::collection::vec("[ab\"\\\\ü]{0,3}", 0..6), more in ".{0,20}") {
            let tools: Vec<Value> = names.iter().map(|name| json!({"name": name, "description": more})).collect();
            let mut answer = json!({"jsonrpc": "2.0", "id": more, "result": {"tools": tools, "more": more}});
            let text = answer.to_string();
            let keep = |name: &str| !name.contains('a');
            let left = offered(text.as_bytes(), keep).map_or(text.clone(), |left| String::from_utf8(left.to_vec()).unwrap());
            answer["result"]["tools"].as_array_mut().unwrap().retain(|tool| keep(tool["name"].as_str().unwrap()));
            prop_assert_eq!(serde_json::from_str::<Value>(&left).unwrap(), answer);
        }

        #[test]
        fn any_bytes_are_read(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = calls(&body);
            let _ = offered(&body, |_| false);
        }
    }
}
