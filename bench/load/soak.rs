//! Does memory stay constant while callers connect, disconnect and abort requests?

use std::thread;
use std::time::{Duration, Instant};

use super::client::{self, Load, Outcome};
use super::process::{Core, Process};
use super::{Args, Result, gateway, start_provider};

/// One in this many calls is aborted: five percent.
const GIVE_UP: usize = 20;
/// Growth after the first quarter that counts as noise: a factor, and a constant in MiB.
const ALLOWED: (f64, f64) = (1.2, 8.0);

/// Loads the governed gateway with whole answers and streams, and prints RSS and descriptors over time.
pub fn run(args: &Args, seconds: f64) -> Result<bool> {
    let (_provider, upstream) = start_provider("mock")?;
    let folder = tempfile::tempdir()?;
    let governed = gateway::variants(args)?.pop().ok_or("no variant")?;
    let (process, target) = gateway::start(args, &governed, upstream, folder.path())?;
    client::check(target).map_err(|error| format!("{error}{}", process.last_words()))?;
    let load = |stream: bool| Load { target, connections: 16, seconds, stream, give_up: GIVE_UP, chat: client::Chat::Unseen };
    let mut clients = Vec::new();
    for stream in [false, true] {
        let mut client = Process::role(Core::Client, &load(stream).arguments())?;
        client.read_line()?;
        clients.push((if stream { "streams" } else { "whole" }, client));
    }
    println!("{:>8} {:>9} {:>12}", "s", "RSS MiB", "descriptors");
    let begun = Instant::now();
    let step = Duration::from_secs_f64((seconds / 20.0).clamp(1.0, 60.0));
    let mut settled = f64::NAN;
    while begun.elapsed().as_secs_f64() + step.as_secs_f64() < seconds {
        thread::sleep(step);
        let at = begun.elapsed().as_secs_f64();
        let rss = process.rss_mib()?;
        println!("{at:>8.0} {rss:>9.1} {:>12}", process.descriptors()?);
        if settled.is_nan() && at >= seconds / 4.0 {
            settled = rss;
        }
    }
    let mut failed = 0;
    for (name, mut client) in clients {
        let outcome: Outcome = serde_json::from_str(&client.read_line()?)?;
        println!(
            "{name}: {} requests, {} given up, {} failed, p99 {:.0} µs",
            outcome.requests, outcome.given_up, outcome.failed, outcome.p99
        );
        failed += outcome.failed;
    }
    thread::sleep(Duration::from_secs(1));
    let (rss, descriptors) = (process.rss_mib()?, process.descriptors()?);
    println!("afterwards: RSS {rss:.1} MiB, {descriptors} descriptors");
    let grown = rss > settled * ALLOWED.0 + ALLOWED.1;
    if grown {
        println!("MISSED grew from {settled:.1} MiB");
    }
    Ok(!args.assert || (!grown && failed == 0))
}
