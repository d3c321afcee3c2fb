//! The configuration under `config:`, and its compiled form.

use std::ops::Range;

use super::signals::Signals;
use crate::plugin::prelude::*;

/// Configuration of `recommendation`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Asked in this order; the first that applies is offered.
    offers: Vec<Entry>,
    /// A field of the head towards the caller that names the offer.
    header: Option<String>,
    /// Where offers are sent.
    deliver: Option<Receiver>,
    /// For how long the same is not offered again to the same user or key.
    #[serde(default = "no_time")]
    rest: Span,
    /// `source` of the events that are sent.
    #[serde(default = "source")]
    source: String,
}

/// An offer, or a workflow to begin.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// What the caller and the system outside are told.
    name: String,
    /// When it applies: everything that is given.
    when: When,
}

/// When an offer applies: everything that is given must hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct When {
    /// The user's last message has one of these words or phrases, in any case.
    words: Vec<String>,
    /// How many of them it must have.
    least: Option<u32>,
    /// The model is one of these.
    models: Vec<Glob>,
    /// The route is one of these.
    routes: Vec<Glob>,
    /// The client prefers one of these languages, by the primary subtag of `accept-language`.
    languages: Vec<String>,
    /// Messages of the user.
    turns: Bounds,
    /// Characters of the user's last message.
    characters: Bounds,
}

/// A number between bounds, both of them included.
#[derive(Debug, Default, Clone, Copy, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Bounds {
    /// At least.
    min: Option<u64>,
    /// At most.
    max: Option<u64>,
}

impl Bounds {
    fn holds(self, number: u64) -> bool {
        self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max)
    }

    fn is_given(self) -> bool {
        self.min.is_some() || self.max.is_some()
    }
}

fn no_time() -> Span {
    Span::seconds(0)
}

fn source() -> String {
    "odock-edge".to_owned()
}

/// A compiled rule.
pub struct Rule {
    /// The range of its words among those of all rules.
    words: Range<usize>,
    least: u32,
    models: Vec<Glob>,
    routes: Vec<Glob>,
    languages: Vec<String>,
    turns: Bounds,
    characters: Bounds,
}

impl Rule {
    /// Whether all given conditions hold.
    pub fn holds(&self, cx: &View<'_>, signals: &Signals) -> bool {
        let any = |globs: &[Glob], name: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
        let words: u32 = signals.words.get(self.words.clone()).unwrap_or_default().iter().fold(0, |sum, n| sum.saturating_add(*n));
        let language = signals.language.as_deref().unwrap_or_default();
        (self.words.is_empty() || words >= self.least)
            && any(&self.models, cx.model().unwrap_or_default())
            && any(&self.routes, cx.route())
            && (self.languages.is_empty() || self.languages.iter().any(|known| known == language))
            && self.turns.holds(signals.turns)
            && self.characters.holds(signals.characters)
    }
}

/// A compiled offer.
pub struct Offer {
    pub name: String,
    pub when: Rule,
}

/// The compiled configuration.
pub struct Rules {
    pub offers: Vec<Offer>,
    pub words: Option<Arc<Words>>,
    /// Whether any offer depends on the language.
    pub asks_for_languages: bool,
    pub header: Option<String>,
    pub deliver: Option<Destination>,
    pub rest: Duration,
    pub source: String,
}

impl Config {
    /// Compiles the rules, and checks where offers are sent.
    pub fn compile(self, host: &Host) -> Result<Rules, BuildError> {
        if self.offers.is_empty() {
            return Err(BuildError::at("offers", "no offer: what is recommended?"));
        }
        if let Some(header) = &self.header {
            let custom = header.to_ascii_lowercase().starts_with("x-") && HeaderName::from_bytes(header.as_bytes()).is_ok();
            if !custom || is_the_gateways(header) {
                return Err(BuildError::at("header", "a header of your own begins with x-"));
            }
        }
        let (mut offers, mut words, mut places) = (Vec::<Offer>::new(), Vec::new(), Vec::new());
        for (place, entry) in self.offers.into_iter().enumerate() {
            let at = |key: &str| format!("offers.{place}.{key}");
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if entry.name.is_empty() || entry.name.len() > 64 || !entry.name.bytes().all(plain) {
                return Err(BuildError::at(at("name"), "a name is 1-64 characters of [A-Za-z0-9_.-]"));
            }
            if offers.iter().any(|known| known.name == entry.name) {
                return Err(BuildError::at(at("name"), "this name is taken"));
            }
            let When { words: own, least, models, routes, languages, turns, characters } = entry.when;
            let bounded = turns.is_given() || characters.is_given();
            if own.is_empty() && models.is_empty() && routes.is_empty() && languages.is_empty() && !bounded {
                return Err(BuildError::at(at("when"), "nothing is given: it would apply to everything"));
            }
            let from = words.len();
            for (word, text) in own.into_iter().enumerate() {
                places.push(at(&format!("when.words.{word}")));
                words.push(text);
            }
            let words = from..words.len();
            let languages = languages.into_iter().map(|language| language.to_ascii_lowercase()).collect();
            let when = Rule { words, least: least.unwrap_or(1).max(1), models, routes, languages, turns, characters };
            offers.push(Offer { name: entry.name, when });
        }
        let compiled = match words.is_empty() {
            true => None,
            false => Some(
                Words::compile(words.iter().map(|word| (word.as_str(), true)))
                    .map_err(|(word, message)| BuildError::at(places.get(word).cloned().unwrap_or_default(), message))?,
            ),
        };
        let deliver = self.deliver.map(|receiver| receiver.open("deliver", host)).transpose()?;
        if deliver.is_none() && self.header.is_none() {
            return Err(BuildError::at("", "neither `deliver` nor `header`: nobody would hear of an offer"));
        }
        let asks_for_languages = offers.iter().any(|offer| !offer.when.languages.is_empty());
        Ok(Rules { offers, words: compiled, asks_for_languages, header: self.header, deliver, rest: self.rest.0, source: self.source })
    }
}
