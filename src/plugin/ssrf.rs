//! The corpus of `tests/golden/ssrf.jsonl`: addresses that no plugin may reach by any way out, and addresses that it must be
//! able to reach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use serde::Deserialize;

use super::host::{Egress, Host, HostError, HttpRequest, HttpResponse, Outbound, Resolver, SharedHost};
use super::network::HostRule;
use super::outlet::{Carrier, Mail, MailSecurity, Place, Relay, Transmission};
use super::{BUNDLED, Granted, Manifest, Need};
use crate::gate::Background;

/// One line of the corpus.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    what: String,
    grant: Vec<String>,
    /// The URL for `Host::fetch`.
    url: Option<String>,
    /// The `host:port` for sockets and mail.
    to: Option<String>,
    /// The answers to successive lookups of the name; by default a public address.
    dns: Option<Vec<Vec<String>>>,
    reply: Option<Reply>,
    /// A header that the plugin sets.
    header: Option<String>,
    /// How many connection attempts fail.
    #[serde(default)]
    unreachable: usize,
    /// Why it is refused: `url`, `grant`, `address`, `name`, `header`.
    refused: Option<String>,
    /// The addresses that were connected to, in order.
    #[serde(default)]
    reaches: Vec<String>,
    /// Why a second call is refused.
    then: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    status: u16,
    location: String,
}

/// An egress that connects nowhere and records where it would have connected.
struct Wire<'c> {
    reply: Option<&'c Reply>,
    unreachable: usize,
    reached: Mutex<Vec<SocketAddr>>,
}

impl Wire<'_> {
    fn reach(&self, address: SocketAddr) -> Result<(), HostError> {
        let mut reached = self.reached.lock();
        reached.push(address);
        if reached.len() <= self.unreachable { Err(HostError::Unreachable) } else { Ok(()) }
    }
}

#[async_trait]
impl Egress for Wire<'static> {
    async fn send(&self, address: SocketAddr, _: Option<&str>, _: Outbound) -> Result<HttpResponse, HostError> {
        self.reach(address)?;
        let mut headers = HeaderMap::new();
        if let Some(reply) = self.reply {
            headers.insert(http::header::LOCATION, HeaderValue::from_str(&reply.location).unwrap());
        }
        Ok(HttpResponse { status: self.reply.map_or(200, |reply| reply.status), headers, body: bytes::Bytes::new() })
    }

    async fn transmit(&self, place: &Place, _: &Transmission) -> Result<(), HostError> {
        self.reach(place.address)
    }

    async fn mail(&self, place: &Place, _: &Relay, _: &Mail) -> Result<Option<String>, HostError> {
        self.reach(place.address).map(|()| None)
    }
}

/// A resolver with the answers of the case; the last one is repeated.
struct Names(Vec<Vec<String>>, AtomicUsize);

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turn = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
        Ok(self.0[turn].iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
    }
}

fn why(error: &HostError) -> &'static str {
    match error {
        HostError::BadUrl(_) => "url",
        HostError::HostNotGranted(_) => "grant",
        HostError::AddressRefused(_) => "address",
        HostError::Unresolved(_) => "name",
        HostError::BadHeader(_) => "header",
        _ => "something else",
    }
}

/// The host of a plugin with this manifest, and the record of what it reaches.
fn host(case: &'static Case, manifest: &Manifest) -> (Host, Arc<Wire<'static>>) {
    let wire = Arc::new(Wire { reply: case.reply.as_ref(), unreachable: case.unreachable, reached: Mutex::default() });
    let mut granted = Granted::new();
    for entry in &case.grant {
        granted = granted.network(HostRule::parse(entry).unwrap());
    }
    let names = case.dns.clone().unwrap_or_else(|| vec![vec!["8.8.8.8".into()]]);
    let shared = SharedHost::new(wire.clone(), Background::closed()).with_resolver(Arc::new(Names(names, AtomicUsize::new(0))));
    (Host::new("test".into(), manifest.need_set(), granted, shared, Arc::default()), wire)
}

/// The difference between the result of one way out and the expectation of the case, if there is one.
fn judge(case: &Case, way: &str, outcome: Result<(), HostError>, wire: &Wire<'_>) -> Option<String> {
    let got = outcome.err().map(|error| why(&error));
    let reached: Vec<String> = wire.reached.lock().iter().map(SocketAddr::to_string).collect();
    let expected = case.refused.as_deref();
    (got != expected || reached != case.reaches).then(|| format!("{} by {way}: {got:?}, reached {reached:?}", case.what))
}

async fn fetched(case: &'static Case, manifest: &Manifest, url: &str) -> Option<String> {
    let (host, wire) = host(case, manifest);
    let told_at_load = matches!(case.refused.as_deref(), Some("url" | "grant"));
    if host.may_fetch(url).is_err() != told_at_load {
        return Some(format!("{}: what is told at load is otherwise", case.what));
    }
    let request = || {
        let mut request = HttpRequest::new(Method::GET, url);
        if let Some(name) = &case.header {
            request.headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("x"));
        }
        request
    };
    let outcome = host.fetch(request()).await;
    if let (Ok(answer), Some(reply)) = (&outcome, &case.reply)
        && answer.status != reply.status
    {
        return Some(format!("{}: the redirect was not handed back", case.what));
    }
    if let Some(wrong) = judge(case, "fetch", outcome.map(|_| ()), &wire) {
        return Some(wrong);
    }
    if let Some(then) = &case.then {
        let second = host.fetch(request()).await;
        let got = second.err().map(|error| why(&error));
        if got != Some(then) || wire.reached.lock().len() != case.reaches.len() {
            return Some(format!("{}: then {got:?}", case.what));
        }
    }
    None
}

async fn connected(case: &'static Case, manifest: &Manifest, to: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for carrier in [Carrier::Udp, Carrier::Tcp, Carrier::Tls] {
        let (host, wire) = host(case, manifest);
        let transmission = Transmission { to: to.into(), carrier, pieces: vec![], authorities: None, timeout: Duration::from_secs(5) };
        wrong.extend(judge(case, "socket", host.transmit(transmission).await, &wire));
    }
    if manifest.needs.contains(&Need::Mail) {
        let (host, wire) = host(case, manifest);
        let security = MailSecurity::Starttls;
        let relay = Relay { address: to.into(), security, credentials: None, authorities: None, timeout: Duration::from_secs(5) };
        let mail = Mail { from: String::new(), to: vec![], subject: String::new(), text: String::new(), id: String::new() };
        wrong.extend(judge(case, "mail", host.mail(&relay, &mail).await.map(|_| ()), &wire));
    }
    wrong
}

#[tokio::test]
async fn the_corpus_holds_for_every_plugin_that_calls_out() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ssrf.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let cases: Vec<Case> = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    let cases: &'static [Case] = cases.leak();
    let callers: Vec<&Manifest> = BUNDLED.iter().copied().filter(|manifest| manifest.needs.contains(&Need::Network)).collect();
    assert!(cases.len() >= 250 && callers.len() >= 6, "{} cases, {} plugins", cases.len(), callers.len());
    assert!(cases.iter().filter(|case| case.refused.is_none()).count() >= 30, "refusing everything is no protection");
    let mut wrong = Vec::new();
    for manifest in callers {
        for case in cases {
            assert!(case.url.is_some() || case.to.is_some(), "{}: nothing to call", case.what);
            let mut here = Vec::new();
            if let Some(url) = &case.url {
                here.extend(fetched(case, manifest, url).await);
            }
            if let Some(to) = &case.to {
                here.extend(connected(case, manifest, to).await);
            }
            wrong.extend(here.into_iter().map(|said| format!("{}: {said}", manifest.name)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A plugin without the need `network` cannot call out.
#[tokio::test]
async fn who_needs_no_network_has_none() {
    static CASE: std::sync::LazyLock<Case> =
        std::sync::LazyLock::new(|| serde_json::from_str(r#"{"what":"granted","grant":["api.example.com:443"]}"#).unwrap());
    for manifest in BUNDLED.iter().filter(|manifest| !manifest.needs.contains(&Need::Network)) {
        let (host, wire) = host(&CASE, manifest);
        let refused = host.fetch(HttpRequest::new(Method::GET, "https://api.example.com/")).await;
        assert!(matches!(refused, Err(HostError::NotGranted("network"))), "{}", manifest.name);
        assert!(wire.reached.lock().is_empty());
    }
}
