//! Visits every string of a request, an answer or a stream event, with its place and meaning: the one walk that all
//! detectors, redactions and transformations share.

use std::borrow::Cow;
use std::ops::Range;

use super::grammar::{self, Flow, Node, TypeWord};
use super::head::ParseError;
use super::scan::{Literal, Scalar, Scan};
use super::vocabulary::{Vocabulary, is_name};

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Text of a user or a model.
    Content,
    /// Arguments of a tool call: a JSON text in OpenAI's dialects, single strings elsewhere.
    ToolArguments,
    /// The result of a tool.
    ToolResult,
    /// Names, descriptions and schemas of tools and of structured output.
    ToolDefinition,
    /// System and developer text.
    Instruction,
    /// Input of endpoints without messages: embeddings, completions, rerank, a bare Responses input.
    Input,
    /// The name or title of a file or document.
    FileName,
    /// Anything else that a person may have written: metadata, user ids, URLs, and unknown members.
    Metadata,
    /// Vocabulary of the protocol, ids and base64 data.
    Structural,
}

impl Kind {
    /// Every kind, in the order of declaration.
    pub const ALL: &'static [Self] = &[
        Self::Content,
        Self::ToolArguments,
        Self::ToolResult,
        Self::ToolDefinition,
        Self::Instruction,
        Self::Input,
        Self::FileName,
        Self::Metadata,
        Self::Structural,
    ];

    /// The stable name used in configuration and evidence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::ToolArguments => "tool_arguments",
            Self::ToolResult => "tool_result",
            Self::ToolDefinition => "tool_definition",
            Self::Instruction => "instruction",
            Self::Input => "input",
            Self::FileName => "file_name",
            Self::Metadata => "metadata",
            Self::Structural => "structural",
        }
    }
}

/// The role of a text's author. `Unknown` must be treated like any of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Role {
    /// No role, two different roles, or an unknown one was given.
    #[default]
    Unknown,
    /// `system` or `developer`.
    System,
    /// `user`.
    User,
    /// `assistant` or `model`.
    Assistant,
    /// `tool` or `function`.
    Tool,
}

/// One of the parallel texts of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// The answer.
    Text,
    /// Arguments of a tool call.
    Arguments,
    /// Reasoning that the provider shows.
    Reasoning,
    /// A refusal of the model.
    Refusal,
    /// Another text, such as the transcript of audio.
    Other,
}

/// The text that a fragment continues: the fragments of one channel, concatenated in order, are the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel {
    /// The kind of text.
    pub lane: Lane,
    /// Index of the choice, candidate, content block (Anthropic) or output item (Responses).
    pub outer: u32,
    /// Index of the tool call in the choice, or of the part in the output item.
    pub inner: u32,
}

/// One string of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a> {
    /// Its range inside the quotes, for [`super::splice`].
    pub span: Range<usize>,
    /// The decoded text; borrowed from the body unless it has escapes.
    pub text: Cow<'a, str>,
    /// What the text is for.
    pub kind: Kind,
    /// The role of its author.
    pub role: Role,
    /// Whether it is a member name in free-form JSON (arguments, metadata), not a value.
    pub key: bool,
    /// `Some` for a fragment of a stream, `None` for a whole text.
    pub channel: Option<Channel>,
}

/// Texts that are held back until their role is known. If a message has more strings than this before its `role`, the first
/// ones are visited as [`Role::Unknown`], so that memory stays bounded whatever a caller sends.
const HELD: usize = 1024;

/// Visits every string of a request or an answer in the order of the body.
///
/// # Errors
/// [`ParseError::Syntax`]; some texts may have been visited by then.
pub fn texts<'a>(body: &'a [u8], f: &mut dyn FnMut(Text<'a>)) -> Result<(), ParseError> {
    walk(body, Way::default(), f)
}

/// Like [`texts`], and also visits numbers in free-form JSON (arguments, results, metadata) that have as many digits as a
/// payment card. Their span is the number itself, since it has no quotes.
///
/// # Errors
/// As for [`texts`].
pub fn texts_and_numbers<'a>(body: &'a [u8], f: &mut dyn FnMut(Text<'a>)) -> Result<(), ParseError> {
    walk(body, Way { numbers: true, ..Way::default() }, f)
}

/// Like [`texts`], but texts are raw, with their escapes: nothing is decoded for a caller that changes a few bytes in few
/// strings.
///
/// # Errors
/// As for [`texts`].
pub fn raw_texts<'a>(body: &'a [u8], f: &mut dyn FnMut(Text<'a>)) -> Result<(), ParseError> {
    walk(body, Way { raw: true, ..Way::default() }, f)
}

/// Visits every string of the JSON of one stream event; fragments have a [`Channel`].
///
/// # Errors
/// [`ParseError::Syntax`], also for `[DONE]`, which is not JSON.
pub fn stream_texts<'a>(data: &'a [u8], f: &mut dyn FnMut(Text<'a>)) -> Result<(), ParseError> {
    walk(data, Way { stream: true, ..Way::default() }, f)
}

/// The numbers of digits with which a number may be a payment card.
const CARD_DIGITS: Range<usize> = 13..17;

/// The options of a walk.
#[derive(Clone, Copy, Default)]
struct Way {
    /// Fragments get channels.
    stream: bool,
    /// Texts are visited raw.
    raw: bool,
    /// Card-like numbers are visited too.
    numbers: bool,
}

fn walk<'a>(body: &'a [u8], way: Way, f: &mut dyn FnMut(Text<'a>)) -> Result<(), ParseError> {
    let mut walk = Walk { held: Vec::new(), gone: 0, open: 0, way, f };
    let mut scan = Scan::new(body)?;
    walk.value(&mut scan, Place { node: Node::Root, role: Role::Unknown, channel: None, position: 0 })?;
    scan.end()?;
    walk.release();
    Ok(())
}

struct Walk<'a, 'f> {
    held: Vec<Text<'a>>,
    /// Number of texts released before `held[0]`.
    gone: usize,
    /// Number of open objects whose members may still tell something about texts before them.
    open: u32,
    way: Way,
    f: &'f mut dyn FnMut(Text<'a>),
}

impl<'a> Walk<'a, '_> {
    fn emit(&mut self, text: Text<'a>) {
        if self.open == 0 {
            self.gone += 1;
            (self.f)(text);
            return;
        }
        if self.held.len() >= HELD {
            self.release();
        }
        self.held.push(text);
    }

    fn release(&mut self) {
        self.gone += self.held.len();
        for text in self.held.drain(..) {
            (self.f)(text);
        }
    }

    /// The sequence number of the next text.
    fn mark(&self) -> usize {
        self.gone + self.held.len()
    }

    /// The texts since a mark that are still held.
    fn since(&mut self, mark: usize) -> &mut [Text<'a>] {
        let from = mark.saturating_sub(self.gone).min(self.held.len());
        self.held.get_mut(from..).unwrap_or_default()
    }
}

/// What is known of a value before it is read.
#[derive(Clone, Copy)]
struct Place {
    node: Node,
    role: Role,
    channel: Option<Channel>,
    /// Its index in the enclosing array.
    position: u32,
}

/// What a value tells about its siblings.
enum Seen {
    Role(Role),
    Type(TypeWord),
    Number(u32),
    True,
    Nothing,
}

impl<'a> Walk<'a, '_> {
    fn value(&mut self, scan: &mut Scan<'a>, at: Place) -> Result<Seen, ParseError> {
        if at.node == Node::Numbers {
            return self.numbers(scan, at);
        }
        match scan.peek() {
            Some(b'"') => {
                let (span, plain) = scan.place()?;
                let inside = Cow::Borrowed(scan.inside(&span));
                // Only words that say something about others are read.
                let heard = matches!(at.node, Node::RoleWord | Node::TypeWord | Node::Url | Node::Keyword | Node::Term(_));
                let says = match plain || self.way.raw && !heard {
                    true => inside.clone(),
                    false => scan.decoded(&span)?,
                };
                let (kind, seen) = meaning(at.node, &says);
                let text = if self.way.raw { inside } else { says };
                self.emit(Text { span, text, kind, role: at.role, key: false, channel: at.channel });
                Ok(seen)
            }
            Some(b'{') => self.members(scan, at).map(|()| Seen::Nothing),
            Some(b'[') => {
                let mut element = Place { position: 0, ..at };
                scan.array(|scan| {
                    self.value(scan, element)?;
                    element.position = element.position.saturating_add(1);
                    Ok(())
                })?;
                Ok(Seen::Nothing)
            }
            _ => Ok(match scan.scalar()? {
                Scalar::Bool(true) => Seen::True,
                Scalar::Number(digits) => {
                    if self.way.numbers && CARD_DIGITS.contains(&digits.len()) && matches!(at.node, Node::Free(_)) {
                        let (span, kind) = (scan.at() - digits.len()..scan.at(), meaning(at.node, digits).0);
                        self.emit(Text { span, text: Cow::Borrowed(digits), kind, role: at.role, key: false, channel: None });
                    }
                    digits.parse::<u64>().map_or(Seen::Nothing, |n| Seen::Number(u32::try_from(n).unwrap_or(u32::MAX)))
                }
                _ => Seen::Nothing,
            }),
        }
    }

    /// Skips a list of numbers without reading each; a list that contains a string is walked like any other value.
    fn numbers(&mut self, scan: &mut Scan<'a>, at: Place) -> Result<Seen, ParseError> {
        let first = scan.peek();
        let mut again = scan.clone();
        scan.skip()?;
        let read = again.rest().len() - scan.rest().len();
        if memchr::memchr(b'"', again.rest().get(..read).unwrap_or_default()).is_some() {
            let node = if first == Some(b'"') { Node::Term(Vocabulary::Data) } else { grammar::UNKNOWN };
            self.value(&mut again, Place { node, ..at })?;
        }
        Ok(Seen::Nothing)
    }

    fn members(&mut self, scan: &mut Scan<'a>, at: Place) -> Result<(), ParseError> {
        match at.node {
            Node::Free(kind) => scan.object(|scan, Literal { text, span }| {
                let text = if self.way.raw { Cow::Borrowed(scan.inside(&span)) } else { text };
                self.emit(Text { span, text, kind, role: at.role, key: true, channel: None });
                self.value(scan, Place { channel: None, ..at }).map(|_| ())
            }),
            Node::Block(_) | Node::Choice | Node::Call => self.scoped(scan, at, true),
            Node::Root => self.scoped(scan, at, self.way.stream),
            _ => scan.object(|scan, key| {
                let (node, _) = grammar::member(at.node, &key.text);
                self.name(scan, node, &key, at.role);
                let role = grammar::speaker(at.node, &key.text).unwrap_or(at.role);
                self.value(scan, Place { node, role, channel: None, position: 0 }).map(|_| ())
            }),
        }
    }

    /// The name of a member that no table knows is a text where no program gave it: `{"users":{"bob@example.org":1}}`.
    fn name(&mut self, scan: &Scan<'a>, node: Node, name: &Literal<'a>, role: Role) {
        if node == grammar::UNKNOWN && !is_name(&name.text) {
            let text = if self.way.raw { Cow::Borrowed(scan.inside(&name.span)) } else { name.text.clone() };
            self.emit(Text { span: name.span.clone(), text, kind: Kind::Metadata, role, key: true, channel: None });
        }
    }

    /// An object whose members say something about the texts in it.
    fn scoped(&mut self, scan: &mut Scan<'a>, at: Place, holds: bool) -> Result<(), ParseError> {
        let start = self.mark();
        self.open += u32::from(holds);
        let mut scope = Scope::default();
        scan.object(|scan, name| {
            let key = &*name.text;
            let (node, flow) = grammar::member(at.node, key);
            self.name(scan, node, &name, at.role);
            let channel = match flow {
                Flow::Whole => None,
                Flow::Keep => at.channel,
                Flow::On(lane) => at.channel.map(|channel| Channel { lane, ..channel }),
                Flow::Start if self.way.stream => Some(Channel { lane: Lane::Text, outer: 0, inner: 0 }),
                Flow::Start => None,
            };
            // `thinking` contains blocks of its own: the lane of reasoning must not be left again for the text within.
            let channel = match (channel, at.channel) {
                (Some(mine), Some(above)) if mine.lane == Lane::Text => Some(above),
                _ => channel,
            };
            let role = match grammar::speaker(at.node, key) {
                _ if at.role != Role::Unknown => at.role,
                Some(role) => role,
                // Texts of a root are not held back, so only a `role` before the content applies to it.
                None if at.node == Node::Root => scope.role.unwrap_or_default(),
                None => Role::Unknown,
            };
            let from = self.mark();
            let seen = self.value(scan, Place { node, role, channel, position: 0 })?;
            scope.note(at.node, key, seen, from..self.mark());
            Ok(())
        })?;
        if holds {
            scope.settle(self, at, start);
            self.open -= 1;
            if self.open == 0 {
                self.release();
            }
        }
        Ok(())
    }
}

/// The kind of a string by its place, and what it tells about its siblings.
fn meaning(node: Node, text: &str) -> (Kind, Seen) {
    let term = |words: Vocabulary, otherwise| if words.has(text) { Kind::Structural } else { otherwise };
    match node {
        Node::Block(kind) | Node::Free(kind) | Node::Leaf(kind) => (kind, Seen::Nothing),
        Node::Term(words) => (term(words, Kind::Metadata), Seen::Nothing),
        Node::RoleWord => (term(Vocabulary::Type, Kind::Metadata), Seen::Role(grammar::role(text))),
        Node::TypeWord => (term(Vocabulary::Type, Kind::Metadata), Seen::Type(grammar::type_word(text))),
        Node::Keyword => (term(Vocabulary::Type, Kind::ToolDefinition), Seen::Nothing),
        Node::Definition => (Kind::ToolDefinition, Seen::Nothing),
        Node::TextOrFormat => (Kind::Content, Seen::Nothing),
        Node::Url if text.as_bytes().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:")) => {
            (Kind::Structural, Seen::Nothing)
        }
        Node::Numbers => (Kind::Structural, Seen::Nothing),
        Node::Url | Node::Root | Node::Choice | Node::Call | Node::Params | Node::Outcome | Node::Datum => (Kind::Metadata, Seen::Nothing),
    }
}

/// What the members of an object tell about the texts in it, whatever their order.
#[derive(Default)]
struct Scope {
    role: Option<Role>,
    kind: Option<TypeWord>,
    tool_result: bool,
    thought: bool,
    outer: Option<u32>,
    inner: Option<u32>,
    /// The texts of `delta` or `content_block`.
    fragments: Option<Range<usize>>,
    /// The text of `data`.
    data: Option<usize>,
}

impl Scope {
    /// Remembers what a member tells about its siblings.
    fn note(&mut self, node: Node, key: &str, seen: Seen, texts: Range<usize>) {
        match seen {
            Seen::Role(role) => {
                let clash = self.role.is_some_and(|before| before != role);
                self.role = Some(if clash { Role::Unknown } else { role });
            }
            Seen::Type(word) => {
                self.tool_result |= word == TypeWord::ToolResult;
                self.kind = Some(word);
            }
            Seen::Number(n) => match key {
                "index" | "output_index" => self.outer = Some(n),
                "content_index" | "summary_index" => self.inner = Some(n),
                _ => {}
            },
            Seen::True => self.thought |= key == "thought",
            Seen::Nothing => match key {
                "tool_use_id" => self.tool_result = true,
                "data" => self.data = Some(texts.start).filter(|_| texts.len() == 1),
                "delta" | "content_block" if node == Node::Root => self.fragments = Some(texts),
                _ => {}
            },
        }
    }

    /// Applies it to the texts of the object.
    fn settle(self, walk: &mut Walk<'_, '_>, at: Place, start: usize) {
        match at.node {
            Node::Choice => {
                let outer = self.outer.unwrap_or(at.position);
                for text in walk.since(start) {
                    if let Some(channel) = &mut text.channel {
                        channel.outer = outer;
                    }
                }
            }
            Node::Call => {
                let inner = self.outer.unwrap_or(at.position);
                if inner > 0 {
                    for text in walk.since(start) {
                        if let Some(channel) = &mut text.channel {
                            channel.inner = inner;
                        }
                    }
                }
            }
            Node::Root => self.settle_event(walk),
            _ => self.settle_block(walk, start),
        }
    }

    fn settle_block(self, walk: &mut Walk<'_, '_>, start: usize) {
        if let (Some(data), Some(TypeWord::Text)) = (self.data, self.kind)
            && let Some(text) = walk.since(data).first_mut()
        {
            text.kind = Kind::Content;
        }
        let role = self.role.unwrap_or(if self.tool_result { Role::Tool } else { Role::Unknown });
        let content = match role {
            _ if self.tool_result => Kind::ToolResult,
            Role::System => Kind::Instruction,
            Role::Tool => Kind::ToolResult,
            _ => Kind::Content,
        };
        if role == Role::Unknown && content == Kind::Content && !self.thought {
            return;
        }
        for text in walk.since(start) {
            if text.role == Role::Unknown {
                text.role = role;
            }
            if text.kind == Kind::Content {
                text.kind = content;
            }
            if self.thought
                && let Some(channel) = &mut text.channel
            {
                channel.lane = Lane::Reasoning;
            }
        }
    }

    fn settle_event(self, walk: &mut Walk<'_, '_>) {
        let Some(fragments) = self.fragments else { return };
        let count = fragments.len();
        for text in walk.since(fragments.start).iter_mut().take(count) {
            let Some(channel) = &mut text.channel else { continue };
            channel.outer = self.outer.unwrap_or(0);
            channel.inner = self.inner.unwrap_or(0);
            match self.kind {
                Some(TypeWord::Event(lane)) => {
                    channel.lane = lane;
                    if lane == Lane::Arguments {
                        text.kind = Kind::ToolArguments;
                    }
                }
                Some(TypeWord::Media) => {
                    text.kind = Kind::Structural;
                    text.channel = None;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "texts_test.rs"]
mod tests;
