//! Personal data and secrets in text: one pass over the bytes that stops only at possible candidates, hand-written checks
//! for each kind, and the same for a text that arrives in pieces.
//!
//! Time is linear in the text: every candidate is decided by a bounded stretch of it.

mod address;
mod assigned;
mod card;
mod checks;
mod crypt;
mod email;
mod gate;
mod groups;
mod iban;
mod jwt;
mod key_block;
mod light;
mod naming;
mod own;
mod phone;
mod provider;
mod published;
mod shared;
mod ssn;
mod stream;
mod sweep;
mod token;
mod view;
mod worth;

#[cfg(test)]
mod cases_test;
#[cfg(test)]
mod entity_test;

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use light::Light;
pub use own::{Own, Pattern, Validator};
pub use shared::Shared;
pub use stream::Stream;

use sweep::{Progress, sweep};
use view::View;

/// Names of members, beside those of secrets, by which a number is known.
const NUMBERS: [&str; 9] = ["ssn", "socialsecuritynumber", "phone", "phonenumber", "telephone", "mobile", "cell", "tel", "fax"];

/// Whether the name of a member tells what its value is, as `password` does and `note` does not.
pub fn says_what(name: &str) -> bool {
    let letters = || name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase());
    naming::sort_of(name.as_bytes()).is_some() || NUMBERS.iter().any(|number| letters().eq(number.bytes()))
}

/// A built-in kind. The spelling is the category in findings and the name in configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// E-mail addresses.
    Email,
    /// Phone numbers: international, North American, with a trunk zero, or where the text speaks of a phone.
    Phone,
    /// Payment card numbers with a valid check digit.
    CreditCard,
    /// IBANs with valid check digits.
    Iban,
    /// United States social security numbers.
    UsSsn,
    /// IPv4 and IPv6 addresses.
    IpAddress,
    /// Keys of OpenAI.
    OpenaiKey,
    /// Keys of Anthropic.
    AnthropicKey,
    /// Access keys of Amazon Web Services.
    AwsKey,
    /// API keys, OAuth tokens and secrets of Google.
    GoogleKey,
    /// Tokens of GitHub.
    GithubToken,
    /// Tokens and webhooks of Slack.
    SlackToken,
    /// Keys of Stripe.
    StripeKey,
    /// JSON Web Tokens.
    Jwt,
    /// Private keys in PEM, OpenSSH or PGP armour.
    PrivateKey,
    /// Values that the text calls a password.
    Password,
    /// Other keys: known prefixes, values that the text calls a key, and strings only a machine can have drawn.
    Token,
}

impl Entity {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Email,
        Self::Phone,
        Self::CreditCard,
        Self::Iban,
        Self::UsSsn,
        Self::IpAddress,
        Self::OpenaiKey,
        Self::AnthropicKey,
        Self::AwsKey,
        Self::GoogleKey,
        Self::GithubToken,
        Self::SlackToken,
        Self::StripeKey,
        Self::Jwt,
        Self::PrivateKey,
        Self::Password,
        Self::Token,
    ];

    /// The category in findings and the name in configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::CreditCard => "credit_card",
            Self::Iban => "iban",
            Self::UsSsn => "us_ssn",
            Self::IpAddress => "ip_address",
            Self::OpenaiKey => "openai_key",
            Self::AnthropicKey => "anthropic_key",
            Self::AwsKey => "aws_key",
            Self::GoogleKey => "google_key",
            Self::GithubToken => "github_token",
            Self::SlackToken => "slack_token",
            Self::StripeKey => "stripe_key",
            Self::Jwt => "jwt",
            Self::PrivateKey => "private_key",
            Self::Password => "password",
            Self::Token => "token",
        }
    }
}

/// A set of built-in kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chosen(u32);

impl Chosen {
    /// Whether a kind is in the set.
    pub fn has(self, entity: Entity) -> bool {
        self.0 & (1 << entity as u32) != 0
    }

    /// Whether any kind of secret is in the set.
    pub fn any_secret(self) -> bool {
        self.0 >> Entity::OpenaiKey as u32 != 0
    }
}

impl FromIterator<Entity> for Chosen {
    fn from_iter<I: IntoIterator<Item = Entity>>(entities: I) -> Self {
        Self(entities.into_iter().fold(0, |set, entity| set | 1 << entity as u32))
    }
}

/// The kind of a find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A built-in kind.
    BuiltIn(Entity),
    /// The custom pattern with this index.
    Own(usize),
}

/// A value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Find {
    /// Its range in bytes of the text, on character boundaries.
    pub span: Range<usize>,
    /// Its kind.
    pub kind: Kind,
}

/// The kinds and patterns to look for, compiled once per configuration.
#[derive(Debug, Clone)]
pub struct Detector {
    chosen: Chosen,
    own: Vec<Own>,
}

impl Detector {
    /// A detector of these kinds and custom patterns.
    pub fn new(entities: impl IntoIterator<Item = Entity>, own: Vec<Own>) -> Self {
        Self { chosen: entities.into_iter().collect(), own }
    }

    /// Whether it looks for every built-in kind and nothing else.
    pub fn plain(&self) -> bool {
        self.own.is_empty() && Entity::ALL.into_iter().all(|entity| self.chosen.has(entity))
    }

    /// The category of a kind.
    pub fn name(&self, kind: Kind) -> &str {
        match kind {
            Kind::BuiltIn(entity) => entity.as_str(),
            Kind::Own(place) => self.own.get(place).map_or("own", Own::name),
        }
    }

    /// All finds in a whole text: built-in kinds first, in order and without overlaps; then custom patterns, each in order.
    pub fn scan(&self, text: &str) -> Vec<Find> {
        let mut out = Vec::new();
        if light::differs(text) {
            let mut read = Light::default();
            read.push(text);
            self.read(read.text(), |find| {
                out.push(Find { span: read.start(find.span.start)..read.end(find.span.end), kind: find.kind });
            });
        } else {
            self.read(text, |find| out.push(find));
        }
        out
    }

    fn read(&self, text: &str, mut found: impl FnMut(Find)) {
        let view = View::new(text.as_bytes(), true);
        sweep(&view, self.chosen, &mut Progress::default(), |span, entity| {
            found(Find { span, kind: Kind::BuiltIn(entity) });
        });
        for (place, pattern) in self.own.iter().enumerate() {
            pattern.sweep(text, 0, true, |span| found(Find { span, kind: Kind::Own(place) }));
        }
    }
}
