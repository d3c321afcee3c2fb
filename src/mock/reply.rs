//! The answer independent of dialect: a text or a tool call, its pieces for a stream, and its token counts.

use bytes::Bytes;

use super::ask::Ask;
use super::switches::Switches;

const DEFAULT_CHUNKS: usize = 8;
const FILLER: &str = " The quick brown fox jumps over the lazy dog.";

/// The content of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    Text(String),
    /// `arguments` is a JSON object, as text.
    ToolCall {
        name: String,
        arguments: String,
    },
}

/// The content and counts of an answer.
pub struct Reply {
    pub content: Content,
    pub input_tokens: usize,
    chunks: usize,
}

/// An answer rendered in a dialect.
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// The header field in which the dialect carries the provider's request id.
    pub id_header: &'static str,
    pub body: Body,
}

pub enum Body {
    Whole(Bytes),
    /// Encoded stream events; a delay may be inserted between any two.
    Events(Vec<Bytes>),
}

impl Reply {
    /// Decides the answer from the request alone, so that the same request gets the same answer.
    pub fn to(ask: &Ask<'_>, switches: &Switches) -> Self {
        let mut content = match &switches.answer {
            Some(answer) => Content::Text(answer.clone()),
            None => {
                let text = ask.last_text();
                match ask.called_tool(&text) {
                    Some(name) => Content::ToolCall { name, arguments: serde_json::json!({ "text": text }).to_string() },
                    None => Content::Text(["You said: ", &text].concat()),
                }
            }
        };
        if let (Content::Text(text), Some(size)) = (&mut content, switches.size) {
            while text.len() < size {
                text.push_str(&FILLER[..FILLER.len().min(size - text.len())]);
            }
        }
        Self { content, input_tokens: ask.tokens(), chunks: switches.chunks.unwrap_or(DEFAULT_CHUNKS) }
    }

    fn text(&self) -> &str {
        match &self.content {
            Content::Text(text) => text,
            Content::ToolCall { arguments, .. } => arguments,
        }
    }

    pub fn output_tokens(&self) -> usize {
        self.text().len().div_ceil(4)
    }

    /// The text or the arguments, cut between characters into about as many pieces as were asked for.
    pub fn pieces(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.text();
        let step = rest.len().div_ceil(self.chunks.max(1)).max(1);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let mut end = step.min(rest.len());
            while !rest.is_char_boundary(end) {
                end += 1;
            }
            let (piece, after) = rest.split_at(end);
            rest = after;
            Some(piece)
        })
    }
}

/// Appends parts to a buffer: `&str` unchanged, numbers, and [`Quoted`] texts.
macro_rules! json {
    ($out:expr, $($part:expr),+ $(,)?) => {{
        $( $crate::mock::reply::Put::put(&$part, $out); )+
    }};
}
pub(super) use json;

/// A part that the macro `json!` accepts.
pub trait Put {
    fn put(&self, out: &mut Vec<u8>);
}

impl Put for &str {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Put for usize {
    fn put(&self, out: &mut Vec<u8>) {
        let _ = serde_json::to_writer(out, self);
    }
}

/// A text to be written as a JSON string.
pub struct Quoted<'a>(pub &'a str);

impl Put for Quoted<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(out, self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn reply(body: &str, switches: &Switches) -> Reply {
        Reply::to(&Ask::parse(body.as_bytes()).unwrap(), switches)
    }

    #[test]
    fn pieces_are_the_text_and_never_split_a_character() {
        let switches = Switches { answer: Some("grüße, 世界! ".repeat(3)), chunks: Some(5), ..Switches::default() };
        let reply = reply("{}", &switches);
        let pieces: Vec<_> = reply.pieces().collect();
        assert!(pieces.len() <= 5, "{pieces:?}");
        assert_eq!(pieces.concat(), switches.answer.unwrap());
    }

    #[test]
    fn pads_to_the_byte() {
        let switches = Switches { size: Some(1000), ..Switches::default() };
        assert!(matches!(reply("{}", &switches).content, Content::Text(text) if text.len() == 1000));
    }

    #[test]
    fn tool_arguments_carry_the_text() {
        let body = r#"{"messages":[{"role":"user","content":"call tool with \"x\""}],"tools":[{"name":"t"}]}"#;
        let Content::ToolCall { name, arguments } = reply(body, &Switches::default()).content else { panic!("no call") };
        assert_eq!((name.as_str(), arguments.as_str()), ("t", r#"{"text":"call tool with \"x\""}"#));
    }
}
