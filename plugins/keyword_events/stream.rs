//! Counts words in streamed answers: every text of the stream is scanned as it passes. Nothing is held back or changed.

use super::config::{Rules, Side};
use super::{UnderWay, keep};
use crate::plugin::prelude::*;
use wire::{Channel, Kind};

/// Most texts of one stream that are counted.
const MOST_LINES: usize = 256;

/// Counts the words of one stream.
pub struct Watch {
    rules: Arc<Rules>,
    under_way: Arc<UnderWay>,
    request: RequestId,
    lines: Vec<(Channel, Tail)>,
    counts: Vec<u32>,
    told: bool,
}

impl Watch {
    pub fn new(rules: Arc<Rules>, under_way: Arc<UnderWay>, request: RequestId) -> Self {
        let counts = vec![0; rules.events.len()];
        Self { rules, under_way, request, lines: Vec::new(), counts, told: false }
    }

    fn fragment(&mut self, channel: Channel, piece: &str) {
        let place = match self.lines.iter().position(|(known, _)| *known == channel) {
            Some(place) => place,
            None if self.lines.len() >= MOST_LINES => return,
            None => {
                self.lines.push((channel, Tail::default()));
                self.lines.len() - 1
            }
        };
        let Self { rules, lines, counts, .. } = self;
        if let Some((_, tail)) = lines.get_mut(place) {
            tail.push(&rules.words, piece, &mut |word| rules.count(Side::Answer, word, counts));
        }
    }
}

impl StreamFilter for Watch {
    fn frame(&mut self, frame: Frame<'_>) -> Result<StreamVerdict, PluginError> {
        let mut pieces = Vec::new();
        // A frame that cannot be parsed contains no words.
        let _ = wire::stream_texts(frame.data.as_bytes(), &mut |text| {
            if let Some(channel) = text.channel.filter(|_| text.kind == Kind::Content && !text.key) {
                pieces.push((channel, text.text));
            }
        });
        for (channel, piece) in pieces {
            self.fragment(channel, &piece);
        }
        Ok(StreamVerdict::Pass)
    }

    fn notes(&mut self) -> Vec<(&'static str, String)> {
        let Self { rules, lines, counts, .. } = self;
        for (_, tail) in lines.iter_mut() {
            tail.finish(&rules.words, &mut |word| rules.count(Side::Answer, word, counts));
        }
        if self.counts.iter().all(|count| *count == 0) || std::mem::replace(&mut self.told, true) {
            return Vec::new();
        }
        let counts = self.counts.clone();
        keep(&self.under_way, self.request, counts.len(), |known| known.answer = counts);
        vec![("answer", self.rules.summary(&self.counts))]
    }
}
