//! Counts what the evidence log says about the instances of a plugin: what they did or would have done, to whom, why, and
//! at what cost.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

/// The members of a `request` or `execution` entry that are evaluated.
#[derive(Debug, Deserialize)]
struct Entry {
    kind: String,
    at: String,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    status: u16,
    code: Option<String>,
    key_id: Option<String>,
    team: Option<String>,
    model: Option<String>,
    route: Option<String>,
    #[serde(default)]
    executions: Vec<Step>,
    execution: Option<Step>,
    plugin: Option<String>,
    state: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Step {
    plugin: String,
    action: String,
    mode: String,
    moment: String,
    path: String,
    duration_us: u64,
    code: Option<String>,
    error: Option<String>,
    #[serde(default)]
    notes: BTreeMap<String, String>,
}

/// Counts over a group of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Requests on which it ran.
    pub requests: u64,
    /// Requests that it would have refused.
    pub would_block: u64,
    /// Requests that it would have changed.
    pub would_change: u64,
    /// Requests that it refused.
    pub blocked: u64,
    /// Requests that it changed.
    pub changed: u64,
    /// Requests on which it failed, timed out or panicked.
    pub failed: u64,
}

/// All counts.
#[derive(Debug, Default)]
pub struct Tally {
    /// Names of the instances that are counted.
    instances: HashSet<String>,
    /// Time of the first entry that counts.
    since: String,
    /// Counts over all requests.
    pub all: Counts,
    /// Requests that it skipped, by scope or rollout.
    pub skipped: u64,
    /// Counts by `team`, `key`, `model` and `route`, by name.
    pub by: BTreeMap<&'static str, BTreeMap<String, Counts>>,
    /// Number of refusals and changes by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Number of errors by text.
    pub errors: BTreeMap<String, u64>,
    /// Number of executions by action.
    pub actions: BTreeMap<String, u64>,
    /// Number of executions by mode.
    pub modes: BTreeMap<String, u64>,
    /// Of the requests it would have refused: those that something else refused, by code.
    pub refused_anyway: BTreeMap<String, u64>,
    /// Of the requests it would have refused: those that were answered.
    pub answered: u64,
    /// Of the requests it would have refused: those that failed for other reasons.
    pub failed_otherwise: u64,
    /// Number of delivery entries by state.
    pub deliveries: BTreeMap<String, u64>,
    /// Durations in microseconds of executions for which a request had to wait, by moment.
    pub took: BTreeMap<String, Vec<u64>>,
    /// Total microseconds that each request had to wait.
    pub added: Vec<u64>,
    /// Time of the first and of the last entry.
    pub span: Option<(String, String)>,
    /// Number of entries that could not be parsed.
    pub unreadable: u64,
    /// Counts by request id, so that a later execution is not counted as another request.
    seen: HashMap<String, Counts>,
}

impl Tally {
    /// A tally of the instances with these names, beginning at a time (RFC 3339, UTC).
    pub fn of(instances: impl IntoIterator<Item = String>, since: String) -> Self {
        Self { instances: instances.into_iter().collect(), since, ..Self::default() }
    }

    /// Counts one entry of the log.
    pub fn add(&mut self, entry: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<Entry>(entry) else {
            self.unreadable += 1;
            return;
        };
        if entry.at < self.since {
            return;
        }
        match entry.kind.as_str() {
            "request" => self.request(&entry),
            "execution" => self.later(&entry),
            "delivery" => {
                if let (Some(plugin), Some(state)) = (&entry.plugin, &entry.state)
                    && self.instances.contains(plugin)
                {
                    *self.deliveries.entry(state.clone()).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn request(&mut self, entry: &Entry) {
        let ours: Vec<&Step> = entry.executions.iter().filter(|step| self.instances.contains(&step.plugin)).collect();
        if ours.is_empty() {
            return;
        }
        self.spans(&entry.at);
        let (ran, skipped): (Vec<&Step>, Vec<&Step>) = ours.into_iter().partition(|step| !step.action.starts_with("skipped"));
        if ran.is_empty() {
            self.skipped += u64::from(!skipped.is_empty());
            return;
        }
        let mut counts = Counts { requests: 1, ..Counts::default() };
        let mut added = None;
        for step in &ran {
            self.step(step, &mut counts);
            if step.path == "response" {
                *added.get_or_insert(0) += step.duration_us;
            }
        }
        if let Some(added) = added {
            self.added.push(added);
        }
        if counts.would_block > 0 {
            match (&entry.code, entry.status) {
                (Some(code), _) => *self.refused_anyway.entry(code.clone()).or_default() += 1,
                (None, 200..=399) => self.answered += 1,
                _ => self.failed_otherwise += 1,
            }
        }
        self.group(entry, counts);
        self.seen.insert(entry.request_id.clone(), counts);
    }

    /// Counts an execution that ended after its request was recorded.
    fn later(&mut self, entry: &Entry) {
        let Some(step) = entry.execution.as_ref().filter(|step| self.instances.contains(&step.plugin)) else { return };
        self.spans(&entry.at);
        if step.action.starts_with("skipped") {
            self.skipped += 1;
            return;
        }
        let known = self.seen.contains_key(&entry.request_id);
        let mut counts = Counts { requests: u64::from(!known), ..Counts::default() };
        self.step(step, &mut counts);
        self.all.add(counts);
    }

    fn step(&mut self, step: &Step, counts: &mut Counts) {
        *self.actions.entry(step.action.clone()).or_default() += 1;
        *self.modes.entry(step.mode.clone()).or_default() += 1;
        if step.path == "response" {
            self.took.entry(step.moment.clone()).or_default().push(step.duration_us);
        }
        let once = |counted: &mut u64| *counted = 1;
        match step.action.as_str() {
            "would_block" => once(&mut counts.would_block),
            "would_change" => once(&mut counts.would_change),
            "blocked" => once(&mut counts.blocked),
            "changed" => once(&mut counts.changed),
            "error" | "timeout" | "panicked" => {
                once(&mut counts.failed);
                let why = step.error.clone().unwrap_or_else(|| step.action.clone());
                *self.errors.entry(why).or_default() += 1;
            }
            _ => {}
        }
        if matches!(step.action.as_str(), "would_block" | "would_change" | "blocked" | "changed") {
            *self.reasons.entry(reason(step)).or_default() += 1;
        }
    }

    fn group(&mut self, entry: &Entry, counts: Counts) {
        self.all.add(counts);
        let scopes = [("team", &entry.team), ("key", &entry.key_id), ("model", &entry.model), ("route", &entry.route)];
        for (scope, name) in scopes {
            if let Some(name) = name {
                self.by.entry(scope).or_default().entry(name.clone()).or_default().add(counts);
            }
        }
    }

    fn spans(&mut self, at: &str) {
        match &mut self.span {
            None => self.span = Some((at.to_owned(), at.to_owned())),
            Some((first, last)) => {
                if at < first.as_str() {
                    at.clone_into(first);
                }
                if at > last.as_str() {
                    at.clone_into(last);
                }
            }
        }
    }

    /// Number of executions with this action.
    pub fn ended(&self, action: &str) -> u64 {
        self.actions.get(action).copied().unwrap_or_default()
    }

    /// A count as a share of the requests on which it ran.
    #[allow(clippy::cast_precision_loss)] // counts of requests are far below 2^52
    pub fn share(&self, count: u64) -> f64 {
        if self.all.requests == 0 { 0.0 } else { count as f64 / self.all.requests as f64 }
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.would_block += other.would_block;
        self.would_change += other.would_change;
        self.blocked += other.blocked;
        self.changed += other.changed;
        self.failed += other.failed;
    }

    /// Number of requests refused or changed, in earnest or not.
    pub fn touched(self) -> u64 {
        self.would_block + self.would_change + self.blocked + self.changed
    }
}

/// The reason of a refusal or change: its code and notes. Notes with numbers are left out, since each number would make a
/// reason of its own.
fn reason(step: &Step) -> String {
    let named = step.notes.iter().filter(|(_, value)| !value.bytes().all(|b| b.is_ascii_digit()) && value.len() <= 60);
    let notes: Vec<String> = named.take(3).map(|(key, value)| format!("{key}={value}")).collect();
    let what = step.code.clone().unwrap_or_else(|| step.moment.clone());
    if notes.is_empty() { what } else { format!("{what} ({})", notes.join(", ")) }
}

/// The percentile `share` (0 to 1) of sorted values; 0 for an empty list.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // a place within the list
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(id: u32, team: &str, status: u16, code: Option<&str>, action: &str, micros: u64) -> Vec<u8> {
        let step = serde_json::json!({"plugin": "dlp", "action": action, "mode": "observe", "moment": "pre_upstream", "path": "response",
            "duration_us": micros, "code": (action == "would_block").then_some("dlp_refused"), "notes": {"rule": "words", "count": "3"}});
        let other = serde_json::json!({"plugin": "other", "action": "blocked", "mode": "enforce", "moment": "pre_route", "path": "response", "duration_us": 9});
        let entry = serde_json::json!({"kind": "request", "at": format!("2026-11-21T10:00:{id:02}.000000Z"), "request_id": id.to_string(),
            "team": team, "model": "fast", "route": "llm", "status": status, "code": code, "executions": [step, other]});
        entry.to_string().into_bytes()
    }

    #[test]
    fn verdicts_are_compared_with_what_happened() {
        let mut tally = Tally::of(["dlp".to_owned()], "2026-11-21T10:00:01.000000Z".to_owned());
        tally.add(&request(0, "a", 200, None, "would_block", 1));
        tally.add(&request(1, "a", 200, None, "would_block", 100));
        tally.add(&request(2, "b", 403, Some("plugin_blocked"), "would_block", 200));
        tally.add(&request(3, "b", 200, None, "allowed", 300));
        tally.add(&request(4, "b", 200, None, "timeout", 400));
        tally.add(&request(5, "b", 200, None, "skipped_rollout", 0));
        tally.add(b"{}");
        assert_eq!(tally.all, Counts { requests: 4, would_block: 2, failed: 1, ..Counts::default() }, "what is too old is left out");
        assert_eq!((tally.answered, tally.refused_anyway["plugin_blocked"], tally.skipped, tally.unreadable), (1, 1, 1, 1));
        assert_eq!(tally.by["team"]["b"], Counts { requests: 3, would_block: 1, failed: 1, ..Counts::default() });
        assert_eq!(tally.reasons["dlp_refused (rule=words)"], 2);
        assert_eq!(tally.added, [100, 200, 300, 400]);
        assert_eq!((percentile(&tally.added, 0.5), percentile(&tally.added, 0.99), percentile(&[], 0.5)), (200, 400, 0));
    }
}
