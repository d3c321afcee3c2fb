//! The configuration under `config:`, and its compiled form.

use crate::plugin::prelude::*;
use wire::{Part, Parts};

/// Configuration of `keyword_events`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What is looked for.
    events: Vec<Entry>,
    /// Which messages of a request are looked at.
    #[serde(default)]
    messages: Messages,
    /// Whether counts become tags, `keyword.request.NAME` and `keyword.answer.NAME`; ordered steps only.
    #[serde(default = "yes")]
    tags: bool,
    /// Where one event a request is sent, if anything was seen; listed at `post_response`.
    deliver: Option<Receiver>,
    /// `source` of the events that are sent.
    #[serde(default = "source")]
    source: String,
}

/// An event: words that mean the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Its name in tags, evidence and events.
    name: String,
    /// Words and phrases, in any case.
    words: Vec<String>,
    /// Where they are looked for.
    #[serde(default = "everywhere", rename = "in")]
    within: Vec<Side>,
    /// Whether letters and digits beside a word make it another one.
    #[serde(default = "yes")]
    whole_words: bool,
}

/// Where words are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// In what users say.
    Request,
    /// In what the model says.
    Answer,
}

/// Which messages of a request are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Messages {
    /// The user's last: earlier ones were counted when they were the last.
    #[default]
    Last,
    /// Every one of the user.
    All,
}

fn yes() -> bool {
    true
}

fn source() -> String {
    "odock-edge".to_owned()
}

fn everywhere() -> Vec<Side> {
    vec![Side::Request, Side::Answer]
}

/// An event with its name and sides.
pub struct Known {
    pub name: String,
    within: Vec<Side>,
}

/// The compiled configuration.
pub struct Rules {
    pub events: Vec<Known>,
    pub words: Arc<Words>,
    /// The index of the event of each word.
    event_of: Vec<usize>,
    all_messages: bool,
    pub tags: bool,
    pub deliver: Option<Destination>,
    pub source: String,
}

impl Config {
    /// Compiles the words, and checks where events are sent.
    pub fn compile(self, host: &Host) -> Result<Rules, BuildError> {
        if self.events.is_empty() {
            return Err(BuildError::at("events", "no event: what is looked for?"));
        }
        let (mut events, mut event_of, mut words) = (Vec::<Known>::new(), Vec::new(), Vec::new());
        for (place, entry) in self.events.iter().enumerate() {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            if entry.name.is_empty() || entry.name.len() > 40 || !entry.name.bytes().all(plain) {
                return Err(BuildError::at(format!("events.{place}.name"), "a name is 1-40 characters of [A-Za-z0-9_-]"));
            }
            if events.iter().any(|known| known.name == entry.name) {
                return Err(BuildError::at(format!("events.{place}.name"), "this name is taken"));
            }
            if entry.words.is_empty() || entry.within.is_empty() {
                return Err(BuildError::at(format!("events.{place}"), "an event has words, and is looked for somewhere"));
            }
            events.push(Known { name: entry.name.clone(), within: entry.within.clone() });
            for word in &entry.words {
                event_of.push(place);
                words.push((word.as_str(), entry.whole_words));
            }
        }
        let words = Words::compile(words).map_err(|(word, message)| {
            let event = event_of.get(word).copied().unwrap_or_default();
            let first = event_of.iter().position(|known| *known == event).unwrap_or_default();
            BuildError::at(format!("events.{event}.words.{}", word - first), message)
        })?;
        let deliver = self.deliver.map(|receiver| receiver.open("deliver", host)).transpose()?;
        let all_messages = self.messages == Messages::All;
        Ok(Rules { events, words, event_of, all_messages, tags: self.tags, deliver, source: self.source })
    }
}

impl Rules {
    /// Counts an occurrence of a word, if its event is looked for on this side.
    pub fn count(&self, side: Side, word: usize, counts: &mut [u32]) {
        let Some(event) = self.event_of.get(word).copied() else { return };
        if self.events.get(event).is_some_and(|known| known.within.contains(&side))
            && let Some(count) = counts.get_mut(event)
        {
            *count = count.saturating_add(1);
        }
    }

    fn of<'p>(&self, side: Side, parts: impl Iterator<Item = &'p Part>) -> Vec<u32> {
        let mut counts = vec![0; self.events.len()];
        for part in parts.filter(|part| !part.key) {
            self.words.count(&part.text, |word| self.count(side, word, &mut counts));
        }
        counts
    }

    /// The counts for a request.
    pub fn of_request(&self, parts: &Parts) -> Vec<u32> {
        let mut messages = parts.said();
        if !self.all_messages {
            messages = messages.pop().into_iter().collect();
        }
        self.of(Side::Request, messages.into_iter().flatten())
    }

    /// The counts for an answer.
    pub fn of_answer(&self, parts: &Parts) -> Vec<u32> {
        self.of(Side::Answer, parts.parts.iter())
    }

    /// Whether any event is looked for in answers.
    pub fn looks_at_answers(&self) -> bool {
        self.events.iter().any(|event| event.within.contains(&Side::Answer))
    }

    /// The events that occurred, with their counts.
    pub fn seen<'r>(&'r self, counts: &'r [u32]) -> impl Iterator<Item = (&'r str, u32)> {
        self.events.iter().map(|event| event.name.as_str()).zip(counts.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// A summary for evidence.
    pub fn summary(&self, counts: &[u32]) -> String {
        self.seen(counts).map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ")
    }
}
