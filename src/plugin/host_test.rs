#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;

use super::*;
use crate::plugin::StorageScope;
use crate::plugin::network::HostRule;

/// An egress that answers every call and records where it went.
#[derive(Default)]
struct Wire {
    calls: Mutex<Vec<(SocketAddr, Option<String>, String)>>,
    unreachable: usize,
    status: u16,
    headers: HeaderMap,
    size: usize,
}

#[async_trait]
impl Egress for Wire {
    async fn send(&self, address: SocketAddr, tls: Option<&str>, out: Outbound) -> Result<HttpResponse, HostError> {
        let mut calls = self.calls.lock();
        calls.push((address, tls.map(str::to_owned), out.authority + &out.path_and_query));
        if calls.len() <= self.unreachable {
            return Err(HostError::Unreachable);
        }
        Ok(HttpResponse { status: self.status, headers: self.headers.clone(), body: vec![b'x'; self.size].into() })
    }
}

/// A resolver that gives another answer each time, as a name under attack does.
struct Names(Vec<Vec<&'static str>>, AtomicUsize);

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turn = self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0[turn.min(self.0.len() - 1)].iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
    }
}

fn needs(all: &[Need]) -> NeedSet {
    let mut set = NeedSet::default();
    all.iter().for_each(|need| set.insert(*need));
    set
}

fn host(wire: &Arc<Wire>, names: Vec<Vec<&'static str>>, rules: &[&str]) -> Host {
    let mut granted = Granted::new();
    for rule in rules {
        granted = granted.network(HostRule::parse(rule).unwrap());
    }
    let shared = SharedHost::new(wire.clone(), Background::closed()).with_resolver(Arc::new(Names(names, AtomicUsize::new(0))));
    Host::new("test".into(), needs(&[Need::Network, Need::Secrets]), granted, shared, Arc::default())
}

fn get(url: &str) -> HttpRequest {
    HttpRequest::new(Method::GET, url)
}

#[tokio::test]
async fn only_granted_hosts_and_ports_are_called() {
    let wire = Arc::new(Wire { status: 200, ..Wire::default() });
    let host = host(&wire, vec![vec!["8.8.8.8"]], &["dlp.example.com:443", "hook.example.com:8443"]);
    for url in [
        "https://dlp.example.com:444/",
        "http://dlp.example.com/",
        "https://evil.example.com/",
        "https://dlp.example.com.evil.com/",
        "https://8.8.8.8/",
        "https://[::ffff:8.8.8.8]/",
    ] {
        assert!(matches!(host.fetch(get(url)).await, Err(HostError::HostNotGranted(_))), "{url}");
        assert!(host.may_fetch(url).is_err());
    }
    assert!(wire.calls.lock().is_empty());
    assert!(host.may_fetch("https://dlp.example.com/x").is_ok());
    host.fetch(get("https://DLP.example.com/scan?a=b")).await.unwrap();
    host.fetch(get("https://hook.example.com:8443")).await.unwrap();
    host.fetch(get("http://hook.example.com:8443/")).await.unwrap();
    let calls = wire.calls.lock();
    assert_eq!(calls[0].0, "8.8.8.8:443".parse().unwrap());
    assert_eq!((calls[0].1.as_deref(), calls[0].2.as_str()), (Some("dlp.example.com"), "dlp.example.com/scan?a=b"));
    assert_eq!((calls[1].1.as_deref(), calls[1].2.as_str()), (Some("hook.example.com"), "hook.example.com:8443/"));
    assert_eq!(calls[2].1, None);
}

#[tokio::test]
async fn a_granted_name_does_not_lead_inside() {
    for inside in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1", "64:ff9b::a00:1"] {
        let wire = Arc::new(Wire { status: 200, ..Wire::default() });
        // By itself, and hidden among allowed addresses.
        for answer in [vec![inside], vec!["8.8.8.8", inside]] {
            let host = host(&wire, vec![answer], &["dlp.example.com:443"]);
            let refused = host.fetch(get("https://dlp.example.com/")).await;
            assert!(matches!(refused, Err(HostError::AddressRefused(_))), "{inside}");
        }
        assert!(wire.calls.lock().is_empty());
    }
    let wire = Arc::new(Wire { status: 200, ..Wire::default() });
    let private = host(&wire, vec![vec!["10.0.0.1"]], &["dlp.internal:443 private", "127.0.0.1:80 private"]);
    private.fetch(get("https://dlp.internal/")).await.unwrap();
    private.fetch(get("http://127.0.0.1/")).await.unwrap();
    private.fetch(get("http://[::ffff:127.0.0.1]/")).await.unwrap();
    assert_eq!(wire.calls.lock()[2].0, "127.0.0.1:80".parse().unwrap());
    let metadata = host(&wire, vec![vec!["169.254.169.254"]], &["dlp.internal:443 private"]);
    assert!(matches!(metadata.fetch(get("https://dlp.internal/")).await, Err(HostError::AddressRefused(_))));
}

#[tokio::test]
async fn the_connection_goes_to_the_address_that_was_judged() {
    let wire = Arc::new(Wire { status: 200, unreachable: 1, ..Wire::default() });
    // A second lookup would return loopback. There is none, not even to try the next address.
    let host = host(&wire, vec![vec!["8.8.8.8", "1.1.1.1"], vec!["127.0.0.1"]], &["dlp.example.com:443"]);
    host.fetch(get("https://dlp.example.com/")).await.unwrap();
    let called: Vec<_> = wire.calls.lock().iter().map(|call| call.0.to_string()).collect();
    assert_eq!(called, ["8.8.8.8:443", "1.1.1.1:443"]);
    assert!(matches!(host.fetch(get("https://dlp.example.com/")).await, Err(HostError::AddressRefused(_))));
    assert_eq!(wire.calls.lock().len(), 2);
}

#[tokio::test]
async fn redirects_come_back_and_large_answers_do_not() {
    let headers = HeaderMap::from_iter([(http::header::LOCATION, HeaderValue::from_static("http://127.0.0.1/"))]);
    let wire = Arc::new(Wire { status: 302, headers, size: 10, ..Wire::default() });
    let host = host(&wire, vec![vec!["8.8.8.8"]], &["dlp.example.com:443"]);
    assert_eq!(host.fetch(get("https://dlp.example.com/")).await.unwrap().status, 302);
    assert_eq!(wire.calls.lock().len(), 1);
    let mut small = get("https://dlp.example.com/");
    small.max_response = 9;
    assert!(matches!(host.fetch(small).await, Err(HostError::TooLarge)));
    let mut smuggled = get("https://dlp.example.com/");
    smuggled.headers.insert(http::header::HOST, HeaderValue::from_static("metadata"));
    assert!(matches!(host.fetch(smuggled).await, Err(HostError::BadHeader(_))));
}

#[tokio::test]
async fn nothing_is_there_that_was_not_granted() {
    let host = Host::detached();
    assert_eq!(host.secret("key"), Err(HostError::NotGranted("secrets")));
    assert!(matches!(host.fetch(get("https://dlp.example.com/")).await, Err(HostError::NotGranted("network"))));
    assert_eq!(host.enqueue(async {}), Err(HostError::NotGranted("background")));
    assert!(matches!(host.storage().organisation("acme"), Err(HostError::NotGranted("organisations"))));
    assert!(matches!(host.storage().api_key("k"), Err(HostError::NotGranted("api_keys"))));

    let granted = Granted::new().secret("dlp", Secret::new("s3cret".into())).storage(StorageScope::Teams);
    let needed = needs(&[Need::Secrets, Need::Background, Need::Storage(StorageScope::Teams)]);
    let host = Host::new("test".into(), needed, granted.clone(), SharedHost::offline(), Arc::default());
    assert_eq!(host.secret("dlp").unwrap().expose(), "s3cret");
    assert_eq!(host.secret("other"), Err(HostError::NoSecret("other".into())));
    assert_eq!(host.enqueue(async {}), Err(HostError::QueueFull));
    assert!(host.storage().team("acme", "t").is_ok());
    assert!(matches!(host.storage().user("acme", "u"), Err(HostError::NotGranted("users"))));
    assert!(!format!("{granted:?} {host:?}").contains("s3cret"));
}
