//! The meaning of every member of requests, answers and stream events: one table for all dialects, driven by shape.
//!
//! A member that the table does not contain is [`Kind::Metadata`], so that a provider's new field is scanned even before
//! its meaning is known here. Arrays are transparent: their elements mean what the array means.

use super::texts::{Kind, Lane, Role};
use super::vocabulary::Vocabulary;

/// What a value is, as decided by the member names above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// A whole request, answer or stream event.
    Root,
    /// Something that contains text: a message, a content block, an item; or a bare text of this kind.
    Block(Kind),
    /// An element of `choices` or `candidates`.
    Choice,
    /// A tool call, or the function within it.
    Call,
    /// Tool definitions and output schemas.
    Definition,
    /// A JSON Schema keyword: structural if a string, a definition if an object (a property may be named `type`).
    Keyword,
    /// `text`: a format in the Responses API, the text itself in a transcription.
    TextOrFormat,
    /// `params` of JSON-RPC.
    Params,
    /// `result` of JSON-RPC.
    Outcome,
    /// An element of `data`: an embedding, an image or a model.
    Datum,
    /// Free-form JSON of a caller or tool; member names are text too.
    Free(Kind),
    /// A URL; a `data:` URL is structural.
    Url,
    /// Usually a long list of numbers.
    Numbers,
    /// `role`.
    RoleWord,
    /// `type`.
    TypeWord,
    /// A value of this kind. Strings in objects below it are structural or metadata, by name.
    Leaf(Kind),
    /// Structural if it is of this vocabulary, metadata if it is not.
    Term(Vocabulary),
}

/// How a member changes the channel of the fragments below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Texts below are whole texts, not fragments.
    Whole,
    /// Inherited from above.
    Keep,
    /// Inherited from above, but on this lane.
    On(Lane),
    /// In a stream event, fragments start here.
    Start,
}

/// A member that no table names.
const META: (Node, Flow) = (UNKNOWN, Flow::Whole);
/// What such a member holds.
pub(super) const UNKNOWN: Node = Node::Leaf(Kind::Metadata);
const WORD: (Node, Flow) = (Node::Term(Vocabulary::Word), Flow::Whole);
const ID: (Node, Flow) = (Node::Term(Vocabulary::Id), Flow::Whole);
const DATA: (Node, Flow) = (Node::Term(Vocabulary::Data), Flow::Whole);

/// The meaning of the member `key` in an object that is a `node`.
pub(super) fn member(node: Node, key: &str) -> (Node, Flow) {
    match node {
        Node::Root => root(key),
        Node::Block(kind) => block(kind, key),
        Node::Choice => choice(key),
        Node::Call => call(key),
        Node::Definition | Node::Keyword | Node::TextOrFormat => match key {
            "type" | "strict" | "format" | "additionalProperties" => (Node::Keyword, Flow::Whole),
            _ => (Node::Definition, Flow::Whole),
        },
        Node::Params => params(key),
        Node::Outcome => outcome(key),
        Node::Datum => datum(key),
        Node::Url => match key {
            "url" | "uri" => (Node::Url, Flow::Whole),
            _ => other(key),
        },
        Node::Numbers => (Node::Numbers, Flow::Whole),
        Node::Free(kind) => (Node::Free(kind), Flow::Whole),
        Node::RoleWord | Node::TypeWord | Node::Leaf(_) | Node::Term(_) => other(key),
    }
}

fn root(key: &str) -> (Node, Flow) {
    let node = match key {
        "messages" | "contents" | "prediction" => Node::Block(Kind::Content),
        "choices" | "candidates" => return (Node::Choice, Flow::Start),
        "delta" | "content_block" => return (Node::Block(Kind::Content), Flow::Start),
        "type" => Node::TypeWord,
        "role" => Node::RoleWord,
        "model" | "id" => return ID,
        "object" => return WORD,
        "content" | "content_blocks" | "output" | "output_text" | "item" | "part" | "message" | "summary" | "refusal" => {
            Node::Block(Kind::Content)
        }
        "input" | "prompt" | "suffix" | "query" | "queries" | "documents" | "document" | "inputs" | "text_1" | "text_2"
        | "negative_prompt" | "texts" => Node::Block(Kind::Input),
        "system" | "instructions" | "systemInstruction" | "system_instruction" | "developer" => Node::Block(Kind::Instruction),
        "tools" | "functions" | "tool_choice" | "function_call" | "toolConfig" | "tool_config" | "response_format" | "generationConfig"
        | "generation_config" | "guided_json" | "guided_regex" | "guided_grammar" => Node::Definition,
        "text" => Node::TextOrFormat,
        "tool_calls" => Node::Call,
        "arguments" | "code" => Node::Free(Kind::ToolArguments),
        "response" | "requests" | "request" | "body" => Node::Root,
        "params" => Node::Params,
        "result" => Node::Outcome,
        "data" => Node::Datum,
        "embedding" | "embeddings" => Node::Numbers,
        "metadata" | "_meta" => Node::Free(Kind::Metadata),
        _ => return other(key),
    };
    (node, Flow::Whole)
}

fn block(kind: Kind, key: &str) -> (Node, Flow) {
    let inner = match kind {
        Kind::Instruction | Kind::ToolResult => kind,
        _ => Kind::Content,
    };
    let node = match key {
        "role" => Node::RoleWord,
        "content" | "text" | "parts" | "content_blocks" => return (Node::Block(inner), Flow::On(Lane::Text)),
        "type" => Node::TypeWord,
        "tool_calls" | "function" | "function_call" | "functionCall" => return (Node::Call, Flow::Keep),
        "arguments" => return (Node::Free(Kind::ToolArguments), Flow::On(Lane::Arguments)),
        "partial_json" => return (Node::Leaf(Kind::ToolArguments), Flow::On(Lane::Arguments)),
        "thinking" | "reasoning_content" | "reasoning" => return (Node::Block(inner), Flow::On(Lane::Reasoning)),
        "refusal" => return (Node::Block(inner), Flow::On(Lane::Refusal)),
        "transcript" => return (Node::Block(inner), Flow::On(Lane::Other)),
        "audio" => return (Node::Block(inner), Flow::Keep),
        "input" | "args" | "action" | "queries" | "code" | "variables" | "operation" => Node::Free(Kind::ToolArguments),
        "output"
        | "outputs"
        | "result"
        | "results"
        | "functionResponse"
        | "function_response"
        | "codeExecutionResult"
        | "code_execution_result"
        | "stdout"
        | "stderr"
        | "logs" => Node::Block(Kind::ToolResult),
        "response" | "structuredContent" => Node::Free(Kind::ToolResult),
        "image_url" | "url" | "file_url" | "uri" | "fileUri" | "file_uri" | "video_url" | "audio_url" | "document_url" => Node::Url,
        "filename" | "file_name" | "displayName" | "display_name" | "title" => Node::Leaf(Kind::FileName),
        "file" | "source" | "input_audio" | "inlineData" | "inline_data" | "fileData" | "executableCode" | "executable_code"
        | "context" | "resource" | "summary" | "message" | "item" | "document" => Node::Block(inner),
        "metadata" | "_meta" | "attributes" => Node::Free(Kind::Metadata),
        "tools" => Node::Definition,
        "data" | "file_data" | "blob" => return DATA,
        _ => return other(key),
    };
    (node, Flow::Whole)
}

fn choice(key: &str) -> (Node, Flow) {
    match key {
        "delta" | "content" | "text" => (Node::Block(Kind::Content), Flow::Keep),
        "message" => (Node::Block(Kind::Content), Flow::Whole),
        "reasoning" => (Node::Block(Kind::Content), Flow::On(Lane::Reasoning)),
        _ => other(key),
    }
}

fn call(key: &str) -> (Node, Flow) {
    match key {
        "arguments" => (Node::Free(Kind::ToolArguments), Flow::On(Lane::Arguments)),
        "function" | "custom" => (Node::Call, Flow::Keep),
        "args" | "input" => (Node::Free(Kind::ToolArguments), Flow::Whole),
        "name" => ID,
        _ => other(key),
    }
}

fn params(key: &str) -> (Node, Flow) {
    let node = match key {
        "arguments" | "argument" | "inputResponses" => Node::Free(Kind::ToolArguments),
        "name" => return ID,
        "uri" => Node::Url,
        "messages" => Node::Block(Kind::Content),
        "systemPrompt" => Node::Block(Kind::Instruction),
        "tools" | "requestedSchema" => Node::Definition,
        "content" => Node::Free(Kind::Content),
        _ => Node::Free(Kind::Metadata),
    };
    (node, Flow::Whole)
}

fn outcome(key: &str) -> (Node, Flow) {
    let node = match key {
        "content" | "contents" => Node::Block(Kind::ToolResult),
        "structuredContent" => Node::Free(Kind::ToolResult),
        "messages" => Node::Block(Kind::Content),
        "tools" | "prompts" | "inputRequests" => Node::Definition,
        "resources" | "resourceTemplates" | "description" => UNKNOWN,
        "instructions" => Node::Block(Kind::Instruction),
        _ => Node::Free(Kind::Metadata),
    };
    (node, Flow::Whole)
}

fn datum(key: &str) -> (Node, Flow) {
    match key {
        "embedding" => (Node::Numbers, Flow::Whole),
        "revised_prompt" => (Node::Block(Kind::Content), Flow::Whole),
        "url" => (Node::Url, Flow::Whole),
        "b64_json" => DATA,
        _ => other(key),
    }
}

/// The meaning of a member that the table does not contain.
fn other(key: &str) -> (Node, Flow) {
    match key {
        "id"
        | "model"
        | "call_id"
        | "tool_call_id"
        | "tool_use_id"
        | "item_id"
        | "response_id"
        | "file_id"
        | "previous_response_id"
        | "system_fingerprint"
        | "jsonrpc"
        | "modelVersion" => ID,
        "type" => (Node::Term(Vocabulary::Type), Flow::Whole),
        "object" | "role" | "status" | "finish_reason" | "finishReason" | "stop_reason" | "service_tier" | "encoding_format" | "detail"
        | "format" | "media_type" | "mime_type" | "mimeType" | "method" | "reasoning_effort" | "effort" | "language" | "outcome"
        | "modality" => WORD,
        "signature" | "thoughtSignature" | "encrypted_content" | "partial_image_b64" | "obfuscation" => DATA,
        _ => META,
    }
}

/// The role of a value's author as far as its place tells, before any `role` member is seen.
pub(super) fn speaker(node: Node, key: &str) -> Option<Role> {
    match (node, key) {
        (Node::Root, "system" | "instructions" | "systemInstruction" | "system_instruction" | "developer")
        | (Node::Params, "systemPrompt") => Some(Role::System),
        (Node::Root, "choices" | "candidates" | "output" | "output_text" | "delta" | "content_block" | "tool_calls")
        | (Node::Root, "part" | "item" | "arguments" | "refusal")
        | (Node::Datum, "revised_prompt") => Some(Role::Assistant),
        (Node::Outcome, "content" | "contents" | "structuredContent" | "instructions") => Some(Role::Tool),
        _ => None,
    }
}

/// The role named by a `role` member; unknown words are [`Role::Unknown`].
pub(super) fn role(word: &str) -> Role {
    match word {
        "user" | "human" => Role::User,
        "assistant" | "model" => Role::Assistant,
        "system" | "developer" => Role::System,
        "tool" | "function" => Role::Tool,
        _ => Role::Unknown,
    }
}

/// What a `type` member says about its sibling members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TypeWord {
    /// The sibling `data` is text.
    Text,
    /// The sibling `content` is a tool's result.
    ToolResult,
    /// A stream event of the Responses API whose `delta` flows on this lane.
    Event(Lane),
    /// A stream event of the Responses API whose `delta` is encoded media.
    Media,
    /// Nothing.
    Other,
}

pub(super) fn type_word(word: &str) -> TypeWord {
    if let Some(event) = word.strip_prefix("response.") {
        return if event.contains("arguments") || event.contains("tool_call_input") || event.contains("call_code") {
            TypeWord::Event(Lane::Arguments)
        } else if event.contains("reasoning") {
            TypeWord::Event(Lane::Reasoning)
        } else if event.contains("refusal") {
            TypeWord::Event(Lane::Refusal)
        } else if event.contains("transcript") {
            TypeWord::Event(Lane::Other)
        } else if event.contains("audio") || event.contains("partial_image") {
            TypeWord::Media
        } else {
            TypeWord::Event(Lane::Text)
        };
    }
    match word {
        "text" => TypeWord::Text,
        _ if word.ends_with("tool_result") || word.ends_with("_call_output") => TypeWord::ToolResult,
        _ => TypeWord::Other,
    }
}
