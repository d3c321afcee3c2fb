//! The load: chat requests over kept connections, each sent as soon as the previous answer is complete. As in a real
//! conversation, the system prompt and the history are repeated with every request; [`Chat`] says how much of the caller's
//! text is new. The mock provider repeats the last message, so what is new in the request is new in the answer, too.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use odock_edge::mock;
use serde::{Deserialize, Serialize};

use super::Result;
use super::http1::Connection;

/// The caller's key; the gateway's configuration contains its hash.
pub const KEY: &str = "sk_bench";
/// Length of the request's body in bytes.
const BODY: usize = 1024;
const WARM_UP: Duration = Duration::from_millis(300);

/// Number of loads started by this process.
static LOADS: AtomicU64 = AtomicU64::new(0);

/// What comes again of the words of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
pub enum Chat {
    /// The caller's last message, half of the body, has new words each time: the hardest case for whoever reads texts.
    #[default]
    Unseen,
    /// A conversation that grows: the last message is new and a fifth of the body, the rest was sent before.
    Grows,
    /// The same request again and again.
    Again,
}

/// A way to load a target.
pub struct Mode {
    pub name: &'static str,
    connections: usize,
    stream: bool,
    chat: Chat,
    /// The targets for which this mode is run; all targets if empty.
    pub targets: &'static [&'static str],
}

/// Targets that show the cost of scanning texts.
const READERS: &[&str] = &["bare", "evidence", "guarded"];

/// One caller; enough callers to fill a core; the same with chats of which more was seen before; and streams, one at a time
/// so that the first byte does not queue.
pub const MODES: [Mode; 5] = [
    Mode { name: "c=1", connections: 1, stream: false, chat: Chat::Unseen, targets: &[] },
    Mode { name: "c=32", connections: 32, stream: false, chat: Chat::Unseen, targets: &[] },
    Mode { name: "c=32 grows", connections: 32, stream: false, chat: Chat::Grows, targets: READERS },
    Mode { name: "c=32 again", connections: 32, stream: false, chat: Chat::Again, targets: READERS },
    Mode { name: "stream", connections: 1, stream: true, chat: Chat::Unseen, targets: &[] },
];

impl Mode {
    pub fn load(&self, target: SocketAddr, seconds: f64) -> Load {
        Load { target, connections: self.connections, seconds, stream: self.stream, give_up: 0, chat: self.chat }
    }
}

/// The arguments of the client role.
#[derive(Debug, Clone, clap::Args, Serialize, Deserialize)]
pub struct Load {
    pub target: SocketAddr,
    #[arg(long)]
    pub connections: usize,
    #[arg(long)]
    pub seconds: f64,
    #[arg(long)]
    pub stream: bool,
    /// Every so manyth call is given up; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub give_up: usize,
    /// How much of what is said is new.
    #[arg(long, value_enum, default_value_t)]
    #[serde(default)]
    pub chat: Chat,
}

impl Load {
    pub fn arguments(&self) -> Vec<String> {
        let mut all = vec!["client".to_owned(), self.target.to_string()];
        all.extend([format!("--connections={}", self.connections), format!("--seconds={}", self.seconds)]);
        all.extend([format!("--give-up={}", self.give_up)]);
        all.extend(self.stream.then(|| "--stream".to_owned()));
        all
    }
}

/// The result of a load. Times in µs; for streams up to the first byte of the body.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    pub requests: usize,
    pub failed: usize,
    pub given_up: usize,
    pub per_second: f64,
    pub p50: f64,
    pub p99: f64,
}

const SYSTEM: &str = "You are the assistant of a small travel agency. Answer in short sentences, name prices in euros, and say when \
    you do not know something. Trains come before planes.";
const HISTORY: [(&str, &str); 2] = [
    ("user", "We are two adults and a child and would like to see the sea in May. Which towns are close?"),
    ("assistant", "Trieste takes six hours with one change, and Venice a little more. Both have quiet beaches."),
];
/// The placeholder for words that are new each time.
const NEW: &str = "aaaa aaaa aaaa";
const FILLER: &str = "The quick brown fox jumps over the lazy dog while we wait for an answer. ";

/// A request, rendered once except for its new words. Its text contains an address to mask.
pub struct Question {
    bytes: Vec<u8>,
    new: Range<usize>,
}

impl Question {
    pub fn new(stream: bool, chat: Chat) -> Self {
        let said = |(role, text): (&str, &str)| format!(r#"{{"role":"{role}","content":"{text}"}},"#);
        let mut before: String = [("system", SYSTEM)].into_iter().chain(HISTORY).map(said).collect();
        let mut last = format!("Write to jane.doe@example.com about {NEW}. ");
        if chat == Chat::Grows {
            // The last message of the other modes was sent two messages ago.
            before += &said(("user", &last.replace(NEW, "the house by the sea").repeat(2)));
            before += &said(("assistant", &FILLER.repeat(2)));
            last += "And what would it cost to take the night train, with a cabin of our own? ";
        }
        let head = format!(r#"{{"model":"bench","stream":{stream},"messages":[{before}{{"role":"user","content":"{last}"#);
        let tail = r#""}]}"#;
        let body = format!("{head}{}{tail}", &FILLER.repeat(20)[..BODY.saturating_sub(head.len() + tail.len())]);
        let bytes = request(&body);
        let new = if chat == Chat::Again { None } else { bytes.find(NEW) };
        Self { bytes: bytes.into_bytes(), new: new.map_or(0..0, |at| at..at + NEW.len()) }
    }

    /// The request with the words for this number.
    pub fn ask(&mut self, mut number: u64) -> &[u8] {
        for letter in self.bytes[self.new.clone()].iter_mut().filter(|letter| **letter != b' ') {
            *letter = b'a' + (number % 26) as u8;
            number /= 26;
        }
        &self.bytes
    }
}

/// The HTTP request of a chat with this body.
pub fn request(body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n\
         accept: */*\r\nuser-agent: load/1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Waits up to 15 s for the target to serve, and checks that it answers both kinds of request.
pub fn check(target: SocketAddr) -> Result<()> {
    runtime()?.block_on(async {
        let begun = Instant::now();
        let mut connection = loop {
            match Connection::open(target).await {
                Ok(connection) => break connection,
                Err(error) if begun.elapsed() > Duration::from_secs(15) => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        for stream in [false, true] {
            let mut question = Question::new(stream, Chat::Unseen);
            let mut status = 503;
            // The listener is up before the stores are open; until then the gateway refuses requests that it could not
            // count.
            while status == 503 && begun.elapsed() < Duration::from_secs(15) {
                let answered = tokio::time::timeout(Duration::from_secs(5), connection.exchange(question.ask(0))).await;
                status = answered.map_err(|_| "no answer within 5 s")??.status;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let answer = connection.answer();
            let said = ["jane.doe@example.com", "[REDACTED:email]"].iter().any(|said| answer.contains(said));
            if status != 200 || !said && !stream || stream && !answer.contains("[DONE]") {
                return Err(format!("unexpected answer:\n{answer}").into());
            }
        }
        Ok(())
    })
}

/// The client role: warms up, reports that on stdout, runs the load, and prints the [`Outcome`] as JSON.
pub fn run(load: &Load) -> Result<()> {
    let local = tokio::task::LocalSet::new();
    let outcome = runtime()?.block_on(local.run_until(drive(load)))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// The peer role: the mock provider and, for each [`Load`] read from stdin, a client; all on one thread.
///
/// Under load this thread never sleeps. If client and provider are on the proxy's machine and fall asleep while the proxy
/// works, the kernel charges the proxy for waking them with every packet, which would not happen over a network.
pub fn peer() -> Result<()> {
    let provider = mock::bind(mock::Options::at(([127, 0, 0, 1], 0).into()))?;
    println!("{}", provider.address());
    let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::io::Result::ok) {
            let _ = ask.send(line);
        }
    });
    let local = tokio::task::LocalSet::new();
    runtime()?.block_on(local.run_until(async {
        tokio::spawn(provider.serve());
        while let Some(line) = asked.recv().await {
            let load: Load = serde_json::from_str(&line)?;
            let outcome = tokio::select! {
                outcome = drive(&load) => outcome?,
                () = async { loop { tokio::task::yield_now().await } } => continue,
            };
            println!("{}", serde_json::to_string(&outcome)?);
        }
        Ok(())
    }))
}

async fn drive(load: &Load) -> Result<Outcome> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(load.seconds);
    // Words are unique across all callers, loads and processes.
    let first = u64::from(std::process::id() & 0xfff) << 44 | LOADS.fetch_add(1, Ordering::Relaxed) << 32;
    let ask = |index| call(load.clone(), begin, end, index, first + ((index as u64) << 24));
    let callers: Vec<_> = (0..load.connections).map(|index| tokio::task::spawn_local(ask(index))).collect();
    tokio::time::sleep_until(begin.into()).await;
    println!("warm");
    let mut times = Vec::new();
    let (mut failed, mut given_up) = (0, 0);
    for caller in callers {
        let mut seen = caller.await?;
        times.append(&mut seen.times);
        failed += seen.failed;
        given_up += seen.given_up;
    }
    times.sort_unstable();
    let quantile =
        |q: f64| times.get(((times.len() as f64 * q) as usize).min(times.len().saturating_sub(1))).map_or(0.0, |ns| f64::from(*ns) / 1e3);
    let requests = times.len() + failed + given_up;
    Ok(Outcome { requests, failed, given_up, per_second: requests as f64 / load.seconds, p50: quantile(0.5), p99: quantile(0.99) })
}

#[derive(Default)]
struct Seen {
    /// Nanoseconds.
    times: Vec<u32>,
    failed: usize,
    given_up: usize,
}

async fn call(load: Load, begin: Instant, end: Instant, index: usize, first: u64) -> Seen {
    let mut question = Question::new(load.stream, load.chat);
    let mut count = index;
    let mut seen = Seen { times: Vec::with_capacity(1 << 18), ..Seen::default() };
    let mut kept: Option<Connection> = None;
    loop {
        let now = Instant::now();
        if now >= end {
            return seen;
        }
        count += 1;
        let give_up = load.give_up > 0 && count.is_multiple_of(load.give_up);
        let request = question.ask(first + count as u64);
        let result = async {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => Connection::open(load.target).await?,
            };
            if give_up {
                return connection.abandon(request, count.is_multiple_of(2 * load.give_up)).await.map(|()| None);
            }
            let exchange = connection.exchange(request).await?;
            kept = Some(connection);
            Ok::<_, std::io::Error>(Some(exchange))
        };
        let result = result.await;
        if now < begin {
            continue;
        }
        match result {
            Ok(None) => seen.given_up += 1,
            Ok(Some(exchange)) if exchange.status == 200 => {
                let time = if load.stream { exchange.first } else { exchange.whole };
                seen.times.push(u32::try_from(time.as_nanos()).unwrap_or(u32::MAX));
            }
            _ => {
                seen.failed += 1;
                // A target that refuses must not make the client spin.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}
