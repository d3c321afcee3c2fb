//! Classifies which API a request speaks, by its method and path alone.

use std::borrow::Cow;

use http::Method;

use super::percent;

/// The family of bodies, errors and stream events that a caller expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's API and everything compatible with it (vLLM, Mistral, Hugging Face, the unified endpoint).
    OpenAi,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// JSON-RPC 2.0 of the Model Context Protocol.
    Mcp,
    /// Plain HTTP that the gateway does not interpret.
    Plain,
}

/// Path segments after `/v1` that name a family of providers. What follows them is the endpoint, the same as without them.
pub const FAMILIES: [&str; 3] = ["/vllm", "/mistral", "/huggingface"];

impl Dialect {
    /// Every dialect, for tables and tests.
    pub const ALL: &'static [Self] = &[Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Mcp, Self::Plain];

    /// The stable lower-case name used in evidence, metrics and golden files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Mcp => "mcp",
            Self::Plain => "plain",
        }
    }
}

/// The kind of call that a request makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/v1/llm/chat`: the unified endpoint, any provider.
    UnifiedChat,
    /// `/v1/chat/completions`.
    ChatCompletions,
    /// `/v1/completions` and Mistral's `fim/completions`.
    Completions,
    /// `/v1/responses`.
    Responses,
    /// `/v1/embeddings` and Hugging Face's `feature-extraction`.
    Embeddings,
    /// `/v1/images/generations`, a JSON body.
    Images,
    /// `/v1/images/edits` and `/v1/images/variations`, multipart bodies.
    ImageEdits,
    /// `/v1/audio/*`; transcriptions and translations have multipart bodies.
    Audio,
    /// Any other model call with a JSON body that names a `model`: moderations, rerank, score, tokenize, OCR, …
    Task,
    /// `/v1/messages`.
    Messages,
    /// `/v1/messages/count_tokens`.
    CountTokens,
    /// `/v1beta/models/{model}:generateContent` and its other unary verbs.
    GenerateContent,
    /// `/v1beta/models/{model}:streamGenerateContent`.
    StreamGenerateContent,
    /// Listings of models.
    Models,
    /// `/v1/mcp/{server}` and below.
    Mcp,
    /// None of these.
    Other,
}

impl Endpoint {
    /// Every endpoint, for tables and metric handles.
    pub const ALL: &'static [Self] = &[
        Self::UnifiedChat,
        Self::ChatCompletions,
        Self::Completions,
        Self::Responses,
        Self::Embeddings,
        Self::Images,
        Self::ImageEdits,
        Self::Audio,
        Self::Task,
        Self::Messages,
        Self::CountTokens,
        Self::GenerateContent,
        Self::StreamGenerateContent,
        Self::Models,
        Self::Mcp,
        Self::Other,
    ];

    /// The stable name used in evidence and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnifiedChat => "unified_chat",
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Images => "images",
            Self::ImageEdits => "image_edits",
            Self::Audio => "audio",
            Self::Task => "task",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::GenerateContent => "generate_content",
            Self::StreamGenerateContent => "stream_generate_content",
            Self::Models => "models",
            Self::Mcp => "mcp",
            Self::Other => "other",
        }
    }

    /// Classifies a request by its path (without query). A path that a lenient upstream would read as one of these
    /// (percent-encoded letters, doubled or trailing slashes, dot segments) is classified as that upstream would.
    ///
    /// The API may be mounted below a prefix: everything before `/v1/` or `/v1beta/` is ignored.
    pub fn of(method: &Method, path: &str) -> (Self, Dialect) {
        // The most common calls in their plain spelling. The code below handles everything else.
        if *method == Method::POST {
            match path {
                "/v1/chat/completions" => return (Self::ChatCompletions, Dialect::OpenAi),
                "/v1/responses" => return (Self::Responses, Dialect::OpenAi),
                "/v1/embeddings" => return (Self::Embeddings, Dialect::OpenAi),
                "/v1/messages" => return (Self::Messages, Dialect::Anthropic),
                _ => {}
            }
        }
        let path = normal(path);
        let (beta, rest) = match after_version(&path) {
            Some(found) => found,
            None => return (Self::Other, Dialect::Plain),
        };
        let reading = method == Method::GET || method == Method::HEAD;
        if rest == "mcp" || rest.starts_with("mcp/") {
            return (Self::Mcp, Dialect::Mcp);
        }
        if let Some(verb) = rest.strip_prefix("models/").or_else(|| rest.strip_prefix("tunedModels/")).and_then(verb) {
            let endpoint = match verb {
                "streamGenerateContent" => Self::StreamGenerateContent,
                _ => Self::GenerateContent,
            };
            return (endpoint, Dialect::Gemini);
        }
        if rest == "models" || rest.starts_with("models/") {
            let endpoint = if reading { Self::Models } else { Self::Other };
            return (endpoint, if beta { Dialect::Gemini } else { Dialect::OpenAi });
        }
        let rest = ["vllm/", "mistral/", "huggingface/", "openai/"].iter().find_map(|family| rest.strip_prefix(family)).unwrap_or(rest);
        match rest {
            "messages" => (Self::Messages, Dialect::Anthropic),
            "messages/count_tokens" => (Self::CountTokens, Dialect::Anthropic),
            _ if rest.starts_with("messages/") => (Self::Other, Dialect::Anthropic),
            "models" if reading => (Self::Models, Dialect::OpenAi),
            _ if reading => (Self::Other, Dialect::OpenAi),
            _ => (Self::of_openai(rest), Dialect::OpenAi),
        }
    }

    fn of_openai(rest: &str) -> Self {
        match rest {
            "llm/chat" => Self::UnifiedChat,
            "chat/completions" => Self::ChatCompletions,
            "completions" | "fim/completions" => Self::Completions,
            "responses" => Self::Responses,
            "embeddings" | "feature-extraction" => Self::Embeddings,
            "images/generations" | "text-to-image" => Self::Images,
            "images/edits" | "images/variations" => Self::ImageEdits,
            "audio/transcriptions" | "audio/translations" | "audio/speech" => Self::Audio,
            "moderations" | "rerank" | "score" | "classify" | "pooling" | "tokenize" | "detokenize" | "ocr" | "text-to-video"
            | "speech-to-text" | "jobs" => Self::Task,
            _ => Self::Other,
        }
    }
}

/// The provider family that a path names before its endpoint (`…/v1/mistral/chat/completions`); `None` if it names none.
pub fn family_in_path(path: &str) -> Option<&str> {
    let (family, _) = after_version(path)?.1.split_once('/')?;
    FAMILIES.iter().any(|known| known.strip_prefix('/') == Some(family)).then_some(family)
}

/// The MCP server named by a path (`…/v1/mcp/{server}` and below) and what follows it; `None` if it names none.
pub fn server_in_path(path: &str) -> Option<(&str, &str)> {
    let (_, rest) = after_version(path)?;
    let rest = rest.strip_prefix("mcp/")?;
    let (server, more) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (!server.is_empty()).then_some((server, more))
}

/// The model named by a Gemini path (`…/models/{model}:verb`), percent-decoded; `None` on any other path.
pub fn model_in_path(path: &str) -> Option<Cow<'_, str>> {
    let (start, end) = model_range(path)?;
    Some(percent_decoded(path.get(start..end)?))
}

/// The model that `…/v1/models/{model}` asks about, percent-decoded; `None` for the listing of all models.
pub fn model_listed(path: &str) -> Option<Cow<'_, str>> {
    let name = after_version(path)?.1.strip_prefix("models/")?;
    (!name.is_empty()).then(|| percent_decoded(name))
}

/// A Gemini path with its model replaced; `None` if the path names no model. The name is percent-encoded where a path
/// segment requires it.
pub fn set_model_in_path(path: &str, model: &str) -> Option<String> {
    let (start, end) = model_range(path)?;
    let mut out = String::with_capacity(path.len() + model.len());
    out.push_str(path.get(..start)?);
    for byte in model.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }));
            }
        }
    }
    out.push_str(path.get(end..)?);
    Some(out)
}

fn model_range(path: &str) -> Option<(usize, usize)> {
    let (beta_or_v1, rest) = after_version(path).map(|(_, rest)| (path.len() - rest.len(), rest))?;
    let skip = if rest.starts_with("models/") {
        "models/".len()
    } else if rest.starts_with("tunedModels/") {
        "tunedModels/".len()
    } else {
        return None;
    };
    let start = beta_or_v1 + skip;
    let tail = path.get(start..)?;
    verb(tail)?;
    let colon = tail.rfind(':')?;
    (colon > 0).then_some((start, start + colon))
}

/// The verb in `{model}:{verb}` if it calls a model.
fn verb(tail: &str) -> Option<&str> {
    let (_, verb) = tail.rsplit_once(':')?;
    matches!(verb, "generateContent" | "streamGenerateContent" | "countTokens" | "embedContent" | "batchEmbedContents" | "predict")
        .then_some(verb)
}

/// The path after `/v1/` or `/v1beta/`, and whether it was the latter.
fn after_version(path: &str) -> Option<(bool, &str)> {
    // The API is nearly always mounted at the root.
    if let Some(rest) = path.strip_prefix("/v1/") {
        return Some((false, rest));
    }
    let mut at = 0;
    while let Some(found) = path.get(at..)?.find("/v1") {
        let tail = path.get(at + found + 3..)?;
        if let Some(rest) = tail.strip_prefix('/') {
            return Some((false, rest));
        }
        if let Some(rest) = tail.strip_prefix("beta/") {
            return Some((true, rest));
        }
        at += found + 3;
    }
    None
}

/// The path as a lenient server reads it. Borrowed in the common case.
fn normal(path: &str) -> Cow<'_, str> {
    let trimmed = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let mut before = 0;
    let odd = |byte| matches!((std::mem::replace(&mut before, byte), byte), (_, b'%' | b'\\') | (b'/', b'/' | b'.'));
    if !trimmed.bytes().any(odd) {
        return Cow::Borrowed(trimmed);
    }
    let decoded = percent_decoded(trimmed).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

fn percent_decoded(text: &str) -> Cow<'_, str> {
    match percent::lenient(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_of_the_product() {
        use Dialect as D;
        use Endpoint as E;
        for (method, path, endpoint, dialect) in [
            ("POST", "/v1/llm/chat", E::UnifiedChat, D::OpenAi),
            ("POST", "/v1/chat/completions", E::ChatCompletions, D::OpenAi),
            ("POST", "/v1/chat/completions/", E::ChatCompletions, D::OpenAi),
            ("POST", "/edge/v1/chat/completions", E::ChatCompletions, D::OpenAi),
            ("POST", "/v1//chat/./completions", E::ChatCompletions, D::OpenAi),
            ("POST", "/v1/x/../chat/complet%69ons", E::ChatCompletions, D::OpenAi),
            ("POST", "/v1/completions", E::Completions, D::OpenAi),
            ("POST", "/v1/responses", E::Responses, D::OpenAi),
            ("GET", "/v1/responses/resp_1", E::Other, D::OpenAi),
            ("POST", "/v1/embeddings", E::Embeddings, D::OpenAi),
            ("POST", "/v1/images/generations", E::Images, D::OpenAi),
            ("POST", "/v1/images/edits", E::ImageEdits, D::OpenAi),
            ("POST", "/v1/images/variations", E::ImageEdits, D::OpenAi),
            ("POST", "/v1/messages", E::Messages, D::Anthropic),
            ("POST", "/v1/messages/count_tokens", E::CountTokens, D::Anthropic),
            ("POST", "/v1beta/models/g-1:generateContent", E::GenerateContent, D::Gemini),
            ("POST", "/v1beta/models/g-1:streamGenerateContent", E::StreamGenerateContent, D::Gemini),
            ("POST", "/v1beta/openai/chat/completions", E::ChatCompletions, D::OpenAi),
            ("GET", "/v1/models", E::Models, D::OpenAi),
            ("GET", "/v1/vllm/models", E::Models, D::OpenAi),
            ("POST", "/v1/vllm/chat/completions", E::ChatCompletions, D::OpenAi),
            ("POST", "/v1/vllm/audio/transcriptions", E::Audio, D::OpenAi),
            ("POST", "/v1/vllm/rerank", E::Task, D::OpenAi),
            ("POST", "/v1/mistral/fim/completions", E::Completions, D::OpenAi),
            ("POST", "/v1/mistral/ocr", E::Task, D::OpenAi),
            ("POST", "/v1/huggingface/feature-extraction", E::Embeddings, D::OpenAi),
            ("GET", "/v1/mcp/github", E::Mcp, D::Mcp),
            ("POST", "/v1/mcp/github/sse", E::Mcp, D::Mcp),
            ("POST", "/v1/unheard/of", E::Other, D::OpenAi),
            ("GET", "/", E::Other, D::Plain),
            ("POST", "/v10/chat/completions", E::Other, D::Plain),
        ] {
            assert_eq!(Endpoint::of(&method.parse().unwrap(), path), (endpoint, dialect), "{method} {path}");
        }
    }

    #[test]
    fn gemini_names_its_model_in_the_path() {
        let path = "/v1beta/models/house%20model:generateContent";
        assert_eq!(model_in_path(path).unwrap(), "house model");
        assert_eq!(set_model_in_path(path, "gemini-3/pro").unwrap(), "/v1beta/models/gemini-3%2Fpro:generateContent");
        assert_eq!(model_in_path("/v1beta/models/only"), None);
        assert_eq!(model_in_path("/v1/chat/completions"), None);
    }

    #[test]
    fn the_server_of_a_path() {
        for (path, found) in [
            ("/v1/mcp/github", Some(("github", ""))),
            ("/edge/v1/mcp/github/", Some(("github", "/"))),
            ("/v1/mcp/github/a/b", Some(("github", "/a/b"))),
            ("/v1/mcp/", None),
            ("/v1/mcp", None),
            ("/mcp/github", None),
        ] {
            assert_eq!(server_in_path(path), found, "{path}");
        }
        assert_eq!(Endpoint::of(&Method::POST, "/v1/mcp/"), (Endpoint::Mcp, Dialect::Mcp));
    }

    proptest! {
        #[test]
        fn any_path_is_classified(path in ".{0,80}") {
            let _ = Endpoint::of(&Method::POST, &path);
            let _ = model_in_path(&path).map(|_| set_model_in_path(&path, "m"));
        }
    }
}
