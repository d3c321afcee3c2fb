//! The tools that a request offers to a model, forces it to use, or calls.

use crate::plugin::prelude::*;

/// A request with more tools is an error.
const MOST: usize = 4096;

/// Members that name tools, in all dialects. A repeated member is an error, since parsers would disagree on it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    tools: Option<Vec<Tool>>,
    functions: Option<Vec<Tool>>,
    tool_choice: Option<Value>,
    function_call: Option<Value>,
    mcp_servers: Option<Vec<Server>>,
    // Members of JSON-RPC in the Model Context Protocol.
    method: Option<Value>,
    params: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    function: Option<Named>,
    custom: Option<Named>,
    server_label: Option<String>,
    #[serde(alias = "functionDeclarations")]
    function_declarations: Option<Vec<Named>>,
    /// Gemini's built-in tools are members: `{"codeExecution": {}}`.
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Server {
    name: String,
}

/// The names of the tools in a JSON body; empty for a body of another form.
pub fn of(body: &[u8]) -> Result<Vec<String>, &'static str> {
    let unreadable = |_| "the request's tools cannot be read";
    let bodies: Vec<Body> = match body.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'{') => vec![serde_json::from_slice(body).map_err(unreadable)?],
        Some(b'[') => serde_json::from_slice(body).map_err(unreadable)?,
        _ => return Ok(Vec::new()),
    };
    let mut names = Vec::new();
    for body in bodies {
        body.collect(&mut names);
        if names.len() > MOST {
            return Err("the request has too many tools");
        }
    }
    Ok(names)
}

impl Body {
    fn collect(self, names: &mut Vec<String>) {
        for tool in self.tools.into_iter().flatten().chain(self.functions.into_iter().flatten()) {
            tool.collect(names);
        }
        names.extend(self.mcp_servers.into_iter().flatten().map(|server| format!("mcp:{}", server.name)));
        for choice in [self.tool_choice, self.function_call].into_iter().flatten() {
            let named = choice.pointer("/function/name").or_else(|| choice.get("name")).and_then(Value::as_str);
            names.extend(named.map(str::to_owned));
        }
        if self.method.as_ref().and_then(Value::as_str) == Some("tools/call") {
            names.extend(self.params.as_ref().and_then(|params| params.get("name")).and_then(Value::as_str).map(str::to_owned));
        }
    }
}

impl Tool {
    fn collect(self, names: &mut Vec<String>) {
        names.extend(self.server_label.map(|label| format!("mcp:{label}")));
        names.extend(self.function_declarations.into_iter().flatten().map(|declared| declared.name));
        let own = self.function.or(self.custom).map(|named| named.name).or(self.name);
        // The type of a named tool says nothing; a tool without a name is known by its type.
        match (own, self.kind) {
            (Some(name), _) => names.push(name),
            (None, Some(kind)) => names.push(kind),
            (None, None) => names.extend(self.rest.into_iter().map(|(name, _)| name)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn tools_of_every_dialect() {
        for (body, expected) in [
            (
                r#"{"tools":[{"type":"function","function":{"name":"pay"}}],"tool_choice":{"type":"function","function":{"name":"pay"}}}"#,
                &["pay", "pay"][..],
            ),
            (r#"{"functions":[{"name":"old"}],"function_call":{"name":"old"}}"#, &["old", "old"]),
            (
                r#"{"tools":[{"type":"function","name":"respond"},{"type":"web_search"},{"type":"mcp","server_label":"erp"}]}"#,
                &["respond", "web_search", "mcp:erp", "mcp"],
            ),
            (r#"{"tools":[{"name":"bash","type":"bash_20250124"}],"mcp_servers":[{"type":"url","name":"crm"}]}"#, &["bash", "mcp:crm"]),
            (r#"{"tools":[{"functionDeclarations":[{"name":"a"},{"name":"b"}]},{"codeExecution":{}}]}"#, &["a", "b", "codeExecution"]),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_all","arguments":{}}}"#, &["delete_all"]),
            (r#"[{"method":"tools/call","params":{"name":"x"}},{"method":"ping"}]"#, &["x"]),
            (r#"{"messages":[{"content":"\"tools\":[{\"name\":\"no\"}]"}],"tools":null,"tool_choice":"auto"}"#, &[]),
            ("not json", &[]),
        ] {
            assert_eq!(of(body.as_bytes()).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn what_parsers_would_read_differently_is_an_error() {
        assert!(of(br#"{"tools":[],"tools":[{"name":"pay"}]}"#).is_err());
        assert!(of(br#"{"tools":{"name":"pay"}}"#).is_err());
        assert!(of(br#"{"tools":[{"name":7}]}"#).is_err());
    }
}
