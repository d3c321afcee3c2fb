//! MCP servers on the path of a request: which server is called, whether the key may call it and its tools, and its address.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::context::Destination;
use super::live::{Live, Target};
use super::token::Tokens;
use super::upstream::with_query;
use crate::error::{Denial, codes};
use crate::gate::Exchange;
use crate::identity::Caller;
use crate::route::{McpCredential, McpServer};
use crate::wire::endpoint::server_in_path;
use crate::wire::mcp;

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The MCP server that a request calls.
#[derive(Clone)]
pub struct Called {
    /// The server.
    pub server: Arc<McpServer>,
    /// The server's address, with its credential if that is fixed.
    pub target: Arc<Target>,
    /// Fetches access tokens, for a server that needs them.
    pub tokens: Option<Arc<Tokens>>,
    /// The access token of this request.
    pub token: Option<HeaderValue>,
}

impl Called {
    /// Fetches an access token, if the server needs one.
    ///
    /// # Errors
    /// 502 if no token can be obtained.
    pub async fn authorize(&mut self) -> Result<(), Denial> {
        if let Some(tokens) = &self.tokens {
            self.token = Some(tokens.current().await.map_err(|_| Denial::of(codes::MCP_AUTH_ERROR))?);
        }
        Ok(())
    }

    /// The server refused the access token: the next request fetches another.
    pub fn forget(&self) {
        if let (Some(tokens), Some(token)) = (&self.tokens, &self.token) {
            let (tokens, token) = (Arc::clone(tokens), token.clone());
            tokio::spawn(async move { tokens.refused(&token).await });
        }
    }

    /// The credential header of a request to the server.
    pub fn credential(&self) -> Option<(HeaderName, HeaderValue)> {
        self.token.clone().map(|token| (AUTHORIZATION, token)).or_else(|| self.target.credential.clone())
    }
}

/// Finds the server that the path names. That a server exists but is not granted is told as 403.
///
/// # Errors
/// 400 without a name, 404 if the organisation has no such server, 403 if the key may not use it, 502 if its credential is
/// missing.
pub fn find(live: &Live, caller: &Caller, exchange: &mut Exchange) -> Result<Called, Denial> {
    let (name, _) = server_in_path(&exchange.facts.path).ok_or_else(|| Denial::of(codes::INVALID_MCP_REF))?;
    let called = live.mcp_server(&caller.organisation.id, name).ok_or_else(|| Denial::of(codes::MCP_NOT_FOUND))?;
    if !caller.may_use_server(&called.server.name) || !called.server.audience.has(caller) {
        return Err(Denial::of(codes::MCP_NOT_ALLOWED));
    }
    if matches!(called.server.credential, McpCredential::Fixed(None)) {
        return Err(Denial::of(codes::MCP_AUTH_ERROR));
    }
    exchange.facts.provider = Some(Arc::clone(&called.server.upstream.name));
    exchange.facts.slug = Some(Arc::clone(&called.server.name));
    Ok(called.clone())
}

/// Reads what an MCP body calls and checks it against the server's rules.
///
/// # Errors
/// 400 if the body is not JSON-RPC, 403 for a forbidden tool or keyword.
pub fn inspect(server: &McpServer, body: &Bytes) -> Result<Asked, Denial> {
    if body.is_empty() {
        return Ok(Asked::default());
    }
    let calls = mcp::calls(body)
        .map_err(|error| Denial::of(codes::INVALID_REQUEST).with_message(format!("the body is no JSON-RPC message: {error}")))?;
    if calls.tools.iter().any(|tool| !server.tools.permit(tool)) {
        return Err(Denial::of(codes::MCP_GUARDRAIL_BLOCK).with_message("this tool may not be called"));
    }
    if !server.blocked_keywords.is_empty() && speaks(body, &server.blocked_keywords) {
        return Err(Denial::of(codes::MCP_GUARDRAIL_BLOCK).with_message("the request has a word that is not permitted"));
    }
    let first = |text: Option<&Cow<'_, str>>| text.map(|text| text.to_string()).filter(|text| is_name(text));
    Ok(Asked { method: first(calls.method.as_ref()), tool: first(calls.tools.first()), tools: calls.tools.len() as u64 })
}

/// Checks that the headers which repeat what the body asks for (`Mcp-Method`, `Mcp-Name`; SEP-2243) agree with it. The rules
/// are applied to the body; a server that reads the headers could otherwise be told of another tool than the one checked.
///
/// # Errors
/// 400 if they differ. A body that cannot be parsed is left to [`inspect`].
pub fn agree(headers: &HeaderMap, body: &[u8]) -> Result<(), Denial> {
    if body.is_empty() || !(headers.contains_key(&METHOD) || headers.contains_key(&NAME)) {
        return Ok(());
    }
    let Ok(calls) = mcp::calls(body) else { return Ok(()) };
    let says = |field: &HeaderName, asked: &Option<Cow<'_, str>>| {
        headers.get_all(field).iter().all(|said| asked.as_ref().is_some_and(|asked| said.as_bytes().trim_ascii() == asked.as_bytes()))
    };
    match calls.messages == 1 && says(&METHOD, &calls.method) && says(&NAME, &calls.about) {
        true => Ok(()),
        false => Err(Denial::of(codes::MCP_HEADER_MISMATCH)),
    }
}

/// `Mcp-Method` and `Mcp-Name` of a body that leaves for the server. A value that no header may carry is left out.
pub fn fields_of(body: &[u8]) -> Vec<(HeaderName, HeaderValue)> {
    let Ok(calls) = mcp::calls(body) else { return Vec::new() };
    let value = |text: Option<Cow<'_, str>>| text.and_then(|text| HeaderValue::from_str(&text).ok());
    [(METHOD, value(calls.method)), (NAME, value(calls.about))].into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Whether a header is `Mcp-Method` or `Mcp-Name`.
pub fn repeats(name: &str) -> bool {
    name == METHOD.as_str() || name == NAME.as_str()
}

/// What an MCP request asks of its server.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The method of the first message, if it is a plain name.
    pub method: Option<String>,
    /// The first tool called, if it is a plain name.
    pub tool: Option<String>,
    /// How many tools are called.
    pub tools: u64,
}

impl Asked {
    /// Adds the method and tool as tags, for evidence, plugins and usage records.
    pub fn tag(&self, exchange: &mut Exchange) {
        let tags = [("mcp_method", &self.method), ("mcp_tool", &self.tool)];
        exchange.draft.tags.extend(tags.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?))));
    }
}

/// Whether a text is a plain name: evidence must not store prose.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte))
}

/// Whether one of the words occurs in a string or a member name, in any case. Duplicate members are all read, because servers
/// differ in which of them counts.
fn speaks(body: &[u8], words: &[String]) -> bool {
    let mut found = false;
    let read = mcp::strings(body, &mut |text| {
        let text = text.to_lowercase();
        found |= words.iter().any(|word| text.contains(word));
    });
    // A body that cannot be read to its end may contain anything.
    found || read.is_err()
}

/// The path at the server: its endpoint, the caller's path after the server's name, and the query without a credential.
pub fn target_path(server: &McpServer, path: &str, query: Option<&str>) -> String {
    let more = server_in_path(path).map_or("", |(_, more)| more).trim_end_matches('/');
    let own = match more.is_empty() {
        true => server.path.clone(),
        false => format!("{}{more}", server.path.trim_end_matches('/')),
    };
    with_query(own, query)
}

/// An answer of the server without the tools that its rules forbid; unchanged if it lists none of them.
pub fn offered(server: &McpServer, answer: Bytes) -> Bytes {
    mcp::offered(&answer, |tool| server.tools.permit(tool)).unwrap_or(answer)
}

/// The data of a stream's event without the tools that the server's rules forbid.
pub fn offered_in_event<'d>(server: &McpServer, data: &'d str) -> Cow<'d, str> {
    match mcp::offered(data.as_bytes(), |tool| server.tools.permit(tool)) {
        Some(less) => Cow::Owned(String::from_utf8_lossy(&less).into_owned()),
        None => Cow::Borrowed(data),
    }
}

/// The code for an upstream that failed: MCP servers have one of their own.
pub fn code_of_failure(destination: Option<&Destination>) -> &'static crate::error::Code {
    match destination {
        Some(Destination::Mcp(_)) => codes::MCP_UPSTREAM_FAILED,
        _ => codes::UPSTREAM_FAILED,
    }
}

/// Checks a body again after plugins have changed it.
///
/// # Errors
/// As [`inspect`], except that a body that is not JSON-RPC any more is the plugin's fault (503).
pub fn still_permitted(server: &McpServer, body: &Bytes) -> Result<(), Denial> {
    match inspect(server, body) {
        Err(denial) if denial.code == codes::INVALID_REQUEST.code => Err(Denial::of(codes::PLUGIN_UNAVAILABLE)),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Endpoint;

    #[test]
    fn words_are_found_wherever_they_are_said() {
        let words = ["secret plan".to_owned()];
        for body in [
            r#"{"params":{"arguments":{"q":"The SECRET Plan"}}}"#,
            r#"{"a":["x",{"secret plan":1}]}"#,
            r#"{"a":"s\u0065cret plan"}"#,
            r#"{"a":"secret plan","a":"nothing"}"#,
            r#"{"a":"s\u0065cret plan","a":"nothing"}"#,
            r#"{"a":{"s\u0065cret plan":1,"b":["secret\u0020plan"]},"a":{}}"#,
            r#"[{"params":{"x":1,"x":["SECRET\u0020PLAN"],"x":2}}]"#,
        ] {
            assert!(speaks(body.as_bytes(), &words), "{body}");
        }
        assert!(!speaks(br#"{"a":"secret","b":" plan"}"#, &words));
    }

    #[test]
    fn names_are_tagged_and_prose_is_not() {
        assert!(is_name("tools/call") && is_name("create_issue") && !is_name("drop everything now") && !is_name(""));
        assert_eq!(Endpoint::of(&http::Method::DELETE, "/v1/mcp/x").0, Endpoint::Mcp);
    }
}
