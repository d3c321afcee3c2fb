//! `plugins report`: compares what an observing plugin would have done with what happened, as a basis for enforcing it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::super::{FAILED, INVALID_CONFIG, named_configuration, print, tell, tell_diagnostics};
use super::Format;
use super::tally::{Counts, Tally, percentile};
use crate::config::{self, Span};
use crate::evidence::{entries, files_below};
use crate::plugin::Roster;
use crate::telemetry::time::Rfc3339;

/// Most reasons, errors and names of a scope that are printed.
const SHOWN: usize = 10;
/// Number of requests below which an observation means little.
const FEW: u64 = 500;

const EXAMPLES: &str = "Examples:
  odock-edge plugins report corporate_dlp --since 24h -c conf/odock.yaml
  odock-edge plugins report corporate_dlp --since 7d --evidence var/evidence/evidence-000007.jsonl --format json

NAME is an instance; with -c also a plugin, of which all instances count. Counts are of requests. Nothing is verified:
`odock-edge evidence verify` says whether the log is whole.";

/// Arguments of `plugins report`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Name of an instance or, with -c, of a plugin
    name: String,
    /// How far back: 90m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = span)]
    since: Span,
    /// The configuration that names the evidence directory and the instances; that of ODOCK_CONFIG, else ./var/evidence
    #[arg(short, long, value_name = "FILE", conflicts_with = "evidence")]
    config: Option<PathBuf>,
    /// Files or directories of evidence
    #[arg(long, value_name = "FILE", num_args = 1..)]
    evidence: Vec<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "a time with its unit, such as 24h".to_owned())
}

/// Prints the report. Returns 0 when the log could be read, even if the plugin never ran.
pub fn run(args: &Args, roster: &Roster) -> i32 {
    let tally = match counted(args, roster) {
        Ok(tally) => tally,
        Err(code) => return code,
    };
    let report = Report { name: &args.name, since: args.since, tally };
    match args.format {
        Format::Text => print(&report.text()),
        Format::Json => print(&format!("{:#}\n", report.json())),
    }
}

fn counted(args: &Args, roster: &Roster) -> Result<Tally, i32> {
    let mut known = roster.find(&args.name).is_some();
    let mut names = vec![args.name.clone()];
    let mut places = args.evidence.clone();
    let config = if places.is_empty() { named_configuration(args.config.as_ref()) } else { None };
    if let Some(file) = &config {
        let loaded = config::load(file, roster).map_err(|diagnostics| {
            tell_diagnostics(&diagnostics);
            INVALID_CONFIG
        })?;
        let root = loaded.config.sections();
        names.extend(root.plugins.iter().filter(|entry| entry.plugin() == args.name).map(|entry| entry.name.clone()));
        places.push(root.evidence.path.clone());
        known |= root.plugins.iter().any(|entry| entry.name == args.name);
    } else if places.is_empty() {
        places.push(PathBuf::from("./var/evidence"));
    }
    let since = SystemTime::now().checked_sub(args.since.0).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut tally = Tally::of(names, Rfc3339(since).to_string());
    for place in places {
        let failed = |error: std::io::Error| {
            tell(&format!("odock-edge: {}: {error}", place.display()));
            FAILED
        };
        let files = if place.is_dir() { files_below(&place).map_err(failed)? } else { vec![place.clone()] };
        // Instances may have other names than the argument; every entry of a request is looked at.
        entries(&files, "\"kind\":\"", &mut |written| tally.add(written.entry)).map_err(failed)?;
    }
    if !known && tally.all.requests == 0 && tally.skipped == 0 && tally.deliveries.is_empty() {
        tell(&format!("`{}` is no plugin of this build, no instance of a configuration, and not in this evidence", args.name));
        return Err(FAILED);
    }
    tally.added.sort_unstable();
    tally.took.values_mut().for_each(|took| took.sort_unstable());
    Ok(tally)
}

struct Report<'a> {
    name: &'a str,
    since: Span,
    tally: Tally,
}

impl Report<'_> {
    fn json(&self) -> Value {
        let tally = &self.tally;
        let latency = |took: &[u64]| json!({"p50_us": percentile(took, 0.5), "p95_us": percentile(took, 0.95), "p99_us": percentile(took, 0.99), "runs": took.len()});
        json!({
            "plugin": self.name,
            "since": self.since.to_string(),
            "first": tally.span.as_ref().map(|(first, _)| first),
            "last": tally.span.as_ref().map(|(_, last)| last),
            "modes": tally.modes,
            "counts": tally.all,
            "skipped": tally.skipped,
            "actions": tally.actions,
            "would_block": {
                "answered": tally.answered,
                "refused_anyway": tally.refused_anyway,
                "failed_otherwise": tally.failed_otherwise,
            },
            "by": tally.by,
            "reasons": tally.reasons,
            "errors": tally.errors,
            "deliveries": tally.deliveries,
            "latency": latency(&tally.added),
            "latency_by_moment": tally.took.iter().map(|(moment, took)| (moment.clone(), latency(took))).collect::<serde_json::Map<_, _>>(),
            "unreadable": tally.unreadable,
            "recommendation": self.recommendation(),
        })
    }

    fn text(&self) -> String {
        let tally = &self.tally;
        let all = tally.all;
        let mut text = format!("{}, the last {}\n", self.name, self.since);
        if let Some((first, last)) = &tally.span {
            let modes: Vec<String> = tally.modes.iter().map(|(mode, runs)| format!("{mode} {runs}")).collect();
            let _ = writeln!(text, "from {first} to {last}; runs by mode: {}\n", modes.join(", "));
        }
        let of_all = |count: u64| format!("{count} ({:.2} %)", tally.share(count) * 100.0);
        let _ = writeln!(text, "requests it looked at   {}", all.requests);
        let _ = writeln!(text, "out of scope or rollout {}", tally.skipped);
        let _ = writeln!(text, "would have refused      {}", of_all(all.would_block));
        if all.would_block > 0 {
            let _ = writeln!(text, "  and were answered     {}", tally.answered);
            for (code, count) in &tally.refused_anyway {
                let _ = writeln!(text, "  refused anyway        {count} by {code}");
            }
            if tally.failed_otherwise > 0 {
                let _ = writeln!(text, "  failed otherwise      {}", tally.failed_otherwise);
            }
        }
        let _ = writeln!(text, "would have changed      {}", of_all(all.would_change));
        for (what, count) in [("refused", all.blocked), ("changed", all.changed)] {
            if count > 0 {
                let _ = writeln!(text, "{what:<23} {}", of_all(count));
            }
        }
        let _ = writeln!(
            text,
            "failed                  {} (errors {}, timeouts {}, panics {})",
            of_all(all.failed),
            tally.ended("error"),
            tally.ended("timeout"),
            tally.ended("panicked")
        );
        for (state, count) in &tally.deliveries {
            let _ = writeln!(text, "deliveries {state:<12} {count}");
        }
        self.latency(&mut text);
        self.scopes(&mut text);
        list(&mut text, "top reasons", &tally.reasons);
        list(&mut text, "errors", &tally.errors);
        if tally.unreadable > 0 {
            let _ = writeln!(text, "\n{} entries could not be read", tally.unreadable);
        }
        let _ = writeln!(text, "\n{}", self.recommendation());
        text
    }

    fn latency(&self, text: &mut String) {
        if self.tally.added.is_empty() {
            return;
        }
        let line = |took: &[u64]| {
            let millis = |share| format!("{:.3} ms", micros(percentile(took, share)));
            format!("p50 {}, p95 {}, p99 {}", millis(0.5), millis(0.95), millis(0.99))
        };
        let _ = writeln!(text, "\nadded to a request      {}", line(&self.tally.added));
        for (moment, took) in &self.tally.took {
            let _ = writeln!(text, "  {moment:<21} {}", line(took));
        }
    }

    fn scopes(&self, text: &mut String) {
        for (scope, names) in &self.tally.by {
            let mut touched: Vec<(&String, &Counts)> = names.iter().filter(|(_, counts)| counts.touched() + counts.failed > 0).collect();
            touched.sort_by_key(|(name, counts)| (std::cmp::Reverse(counts.touched()), *name));
            if touched.is_empty() {
                continue;
            }
            let _ = writeln!(text, "\nby {scope:<20} {:>9} {:>13} {:>13} {:>7}", "requests", "would refuse", "would change", "failed");
            for (name, counts) in touched.iter().take(SHOWN) {
                let _ = writeln!(
                    text,
                    "  {name:<21} {:>9} {:>13} {:>13} {:>7}",
                    counts.requests, counts.would_block, counts.would_change, counts.failed
                );
            }
            if touched.len() > SHOWN {
                let _ = writeln!(text, "  and {} more", touched.len() - SHOWN);
            }
        }
    }

    /// The recommended next step, in plain words.
    fn recommendation(&self) -> String {
        let tally = &self.tally;
        let all = tally.all;
        if all.requests == 0 {
            return "It looked at no request: see that a chain lists it and that its scope and rollout meet the traffic.".to_owned();
        }
        if tally.share(all.failed) > 0.01 {
            return format!(
                "Not yet: it failed for {} of {} requests. With `on_error: deny` each of these would have been refused; mend that first.",
                all.failed, all.requests
            );
        }
        if !tally.modes.contains_key("observe") {
            return "It enforces already: compare `refused` with what observing showed, and go back to `mode: observe` if there is more of it.".to_owned();
        }
        if all.requests < FEW {
            return format!("Go on observing: {} requests say little, wait for {FEW} at least.", all.requests);
        }
        if let Some(would) = tally.deliveries.get("would_send") {
            return format!(
                "It tells others and touches no request: {would} deliveries would have been sent. It can enforce when its receiver is ready."
            );
        }
        if all.would_block + all.would_change == 0 {
            return "It would have touched nothing: either it is not needed, or its conditions do not meet the traffic. Enforcing changes nothing for now."
                .to_owned();
        }
        if let Some((scope, name, count)) = self.concentrated() {
            return format!(
                "Talk first: {count} of {} refusals would have met {scope} {name}. Look at these, then enforce for others by `scope`.",
                all.would_block
            );
        }
        if tally.share(all.would_block) > 0.05 {
            return format!(
                "Read the reasons first: it would have refused {:.1} % of all requests, {} of which were answered. Enforce with `rollout: 10` when they are right.",
                tally.share(all.would_block) * 100.0,
                tally.answered
            );
        }
        format!(
            "It can enforce, for few at first (`mode: enforce`, `rollout: 10`): it would have refused {} and changed {} of {} requests, and failed for {}.",
            all.would_block, all.would_change, all.requests, all.failed
        )
    }

    /// The one team or key on which most refusals would fall, if there are others.
    fn concentrated(&self) -> Option<(&'static str, &str, u64)> {
        let total = self.tally.all.would_block;
        ["team", "key"].into_iter().find_map(|scope| {
            let names = self.tally.by.get(scope)?;
            let (name, counts) = names.iter().max_by_key(|(_, counts)| counts.would_block)?;
            let most = names.len() > 1 && total >= 10 && counts.would_block * 10 >= total * 8;
            most.then_some((scope, name.as_str(), counts.would_block))
        })
    }
}

fn list(text: &mut String, title: &str, counts: &std::collections::BTreeMap<String, u64>) {
    if counts.is_empty() {
        return;
    }
    let mut order: Vec<(&String, &u64)> = counts.iter().collect();
    order.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    let _ = writeln!(text, "\n{title}");
    for (name, count) in order.iter().take(SHOWN) {
        let _ = writeln!(text, "  {count:>7}  {name}");
    }
    if order.len() > SHOWN {
        let _ = writeln!(text, "  and {} more", order.len() - SHOWN);
    }
}

/// A count of microseconds as milliseconds.
#[allow(clippy::cast_precision_loss)] // durations are far below 2^52 µs
fn micros(count: u64) -> f64 {
    count as f64 / 1000.0
}
