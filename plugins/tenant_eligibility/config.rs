//! The configuration under `config:`, and its compiled form.

use super::condition::{Condition, Test};
use crate::plugin::prelude::*;

/// Configuration of `tenant_eligibility`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Asked in this order; the first whose condition holds decides.
    rules: Vec<Rule>,
    /// What is decided where no rule applies.
    default: Then,
    /// The code of refusals that name none.
    #[serde(default = "code")]
    code: String,
    /// The text of refusals that name none.
    #[serde(default = "message")]
    message: String,
}

/// One rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// For evidence.
    name: String,
    /// When it applies.
    when: Condition,
    /// What it decides.
    then: Then,
    /// The code of its refusal.
    code: Option<String>,
    /// The text of its refusal.
    message: Option<String>,
    /// The status of its refusal; 403 without.
    status: Option<u16>,
}

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Then {
    /// The request goes on.
    Allow,
    /// It is refused.
    Deny,
}

/// The refusal of a rule that names no code of its own.
pub const NOT_ELIGIBLE: Code = Code {
    code: "not_eligible",
    status: 403,
    message: "not eligible for this use",
    meaning: "A rule over what is known of the caller, the organisation, the team, the user or the model refuses, and names no code of its own.",
    remedy: "The evidence record of the request id names the rule; the operator changes it, or what is known of the caller.",
};

fn code() -> String {
    NOT_ELIGIBLE.code.to_owned()
}

fn message() -> String {
    NOT_ELIGIBLE.message.to_owned()
}

/// A decision, ready to be returned.
pub enum Ruling {
    Allow,
    Deny(Box<Denial>),
}

/// A compiled rule.
pub struct Decides {
    pub name: String,
    pub when: Test,
    pub then: Ruling,
}

/// The compiled configuration.
pub struct Rules {
    pub rules: Vec<Decides>,
    pub otherwise: Ruling,
}

impl Config {
    /// Compiles the rules; `host` says which metadata may be read.
    pub fn compile(self, host: &Host) -> Result<Rules, BuildError> {
        let ruling = |then: Then, at: &str, status: Option<u16>, code: &str, message: &str| {
            let path = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
            if then == Then::Allow {
                return Ok(Ruling::Allow);
            }
            let status = status.unwrap_or(NOT_ELIGIBLE.status);
            if !(400..=499).contains(&status) {
                return Err(BuildError::at(path("status"), "400 to 499"));
            }
            let denial = Denial::custom(status, code, message);
            if denial.code != code {
                return Err(BuildError::at(path("code"), "a code is 1-64 characters of [a-z0-9_]"));
            }
            Ok(Ruling::Deny(Box::new(denial)))
        };
        let otherwise = ruling(self.default, "", None, &self.code, &self.message)?;
        let mut rules: Vec<Decides> = Vec::with_capacity(self.rules.len());
        for (place, rule) in self.rules.into_iter().enumerate() {
            let at = format!("rules.{place}");
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if rule.name.is_empty() || rule.name.len() > 64 || !rule.name.bytes().all(plain) || rule.name == "default" {
                return Err(BuildError::at(format!("{at}.name"), "a name is 1-64 characters of [A-Za-z0-9_.-], and not `default`"));
            }
            if rules.iter().any(|known| known.name == rule.name) {
                return Err(BuildError::at(format!("{at}.name"), "this name is taken"));
            }
            let (code, message) = (rule.code.as_ref().unwrap_or(&self.code), rule.message.as_ref().unwrap_or(&self.message));
            let then = ruling(rule.then, &at, rule.status, code, message)?;
            rules.push(Decides { name: rule.name, when: rule.when.compile(&format!("{at}.when"), host, 0)?, then });
        }
        Ok(Rules { rules, otherwise })
    }
}
