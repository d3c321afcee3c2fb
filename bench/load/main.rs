//! What does it cost to govern a request, compared to the same Pingora doing nothing?
//!
//! `cargo bench --bench load -- [--quick] [--assert] [--soak SECS | --frames]` starts a mock provider, a bare Pingora
//! pass-through built from the same crates with the same allocator, and the gateway in several configurations, and loads
//! them in turn, round by round, so that noise affects all of them. Every process except the gateway is this binary in
//! another role. With `taskset` the proxies run on core 1; client and provider, in one process, on core 0.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is a table for people")]

mod bare;
mod client;
mod frames;
mod gateway;
mod http1;
mod process;
mod report;
mod soak;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use odock_edge::mock;

use client::{Load, Outcome};
use process::{Core, Process};
use report::{Cell, Row};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
struct Args {
    /// Three short rounds.
    #[arg(long)]
    quick: bool,
    /// Rounds; each loads every target in every mode.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of load per target, mode and round.
    #[arg(long)]
    seconds: Option<f64>,
    /// Exit 1 when a bar is missed.
    #[arg(long)]
    assert: bool,
    /// Instead: load the governed gateway for so long, one call in twenty given up by the caller, and watch its memory.
    #[arg(long, value_name = "SECS")]
    soak: Option<f64>,
    /// Instead: what SafetySec does to the pace of streams.
    #[arg(long)]
    frames: bool,
    /// The gateway's binary, if not the one cargo built.
    #[arg(long, value_name = "PATH")]
    gateway: Option<PathBuf>,
    /// YAML with `plugins` and `chains` for the governed target, instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What a child process of this one does.
#[derive(clap::Subcommand)]
enum Role {
    /// Pass through, and nothing else.
    #[command(hide = true)]
    Bare { listen: SocketAddr, upstream: SocketAddr },
    /// Answer.
    #[command(hide = true)]
    Mock,
    /// Answer, and ask what is said on stdin.
    #[command(hide = true)]
    Peer,
    /// Ask.
    #[command(hide = true)]
    Client(Load),
    /// Follow streams.
    #[command(hide = true)]
    Follow { target: SocketAddr, streams: usize, seconds: f64 },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.role {
        Some(Role::Bare { listen, upstream }) => bare::run(listen, upstream).map(|()| true),
        Some(Role::Mock) => serve_mock().map(|()| true),
        Some(Role::Peer) => client::peer().map(|()| true),
        Some(Role::Client(load)) => client::run(&load).map(|()| true),
        Some(Role::Follow { target, streams, seconds }) => frames::follow(target, streams, seconds).map(|()| true),
        None => match args.soak {
            Some(seconds) => soak::run(&args, seconds),
            None if args.frames => frames::run(&args),
            None => compare(&args),
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the mock provider on a free port, and prints the port.
fn serve_mock() -> Result<()> {
    let provider = mock::bind(mock::Options::at(([127, 0, 0, 1], 0).into()))?;
    println!("{}", provider.address());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(provider.serve())?)
}

/// A target of the load; `direct` has no process of its own.
struct Target {
    name: &'static str,
    address: SocketAddr,
    process: Option<Process>,
    idle_rss: f64,
}

/// Starts a process in a providing role, and returns its address.
fn start_provider(role: &str) -> Result<(Process, SocketAddr)> {
    let mut provider = Process::role(Core::Client, &[role])?;
    let address = provider.read_line()?.trim().parse()?;
    Ok((provider, address))
}

fn compare(args: &Args) -> Result<bool> {
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 5 });
    let seconds = args.seconds.unwrap_or(if args.quick { 1.0 } else { 3.0 });
    let (mut peer, upstream) = start_provider("peer")?;
    let folder = tempfile::tempdir()?;
    let listen = process::free_address()?;
    let bare = Process::role(Core::Proxy, &["bare", &listen.to_string(), &upstream.to_string()])?;
    let mut targets = vec![
        Target { name: "direct", address: upstream, process: None, idle_rss: 0.0 },
        Target { name: "bare", address: listen, process: Some(bare), idle_rss: 0.0 },
    ];
    for variant in gateway::variants(args)? {
        let (process, address) = gateway::start(args, &variant, upstream, folder.path())?;
        targets.push(Target { name: variant.name, address, process: Some(process), idle_rss: 0.0 });
    }
    for target in &mut targets {
        client::check(target.address).map_err(|error| match &target.process {
            Some(process) => format!("{}: {error}{}", target.name, process.last_words()),
            None => format!("{}: {error}", target.name),
        })?;
        target.idle_rss = target.process.as_ref().map_or(Ok(0.0), Process::rss_mib)?;
    }
    let mut cells = Vec::new();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for mode in client::MODES {
            let told = |target: &Target| mode.targets.is_empty() || mode.targets.contains(&target.name);
            for (index, target) in targets.iter().enumerate().filter(|(_, target)| told(target)) {
                let load = mode.load(target.address, seconds);
                let (outcome, cpu_us) = measure(&mut peer, &load, target.process.as_ref())?;
                cells.push(Cell { round, mode: mode.name, target: index, outcome, cpu_us });
            }
        }
    }
    let mut rows = Vec::new();
    for target in &targets {
        let loaded_rss = target.process.as_ref().map_or(Ok(0.0), Process::rss_mib)?;
        rows.push(Row { name: target.name, idle_rss: target.idle_rss, loaded_rss });
    }
    report::print(&rows, &cells);
    let held = report::bars(&rows, &cells);
    Ok(held || !args.assert)
}

/// Runs one load. Also returns the proxy's CPU time per request in µs.
fn measure(peer: &mut Process, load: &Load, proxy: Option<&Process>) -> Result<(Outcome, f64)> {
    let cpu = || proxy.map_or(Ok(0.0), Process::cpu_seconds);
    peer.say(&serde_json::to_string(load)?)?;
    // The client prints a line when it is warm, and another when it is done.
    peer.read_line()?;
    let before = cpu()?;
    let line = peer.read_line()?;
    let used = cpu()? - before;
    let outcome: Outcome = serde_json::from_str(&line).map_err(|_| format!("the client broke off{}", peer.last_words()))?;
    if outcome.failed * 100 > outcome.requests {
        return Err(format!("{} of {} requests failed", outcome.failed, outcome.requests).into());
    }
    let cpu_us = used * 1e6 / (outcome.requests.max(1) as f64);
    Ok((outcome, cpu_us))
}
