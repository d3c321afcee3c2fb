//! The configuration under `config:`, and its compiled form.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use super::answer::{Answer, State};
use crate::plugin::prelude::*;

/// Configuration of `approval`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The approval system.
    approver: Receiver,
    /// What needs an approval; the first rule that applies is asked for.
    when: Vec<Rule>,
    /// What an approval is for: this use by this key, or this very request.
    #[serde(default)]
    per: Per,
    /// Whether the texts of the request are shown to the approval system.
    #[serde(default)]
    send_content: bool,
    /// Name of a secret in `grant.secrets`: the digest is an HMAC under it.
    digest_key: Option<String>,
    /// How long a request waits for a pending approval before it is refused. The instance's `timeout` must be longer.
    #[serde(default = "no_time")]
    wait: Span,
    /// How often it is asked again meanwhile.
    #[serde(default = "poll")]
    poll: Span,
    /// What callers of a pending approval are told to wait, where the approval system does not say.
    #[serde(default = "retry_after")]
    retry_after: Span,
    /// Whether the caller is told why an approval was denied.
    #[serde(default = "yes")]
    show_reason: bool,
    /// How long decisions are remembered.
    #[serde(default)]
    remember: Remember,
}

/// A sensitive use: every selector that is given must apply.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// For evidence, the approval system and people.
    name: String,
    /// The model is one of these.
    #[serde(default)]
    models: Vec<Glob>,
    /// The request offers, forces or calls one of these tools; built-in ones by their type, MCP servers as `mcp:LABEL`.
    #[serde(default)]
    tools: Vec<Glob>,
    /// A tag has one of these values.
    #[serde(default)]
    tags: BTreeMap<String, Vec<Glob>>,
}

/// What an approval is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Per {
    /// This key, this model and these tools, whatever is said.
    #[default]
    Use,
    /// The same, for exactly this body.
    Request,
}

/// How long decisions are remembered, at most; an approval system that says less is believed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Remember {
    /// What was approved.
    approved: Span,
    /// What was denied.
    denied: Span,
    /// What is pending: so long it is not asked about again.
    pending: Span,
    /// How many; the one unused for longest goes first.
    capacity: usize,
}

impl Default for Remember {
    fn default() -> Self {
        Self { approved: Span::seconds(300), denied: Span::seconds(60), pending: Span::seconds(1), capacity: 10_000 }
    }
}

fn no_time() -> Span {
    Span::seconds(0)
}

fn poll() -> Span {
    Span::millis(500)
}

fn retry_after() -> Span {
    Span::seconds(30)
}

fn yes() -> bool {
    true
}

/// A compiled rule for a sensitive use.
pub struct Want {
    pub name: String,
    models: Vec<Glob>,
    tools: Vec<Glob>,
    tags: BTreeMap<String, Vec<Glob>>,
}

impl Want {
    /// Whether the rule needs to know the request's tools.
    pub fn names_tools(&self) -> bool {
        !self.tools.is_empty()
    }

    /// The sensitive tools if the rule applies; empty for a rule that names no tools.
    pub fn meets(&self, model: Option<&str>, tools: &[String], tags: &[(String, String)]) -> Option<Vec<String>> {
        let any = |globs: &[Glob], name: &str| globs.iter().any(|glob| glob.matches(name));
        if !self.models.is_empty() && !model.is_some_and(|model| any(&self.models, model)) {
            return None;
        }
        let tagged = |(key, globs): (&String, &Vec<Glob>)| tags.iter().any(|(known, value)| known == key && any(globs, value));
        if !self.tags.iter().all(tagged) {
            return None;
        }
        let mut found: Vec<String> = tools.iter().filter(|tool| any(&self.tools, tool)).cloned().collect();
        found.sort_unstable();
        found.dedup();
        (self.tools.is_empty() || !found.is_empty()).then_some(found)
    }
}

/// The compiled configuration.
pub struct Rules {
    pub destination: Destination,
    pub wants: Vec<Want>,
    pub of_request: bool,
    pub send_content: bool,
    pub digester: Digester,
    pub wait: Duration,
    pub poll: Duration,
    pub retry_after: Duration,
    pub show_reason: bool,
    pub memory: Remembered<Answer>,
    remember: Remember,
}

impl Config {
    /// Compiles the configuration, and checks everything that can be checked before there is a request.
    pub fn compile(self, cx: &BuildContext<'_>) -> Result<Rules, BuildError> {
        let destination = self.approver.open("approver", &cx.host)?;
        if self.when.is_empty() {
            return Err(BuildError::at("when", "no rule: what needs an approval?"));
        }
        let mut wants: Vec<Want> = Vec::with_capacity(self.when.len());
        for (place, rule) in self.when.into_iter().enumerate() {
            let Rule { name, models, tools, tags } = rule;
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
                return Err(BuildError::at(format!("when.{place}.name"), "a name is 1-64 characters of [A-Za-z0-9_.-]"));
            }
            if wants.iter().any(|want| want.name == name) {
                return Err(BuildError::at(format!("when.{place}.name"), "this name is taken"));
            }
            if models.is_empty() && tools.is_empty() && tags.is_empty() {
                return Err(BuildError::at(format!("when.{place}"), "models, tools or tags: to ask about everything, `models: [\"*\"]`"));
            }
            wants.push(Want { name, models, tools, tags });
        }
        if self.poll.0 < Duration::from_millis(50) {
            return Err(BuildError::at("poll", "at least 50ms"));
        }
        if self.wait.0 > Duration::ZERO && self.wait.0 >= cx.timeout {
            let limit = format!("the instance's `timeout`, {:?}, ends the wait before: write a longer one beside `config`", cx.timeout);
            return Err(BuildError::at("wait", limit));
        }
        let key = self.digest_key.as_ref().map(|name| cx.host.secret(name)).transpose();
        let key = key.map_err(|error| BuildError::at("digest_key", error.to_string()))?;
        let capacity = NonZeroUsize::new(self.remember.capacity).filter(|capacity| capacity.get() <= 1_000_000);
        let capacity = capacity.ok_or_else(|| BuildError::at("remember.capacity", "1 to 1000000"))?;
        Ok(Rules {
            destination,
            wants,
            of_request: self.per == Per::Request,
            send_content: self.send_content,
            digester: Digester::new(key.as_ref()),
            wait: self.wait.0,
            poll: self.poll.0,
            retry_after: self.retry_after.0,
            show_reason: self.show_reason,
            memory: Remembered::new(capacity),
            remember: self.remember,
        })
    }
}

impl Rules {
    /// How long an answer is valid.
    pub fn ttl(&self, answer: &Answer) -> Duration {
        let most = match answer.state {
            State::Approved => self.remember.approved,
            State::Denied => self.remember.denied,
            State::Pending => self.remember.pending,
        };
        answer.ttl.map_or(most.0, |ttl| ttl.min(most.0))
    }
}
