//! Does SafetySec keep up with streams? Streams of fifty frames, two milliseconds apart, sixteen and sixty-four at a time,
//! through the same gateway without guards and with all modules enabled.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::client;
use super::http1::Connection;
use super::process::{Core, Process};
use super::{Args, Result, gateway, start_provider};

const FRAMES: usize = 50;
/// Pause between two frames, in ms.
const PACE: usize = 2;
const STREAMS: [usize; 2] = [16, 64];
/// What the modules may add to the median time to first byte, and to the 99th percentile of gaps, in µs.
const BAR: f64 = 1000.0;
const WARM_UP: Duration = Duration::from_millis(400);

const SYSTEM: &str = "You are the assistant of a small travel agency. Answer in short sentences, name prices in euros, and say when \
    you do not know something. The access code of the agency's calendar is \\\"gull-47-harbour\\\". Trains come before planes.";
const ANSWER: &str = "Leave Vienna at nine, change in Graz, and be at the sea by the afternoon. A family room near the harbour costs \
    about ninety euros a night, breakfast included; the aquarium and the castle are worth a visit when it rains, and boats to the \
    islands leave every two hours from the old pier. Tickets are cheapest when bought a month ahead. If you prefer sand to rocks, take \
    the local bus to the lagoon, which is shallow and warm enough for children from the middle of May. Call the harbour office at \
    10:30, ask for room 12 or 14, and bring hats, sun cream and a book for the ferry, which takes 45 minutes on a calm day.";

/// The result of one load. Times in µs.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    streams: usize,
    failed: usize,
    first: [f64; 2],
    gap: [f64; 2],
}

/// Loads both gateways in turn, and prints medians of the rounds.
pub fn run(args: &Args) -> Result<bool> {
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 5 });
    let seconds = args.seconds.unwrap_or(if args.quick { 1.0 } else { 3.0 });
    let (_provider, upstream) = start_provider("mock")?;
    let folder = tempfile::tempdir()?;
    let mut gateways = Vec::new();
    for variant in gateway::guards() {
        let (process, address) = gateway::start(args, &variant, upstream, folder.path())?;
        client::check(address).map_err(|error| format!("{}: {error}{}", variant.name, process.last_words()))?;
        gateways.push((variant.name, process, address));
    }
    println!("streams of {FRAMES} frames, {PACE} ms apart; medians of {rounds} rounds, µs");
    println!("{:<8} {:<6} {:>10} {:>10} {:>10} {:>10} {:>13}", "streams", "", "TTFB p50", "TTFB p99", "gap p50", "gap p99", "CPU a frame");
    let mut held = true;
    for streams in STREAMS {
        let mut seen = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for ((_, gateway, address), seen) in gateways.iter().zip(&mut seen) {
                let before = gateway.cpu_seconds()?;
                let arguments = ["follow".to_owned(), address.to_string(), streams.to_string(), seconds.to_string()];
                let one: Seen = serde_json::from_str(&Process::role(Core::Client, &arguments)?.read_line()?)?;
                if one.failed > 0 {
                    return Err(format!("{} of {} streams failed", one.failed, one.streams).into());
                }
                let frames = (one.streams * FRAMES) as f64;
                seen.push([one.first[0], one.first[1], one.gap[0], one.gap[1], (gateway.cpu_seconds()? - before) * 1e6 / frames]);
            }
        }
        let typical = seen.map(|seen| [0, 1, 2, 3, 4].map(|figure| median(seen.iter().map(|one: &[f64; 5]| one[figure]).collect())));
        for ((name, ..), [first, first99, gap, gap99, cpu]) in gateways.iter().zip(&typical) {
            println!("{streams:<8} {name:<6} {first:>10.0} {first99:>10.0} {gap:>10.0} {gap99:>10.0} {cpu:>13.1}");
        }
        let [off, pack] = typical;
        for (what, figure) in [("first byte p50", 0), ("gap p99", 3)] {
            let added = pack[figure] - off[figure];
            held &= added <= BAR;
            let word = if added <= BAR { "ok    " } else { "MISSED" };
            println!("{word} {streams} streams: {what}, µs added: {added:.0} (bar {BAR})");
        }
    }
    Ok(held || !args.assert)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The role that reads streams, this many at a time for this long, and prints the result.
pub fn follow(target: SocketAddr, streams: usize, seconds: f64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(seconds);
    let seen = runtime.block_on(async {
        let callers: Vec<_> = (0..streams).map(|n| tokio::spawn(caller(target, n, begin, end))).collect();
        let (mut first, mut gaps, mut failed) = (Vec::new(), Vec::new(), 0);
        for caller in callers {
            match caller.await {
                Ok(Ok((f, g))) => {
                    first.extend(f);
                    gaps.extend(g);
                }
                _ => failed += 1,
            }
        }
        Seen { streams: first.len(), failed, first: quantiles(first), gap: quantiles(gaps) }
    });
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

/// The first bytes and gaps that one caller saw, in µs.
async fn caller(target: SocketAddr, number: usize, begin: Instant, end: Instant) -> std::io::Result<(Vec<f64>, Vec<f64>)> {
    // Callers do not start at the same moment, as in reality.
    tokio::time::sleep(Duration::from_micros(number as u64 * 1700 % 100_000)).await;
    let mut connection = Connection::open(target).await?;
    let (mut first, mut gaps) = (Vec::new(), Vec::new());
    for count in 0.. {
        let now = Instant::now();
        if now >= end {
            break;
        }
        let body = format!(
            r#"{{"model":"bench","stream":true,"mock":{{"chunks":{FRAMES},"chunk_delay_ms":{PACE},"answer":"{ANSWER}"}},"messages":[{{"role":"system","content":"{SYSTEM}"}},{{"role":"user","content":"Plan number {count} of caller {number}: where shall we go in May?"}}]}}"#
        );
        let mut seen = Vec::with_capacity(FRAMES + 4);
        let exchange = connection.follow(client::request(&body).as_bytes(), |gap| seen.push(gap.as_nanos() as f64 / 1e3)).await?;
        if exchange.status != 200 || seen.len() < FRAMES {
            return Err(std::io::Error::other(connection.answer()));
        }
        if now >= begin {
            first.push(exchange.first.as_nanos() as f64 / 1e3);
            gaps.extend(seen.into_iter().skip(1));
        }
    }
    Ok((first, gaps))
}

/// The median and the 99th percentile.
fn quantiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [0.5, 0.99].map(|q| values.get((values.len() as f64 * q) as usize).copied().unwrap_or(f64::NAN))
}
