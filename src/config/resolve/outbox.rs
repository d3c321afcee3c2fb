//! `outbox`.

use super::absent;
use super::process::{at_least_one, positive};
use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{Breaker, OutboxFull, Span};
use crate::outbox::{OnFull, OutboxSettings, SendSettings};

/// Most attempts in a schedule.
const ATTEMPTS: usize = 100;

pub(in crate::config) fn settings(config: &Config, problems: &mut Problems<'_>) -> OutboxSettings {
    let written = &config.root.outbox;
    at_least_one("outbox.max_pending", usize::try_from(written.max_pending).unwrap_or(usize::MAX), problems);
    at_least_one("outbox.in_flight", written.in_flight, problems);
    check("outbox", &written.schedule, written.timeout, written.breaker, problems);
    let mut instances = std::collections::HashMap::new();
    for (name, entry) in &written.instances {
        let here = format!("outbox.instances.{name}");
        if !config.root.plugins.iter().any(|plugin| plugin.name == *name) {
            absent(&here, "plugin instance", name, config.root.plugins.iter().map(|plugin| plugin.name.as_str()), problems);
        }
        let schedule = entry.schedule.as_ref().unwrap_or(&written.schedule);
        let (timeout, breaker) = (entry.timeout.unwrap_or(written.timeout), entry.breaker.unwrap_or(written.breaker));
        check(&here, schedule, timeout, breaker, problems);
        instances.insert(name.clone(), sending(schedule, timeout, breaker));
    }
    OutboxSettings {
        path: written.path.clone(),
        max_pending: written.max_pending,
        on_full: match written.on_full {
            OutboxFull::DropNewest => OnFull::DropNewest,
            OutboxFull::DropOldest => OnFull::DropOldest,
            OutboxFull::Deny => OnFull::Deny,
        },
        in_flight: written.in_flight,
        keep_dead: written.keep_dead.0,
        usual: sending(&written.schedule, written.timeout, written.breaker),
        instances,
    }
}

fn check(here: &str, schedule: &[Span], timeout: Span, breaker: Breaker, problems: &mut Problems<'_>) {
    if schedule.is_empty() || schedule.len() > ATTEMPTS {
        problems.error(&format!("{here}.schedule"), format!("a schedule has 1 to {ATTEMPTS} attempts"));
    }
    positive(&format!("{here}.timeout"), timeout, problems);
    at_least_one(&format!("{here}.breaker.failures"), breaker.failures as usize, problems);
    positive(&format!("{here}.breaker.pause"), breaker.pause, problems);
}

fn sending(schedule: &[Span], timeout: Span, breaker: Breaker) -> SendSettings {
    SendSettings {
        schedule: schedule.iter().map(|span| span.0).collect(),
        timeout: timeout.0,
        failures: breaker.failures,
        pause: breaker.pause.0,
    }
}
