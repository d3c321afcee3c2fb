//! Finds the needs that a plugin's cases really use. If every case has the same result without a need, the manifest asks for
//! too much or the cases show too little.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Refused, Seen};
use crate::gate::{Gate, Style};
use crate::plugin::{Manifest, Need};

/// The traces of a run, by place.
type Trace = BTreeMap<String, String>;

/// The grants that cases used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// Needs without which a case has another result.
    pub needs: BTreeSet<String>,
    /// Secrets without which a case has another result.
    pub secrets: BTreeSet<String>,
    /// The number of cases.
    pub cases: usize,
}

impl Used {
    /// Runs the cases with each of the manifest's needs withheld in turn.
    pub async fn by(manifest: &'static Manifest, cases: &[Case]) -> Self {
        let mut used = Self { cases: cases.len(), ..Self::default() };
        for case in cases {
            used.add(manifest, case).await;
        }
        used
    }

    /// Whether a case has another result without this need.
    pub fn has(&self, need: Need) -> bool {
        self.needs.contains(&need.to_string())
    }

    async fn add(&mut self, manifest: &'static Manifest, case: &Case) {
        let open: Vec<Need> = manifest.needs.iter().copied().filter(|need| !self.has(*need)).collect();
        let secrets: Vec<&String> = case.grant.secrets.keys().filter(|name| !self.secrets.contains(*name)).collect();
        if open.is_empty() && secrets.is_empty() {
            return;
        }
        let first = case.trace(manifest).await;
        // What differs between two equal runs (ids, times) is no evidence of a need.
        let second = case.trace(manifest).await;
        let mut moves = differing(&first, &second);
        for need in open {
            // `background` is a style and not a call: running in it is using it.
            let background = || case.style_at(manifest, Gate::PostResponse) == Style::Background;
            let stands = need == Need::Background && case.runs(manifest, Gate::PostResponse) && background();
            let without = Case { withheld: Some(need), ..case.clone() };
            if stands || differs(manifest, case, &without, &first, &mut moves).await {
                self.needs.insert(need.to_string());
            }
        }
        for name in secrets {
            let mut without = case.clone();
            without.grant.secrets.remove(name);
            if differs(manifest, case, &without, &first, &mut moves).await {
                self.secrets.insert(name.clone());
            }
        }
    }
}

/// The places at which two runs differ.
fn differing(one: &Trace, other: &Trace) -> BTreeSet<String> {
    one.keys().chain(other.keys()).filter(|key| one.get(*key) != other.get(*key)).cloned().collect()
}

/// Whether a case has another result than at first, at a place that does not vary by itself. Places that vary only with the
/// clock (times in seconds, signatures over them) show up in another equal run.
async fn differs(manifest: &'static Manifest, case: &Case, without: &Case, first: &Trace, moves: &mut BTreeSet<String>) -> bool {
    let found = differing(first, &without.trace(manifest).await);
    if found.is_subset(moves) {
        return false;
    }
    moves.extend(differing(first, &case.trace(manifest).await));
    !found.is_subset(moves)
}

impl Case {
    fn runs(&self, manifest: &Manifest, gate: Gate) -> bool {
        self.gates.as_deref().unwrap_or(manifest.gates).contains(&gate)
    }

    async fn trace(&self, manifest: &'static Manifest) -> Trace {
        match self.outcome(manifest).await {
            Ok(seen) => seen.trace(),
            Err(Refused::Build(why)) => [("build".to_owned(), why)].into(),
            Err(Refused::Case(why)) => [("case".to_owned(), why)].into(),
        }
    }
}

impl Seen {
    fn trace(&self) -> Trace {
        let mut trace = Trace::new();
        let mut put = |key: String, value: String| trace.insert(key, value);
        put("denial".into(), format!("{:?}", self.denial));
        for (place, frame) in self.frames.iter().enumerate() {
            put(format!("frames.{place}"), format!("{frame:?}"));
        }
        for (place, (url, headers, body)) in self.sent.iter().enumerate() {
            put(format!("sent.{place}"), url.clone());
            put(format!("sent.{place}.body"), format!("{body:?}"));
            for (name, value) in headers {
                put(format!("sent.{place}.{name}"), value.to_str().unwrap_or_default().to_owned());
            }
        }
        for (place, (delivery, outcome)) in self.deliveries.iter().enumerate() {
            put(format!("deliveries.{place}"), format!("{} {outcome}", delivery.destination));
            put(format!("deliveries.{place}.body"), format!("{:?}", delivery.body));
        }
        let Some(ex) = &self.exchange else { return trace };
        put("model".into(), format!("{:?}", ex.draft.model));
        put("body".into(), format!("{:?}", ex.draft.body));
        put("request_edits".into(), format!("{:?}", ex.draft.request_edits));
        put("response_edits".into(), format!("{:?}", ex.draft.response_edits));
        put("tags".into(), format!("{:?}", ex.draft.tags));
        put("response".into(), format!("{:?}", ex.draft.response.as_ref().map(|response| &response.body)));
        for (place, step) in ex.executions.iter().enumerate() {
            put(format!("step.{place}"), format!("{} {:?} {:?}", step.decision.as_str(), step.code, step.error));
            for (key, value) in &step.notes {
                put(format!("step.{place}.{key}"), value.clone());
            }
        }
        trace
    }
}
