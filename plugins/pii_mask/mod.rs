//! Replaces personal data by tokens on the way to the provider, and restores it on the way back to the caller, in JSON
//! answers and in streams.

use std::time::Instant;

use crate::plugin::prelude::*;

mod body;
mod config;
mod detect;
mod json;
mod mask;
mod minted;
mod number;
mod restore;
mod shelf;
mod stream;
#[cfg(test)]
mod tests;
mod token;
mod vault;
mod vaults;

use body::{Reach, Unreadable};
use config::{Answers, Config};
use detect::Detector;
use mask::Masking;
use minted::Minted;
use restore::Restoring;
use stream::{Filter, Work};
use vaults::Vaults;
use wire::Form;

/// The manifest, as printed by `plugins show pii_mask`.
pub static MANIFEST: Manifest = Manifest {
    name: "pii_mask",
    version: "1.0.0",
    author: "Odock",
    category: "privacy",
    kind: "privacy",
    summary: "Masks personal data on the way to the provider and restores it on the way back.",
    gates: &[Gate::PreUpstream, Gate::PostUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadRequest, Need::WriteRequest, Need::ReadResponse, Need::WriteResponse, Need::Secrets],
    streams: true,
    evidence: &[
        ("masked", "how many values of each kind were masked, such as `email=2 phone=1`"),
        ("restored", "how many tokens became values again (answers that are not streamed)"),
        ("unknown_tokens", "how many tokens stood for nothing known in the organisation"),
    ],
    codes: &[],
    config_schema: schema_of::<Config>,
    build,
};

fn build(cx: &BuildContext<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: Config = cx.parse()?;
    let (detector, reversible) = config.detector()?;
    let secret = match &config.key {
        Some(name) => Some(cx.host.secret(name).map_err(|error| BuildError::at("key", error.to_string()))?),
        None => None,
    };
    if secret.as_ref().is_some_and(|secret| secret.expose().len() < 16) {
        return Err(BuildError::at("key", "the secret is shorter than 16 bytes"));
    }
    if !(1..=10_000_000).contains(&config.vault.capacity) {
        return Err(BuildError::at("vault.capacity", "1 to 10000000"));
    }
    let vaults = Vaults::of(cx.name, secret.as_ref().map(|s| s.expose()), config.ttl()?, config.vault.capacity)?;
    Ok(Arc::new(PiiMask {
        detector: Arc::new(detector),
        reversible: reversible.into(),
        answers: config.post_upstream,
        reach: Reach { tool_definitions: config.tool_definitions },
        vaults,
    }))
}

struct PiiMask {
    detector: Arc<Detector>,
    reversible: Arc<[bool]>,
    answers: Answers,
    reach: Reach,
    vaults: Arc<Vaults>,
}

fn unreadable(_: Unreadable) -> PluginError {
    PluginError::failed("the body is neither JSON nor text")
}

impl PiiMask {
    fn masking(&self, caller: Option<&Caller>) -> Masking {
        let organisation = caller.map(|caller| &caller.organisation.id);
        let keep = organisation.is_some() && self.answers == Answers::Restore;
        let vault = self.vaults.vault(organisation);
        Masking::new(self.detector.clone(), vault, keep, self.reversible.clone(), Instant::now())
    }

    fn restoring(&self, cx: &PostUpstream<'_>) -> Restoring {
        if let Some(left) = self.vaults.take(cx.request_id()) {
            return Restoring::new(left.minted, left.vault, Instant::now());
        }
        let vault = cx.caller().map(|caller| self.vaults.vault(Some(&caller.organisation.id)));
        Restoring::new(Minted::default(), vault, Instant::now())
    }

    fn restore(&self, cx: &mut PostUpstream<'_>, body: &Bytes) -> Result<(), PluginError> {
        if token::opens(body, 0).is_none() {
            self.vaults.take(cx.request_id());
            return Ok(());
        }
        let mut restoring = self.restoring(cx);
        let json = match Form::of(cx.dialect(), cx.response_header("content-type"), body) {
            Form::Media => return Ok(()),
            form => form == Form::Json,
        };
        // An answer that cannot be parsed keeps its tokens: that hides too much, but never too little.
        let restored = body::restore(body, json, &mut restoring).unwrap_or_default();
        for (key, count) in [("restored", restoring.restored), ("unknown_tokens", restoring.unknown)] {
            if count > 0 {
                cx.note(key, count.to_string());
            }
        }
        restored.map_or(Ok(()), |body| cx.set_response_body(body))
    }

    fn mask_answer(&self, cx: &mut PostUpstream<'_>, body: &Bytes) -> Result<(), PluginError> {
        let form = Form::of(cx.dialect(), cx.response_header("content-type"), body);
        if form == Form::Media || !self.detector.may_find(body) {
            return Ok(());
        }
        let mut masking = self.masking(cx.caller());
        let edits = body::mask(body, form == Form::Json, self.reach, &mut masking).map_err(unreadable)?;
        let Some(mut masked) = body::patched(body, &edits).map_err(unreadable)? else { return Ok(()) };
        if let Ok(text) = std::str::from_utf8(&masked)
            && let Some(quiet) = wire::patch(text.as_bytes(), &stream::log_probabilities(text))
        {
            masked = quiet;
        }
        if let Some(summary) = masking.summary() {
            cx.note("masked", summary);
        }
        cx.set_response_body(masked)
    }
}

#[async_trait]
impl Plugin for PiiMask {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        let body = cx.body()?;
        if body.is_empty() || !self.detector.may_find(body) {
            return Ok(Verdict::Next);
        }
        let json = match Form::of(cx.dialect(), cx.header("content-type"), body) {
            Form::Media => return Ok(Verdict::Next),
            form => form == Form::Json,
        };
        let mut masking = self.masking(cx.caller());
        let edits = body::mask(body, json, self.reach, &mut masking).map_err(unreadable)?;
        if edits.is_empty() {
            return Ok(Verdict::Next);
        }
        cx.edit_body(&edits)?;
        if let Some(summary) = masking.summary() {
            cx.note("masked", summary);
        }
        if self.answers == Answers::Restore {
            let vault = cx.caller().map(|_| masking.vault);
            self.vaults.leave(cx.request_id(), masking.minted, vault, masking.now);
        }
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        // Streams are handled by the filter.
        if self.answers == Answers::Off {
            return Ok(Verdict::Next);
        }
        let Some(body) = cx.response_body()?.cloned() else { return Ok(Verdict::Next) };
        match self.answers {
            Answers::Restore => self.restore(cx, &body)?,
            Answers::Mask => self.mask_answer(cx, &body)?,
            Answers::Off => {}
        }
        Ok(Verdict::Next)
    }

    fn stream(&self, cx: &PostUpstream<'_>) -> Option<Box<dyn StreamFilter>> {
        let work = match self.answers {
            Answers::Restore => Work::Restore(self.restoring(cx)),
            Answers::Mask => Work::Mask(self.masking(cx.caller())),
            Answers::Off => return None,
        };
        Some(Box::new(Filter::new(work, self.reach)))
    }
}
