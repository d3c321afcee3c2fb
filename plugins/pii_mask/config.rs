//! The configuration under `config:`.

use super::detect::{BUILT_IN, Detector, Own};
use super::token::LABEL_BYTES;
use crate::plugin::prelude::*;

/// Configuration of `pii_mask`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The built-in kinds to mask; all of them without.
    pub entities: Vec<Entity>,
    /// Kinds of your own.
    pub patterns: Vec<Pattern>,
    /// What happens to answers.
    pub post_upstream: Answers,
    /// Name of a secret in `grant.secrets` from which token keys are derived. With it a value has the same token after
    /// a restart and on every replica; without it the key is random and lives as long as the process.
    pub key: Option<String>,
    /// Kinds whose tokens are never restored, by name.
    pub irreversible: Vec<String>,
    /// Whether names, descriptions and schemas of tools are masked as well.
    pub tool_definitions: bool,
    /// How long values are remembered for later turns.
    pub vault: VaultConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entities: Entity::ALL.to_vec(),
            patterns: Vec::new(),
            post_upstream: Answers::Restore,
            key: None,
            irreversible: Vec::new(),
            tool_definitions: true,
            vault: VaultConfig::default(),
        }
    }
}

/// A built-in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// E-mail addresses.
    Email,
    /// Phone numbers with a country code, in North American form, or with a trunk zero.
    Phone,
    /// Card numbers with a valid check digit.
    CreditCard,
    /// IBANs with valid check digits.
    Iban,
    /// United States social security numbers.
    UsSsn,
    /// IPv4 and IPv6 addresses.
    IpAddress,
}

impl Entity {
    /// In the order of [`BUILT_IN`].
    const ALL: [Self; 6] = [Self::Email, Self::Phone, Self::CreditCard, Self::Iban, Self::UsSsn, Self::IpAddress];
}

/// A kind of the operator's own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// `[a-z][a-z0-9_]*`, at most 32 characters; upper-cased in tokens.
    pub name: String,
    /// A regular expression; it must not match the empty text.
    pub regex: String,
    /// Bytes of the longest match. In `mask` mode this much of a streamed answer is held back.
    #[serde(default = "longest_match")]
    pub max_length: usize,
}

fn longest_match() -> usize {
    64
}

/// What happens to answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// Tokens become the values they stand for.
    Restore,
    /// Tokens stay, and personal data the provider said is masked.
    Mask,
    /// Answers are left alone.
    Off,
}

/// Bounds of what is remembered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VaultConfig {
    /// Seconds, minutes, hours or days after its last use (`30s`, `10m`, `24h`, `7d`).
    pub ttl: String,
    /// Values per organisation; the one unused for longest goes first.
    pub capacity: usize,
}

impl Default for VaultConfig {
    fn default() -> Self {
        Self { ttl: "24h".to_owned(), capacity: 65_536 }
    }
}

impl Config {
    /// Compiles the detector, and for each kind whether its tokens are restored.
    pub fn detector(&self) -> Result<(Detector, Vec<bool>), BuildError> {
        let mut own = Vec::with_capacity(self.patterns.len());
        for (place, pattern) in self.patterns.iter().enumerate() {
            own.push(pattern.compile(place, &self.patterns)?);
        }
        let mut enabled = [false; BUILT_IN.len()];
        for (slot, entity) in enabled.iter_mut().zip(Entity::ALL) {
            *slot = self.entities.contains(&entity);
        }
        let detector = Detector::new(enabled, own).map_err(|error| BuildError::at("patterns", error))?;
        let mut reversible = vec![true; detector.kinds()];
        for (place, name) in self.irreversible.iter().enumerate() {
            let kind = (0..detector.kinds()).find(|kind| detector.name(*kind) == name);
            match kind.and_then(|kind| reversible.get_mut(kind)) {
                Some(slot) => *slot = false,
                None => {
                    let known: Vec<&str> = (0..detector.kinds()).map(|kind| detector.name(kind)).collect();
                    let message = format!("`{name}` is not one of {}", known.join(", "));
                    return Err(BuildError::at(format!("irreversible.{place}"), message));
                }
            }
        }
        Ok((detector, reversible))
    }

    /// `vault.ttl` as a duration.
    pub fn ttl(&self) -> Result<Duration, BuildError> {
        let text = self.vault.ttl.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let seconds = match unit {
            "s" => Some(1),
            "m" => Some(60),
            "h" => Some(3600),
            "d" => Some(86_400),
            _ => None,
        };
        seconds
            .zip(number.parse::<u64>().ok().filter(|n| (1..=366_000_000).contains(n)))
            .map(|(unit, number)| Duration::from_secs(unit * number))
            .ok_or_else(|| BuildError::at("vault.ttl", "a number with s, m, h or d, such as 24h"))
    }
}

impl Pattern {
    fn compile(&self, place: usize, all: &[Self]) -> Result<Own, BuildError> {
        let at = |field: &str, message: &str| Err(BuildError::at(format!("patterns.{place}.{field}"), message));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let shaped = self.name.starts_with(|c: char| c.is_ascii_lowercase()) && self.name.bytes().all(plain);
        if !shaped || self.name.len() > LABEL_BYTES {
            return at("name", "a name is [a-z][a-z0-9_]*, at most 32 characters");
        }
        let taken = BUILT_IN.iter().any(|(name, _)| *name == self.name);
        if taken || all.iter().take(place).any(|other| other.name == self.name) {
            return at("name", "this name is taken");
        }
        if !(1..=1024).contains(&self.max_length) {
            return at("max_length", "1 to 1024 bytes");
        }
        let regex = regex::RegexBuilder::new(&self.regex).size_limit(1 << 20).build();
        let regex = match regex {
            Ok(regex) => regex,
            Err(error) => return at("regex", &error.to_string()),
        };
        // Also refuses patterns that match nothing between boundaries, as `\b\d*\b` does: masking nothing is a mistake.
        let shortest = regex_syntax::parse(&self.regex).ok().and_then(|parsed| parsed.properties().minimum_len());
        if shortest == Some(0) {
            return at("regex", "it matches the empty text");
        }
        Ok(Own { name: self.name.clone(), regex, max_length: self.max_length })
    }
}
