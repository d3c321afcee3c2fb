//! Deliveries to independent receivers: a Standard Webhooks verifier, an SMTP server, syslog over every transport,
//! PostgreSQL. A peer that is not installed is skipped with a message on stderr; tests/run installs them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::AsyncReadExt;

use crate::client::Request;
use crate::delivery::{Receiver, SIGNING, accepted, setup};
use crate::edge::{Edge, KEY, PATIENCE, Setup, eventually, free_port};
use crate::upstream::Upstream;

/// A peer that is not there is skipped, unless `TEST_PEERS=required` says that it was installed; tests/run says so.
pub fn missing(peer: &str) {
    assert!(std::env::var_os("TEST_PEERS").is_none_or(|value| value != "required"), "{peer} is not installed");
    eprintln!("SKIPPED: {peer} is not installed (tests/run installs it)");
}

/// The Python of the tests' own environment, with what it has to know.
pub fn python(modules: &str) -> Option<PathBuf> {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_odock-edge"));
    let targets = binary.ancestors().map(|folder| folder.join("venv/bin/python"));
    let usual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let python = targets.chain([usual]).find(|python| python.is_file());
    let able = python.filter(|python| {
        let known = Command::new(python).args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
        known.is_ok_and(|status| status.success())
    });
    if able.is_none() {
        missing(modules);
    }
    able
}

pub async fn ask(edge: &Edge, count: usize) {
    for _ in 0..count {
        assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    }
    accepted(edge, count).await;
}

/// A setup with one instance, which is called `export`.
fn exporting(upstream: &Upstream, plugin: &str, config: &str, grant: &str, more: &str) -> Setup {
    let item = format!("{{name: export, use: {plugin}, config: {{{config}}}, grant: {{{grant}}}{more}}}");
    setup(upstream.port, &[item], "")
}

pub struct Certificate {
    pub pem: String,
    pub key_pem: String,
}

pub fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    Certificate { pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
}

pub fn with_secret(mut setup: Setup, name: &str, value: &str) -> Setup {
    setup.more = setup.more.replacen("secrets: {", &format!("secrets: {{{name}: {{env: {}}}, ", name.to_uppercase()), 1);
    setup.env.push((name.to_uppercase(), value.to_owned()));
    setup
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verifier_of_another_author_accepts_every_signature() {
    const VERIFY: &str = "
import json, sys
from standardwebhooks import Webhook
for line in sys.stdin:
    seen = json.loads(line)
    Webhook(seen['secret']).verify(seen['body'], seen['headers'])
    try:
        Webhook(seen['secret']).verify(seen['body'] + ' ', seen['headers'])
    except Exception:
        print('ok')
";
    const NEXT: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDAAECAwQFBgc=";
    let Some(python) = python("standardwebhooks") else { return };
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(0).await);
    let plugin = receiver.plugin("hook", "", "").replace("secrets: [signing]", "secrets: [signing, next]");
    let edge = with_secret(setup(upstream.port, &[plugin], ""), "next", NEXT).start().await;
    ask(&edge, 3).await;
    assert!(eventually(PATIENCE, || receiver.upstream.count() >= 3).await);
    let mut child = Command::new(python).args(["-c", VERIFY]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    for seen in receiver.upstream.take() {
        let headers: serde_json::Map<String, Value> =
            seen.headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        // Both secrets verify: that is how one is replaced by the other.
        for secret in [SIGNING, NEXT] {
            writeln!(lines, "{}", serde_json::json!({"secret": secret, "body": seen.text(), "headers": headers})).unwrap();
        }
    }
    drop(lines);
    let out = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout).matches("ok").count(), 6);
    assert!(out.status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_reaches_a_server_over_starttls_and_a_digest_is_one_mail() {
    const SERVER: &str = "
import asyncio, json, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
port, cert, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
class Keep:
    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({'from': envelope.mail_from, 'to': envelope.rcpt_tos, 'tls': session.ssl is not None,
                          'user': str(session.auth_data or ''), 'data': envelope.content.decode()}), flush=True)
        return '250 kept'
def login(server, session, envelope, mechanism, data):
    good = data.login == b'gateway' and data.password == b'pw-7f2'
    return AuthResult(success=good, auth_data='gateway' if good else None)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
controller = Controller(Keep(), hostname='127.0.0.1', port=port, tls_context=context, require_starttls=True,
                        authenticator=login, auth_required=True)
controller.start()
print('ready', flush=True)
sys.stdin.read()
";
    let Some(python) = python("aiosmtpd") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (made, port) = (certificate(), free_port());
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, &made.pem).unwrap();
    std::fs::write(&key, &made.key_pem).unwrap();
    let mut server = Command::new(python)
        .args(["-c", SERVER, &port.to_string(), &cert.display().to_string(), &key.display().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = Arc::new(Mutex::new(Vec::<String>::new()));
    let (kept, out) = (lines.clone(), server.stdout.take().unwrap());
    std::thread::spawn(move || {
        use std::io::BufRead;
        std::io::BufReader::new(out).lines().map_while(Result::ok).for_each(|line| kept.lock().push(line));
    });
    assert!(eventually(PATIENCE, || lines.lock().contains(&"ready".to_owned())).await);

    let upstream = Upstream::start().await;
    let config = format!(
        "server: \"localhost:{port}\", username: gateway, password: password, ca: authority, from: \"Odock <gateway@odock.test>\", \
         to: [ops@odock.test, sec@odock.test], events: [\"request.*\"], digest: 2s"
    );
    let grant = format!("network: [\"localhost:{port} private\"], secrets: [password, authority]");
    let setup = exporting(&upstream, "email_notify", &config, &grant, "");
    let setup = with_secret(with_secret(setup, "password", "pw-7f2"), "authority", &made.pem);
    let edge = setup.start().await;
    ask(&edge, 5).await;
    let mails = || lines.lock().iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
    let told = || mails().iter().map(|mail| mail["data"].as_str().unwrap().matches("request_id:").count()).sum::<usize>();
    assert!(eventually(PATIENCE, || told() == 5).await, "{:?}\n{}", mails(), edge.log());
    let mails = mails();
    assert!(mails.len() <= 3, "five events of one interval, or of two: {}", mails.len());
    let mail = &mails[0];
    assert_eq!((&mail["from"], &mail["tls"], &mail["user"]), (&"gateway@odock.test".into(), &true.into(), &"gateway".into()));
    assert_eq!(mail["to"], serde_json::json!(["ops@odock.test", "sec@odock.test"]));
    let text = mail["data"].as_str().unwrap();
    assert!(text.contains("Subject: Odock gateway:") && text.contains("request.completed") && text.contains("Message-ID: <req_"), "{text}");
    assert!(!text.contains("Hello"), "nothing that was said");
    let _ = server.kill();
    let _ = server.wait();
}

/// Takes RFC 6587 frames apart.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(space) = bytes.iter().position(|b| *b == b' ') {
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        found.push(String::from_utf8(bytes[space + 1..space + 1 + length].to_vec()).unwrap());
        bytes = &bytes[space + 1 + length..];
    }
    assert!(bytes.is_empty(), "half a frame");
    found
}

fn assert_syslog(messages: &[String], class: u64) {
    let head = regex::Regex::new(r"^<(\d+)>1 (-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) \S+ odock-edge \d+ \S+ - (\{.*\})$").unwrap();
    for message in messages {
        let parts = head.captures(message).unwrap_or_else(|| panic!("no RFC 5424: {message}"));
        assert_eq!(parts[1].parse::<u32>().unwrap() / 8, 13, "the facility");
        let event: Value = serde_json::from_str(&parts[3]).unwrap();
        assert_eq!(event["class_uid"], class);
        assert!(!message.contains("Hello"), "nothing that was said");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_over_udp_tcp_and_tls() {
    let upstream = Upstream::start().await;
    let made = certificate();
    for carrier in ["udp", "tcp", "tls"] {
        let got = Arc::new(Mutex::new(Vec::<String>::new()));
        let (kept, port) = (
            got.clone(),
            match carrier {
                "udp" => {
                    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    let (port, kept) = (socket.local_addr().unwrap().port(), got.clone());
                    tokio::spawn(async move {
                        let mut datagram = vec![0; 65_536];
                        while let Ok(length) = socket.recv(&mut datagram).await {
                            kept.lock().push(String::from_utf8(datagram[..length].to_vec()).unwrap());
                        }
                    });
                    port
                }
                _ => 0,
            },
        );
        let port = if carrier == "udp" {
            port
        } else {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let acceptor = (carrier == "tls").then(|| {
                use rustls_pki_types::pem::PemObject;
                let chain = vec![rustls_pki_types::CertificateDer::from_pem_slice(made.pem.as_bytes()).unwrap()];
                let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(made.key_pem.as_bytes()).unwrap();
                let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
                let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .unwrap()
                    .with_no_client_auth()
                    .with_single_cert(chain, key)
                    .unwrap();
                tokio_rustls::TlsAcceptor::from(Arc::new(config))
            });
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let mut bytes = Vec::new();
                    match &acceptor {
                        None => drop(stream.read_to_end(&mut bytes).await.unwrap()),
                        Some(acceptor) => drop(acceptor.accept(stream).await.unwrap().read_to_end(&mut bytes).await.unwrap()),
                    }
                    kept.lock().extend(frames(&bytes));
                }
            });
            port
        };
        let ca = if carrier == "tls" { ", ca: authority" } else { "" };
        let config = format!("to: {{kind: syslog, address: \"localhost:{port}\", carrier: {carrier}{ca}}}, form: ocsf");
        let grant = format!("network: [\"localhost:{port} private\"], secrets: [authority]");
        let setup = with_secret(exporting(&upstream, "siem_export", &config, &grant, ""), "authority", &made.pem);
        let edge = setup.start().await;
        ask(&edge, 7).await;
        assert!(eventually(PATIENCE, || got.lock().len() >= 7).await, "{carrier}: {:?}\n{}", got.lock(), edge.log());
        assert_syslog(&got.lock(), 6003);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_turns_over_and_has_every_event() {
    let (upstream, dir) = (Upstream::start().await, tempfile::tempdir().unwrap());
    let folder = dir.path().display();
    let config = format!("to: {{kind: file, path: \"{folder}/audit.jsonl\", rotate: 8KiB, keep: 50}}, form: ecs, batch: 4");
    let edge = exporting(&upstream, "siem_export", &config, &format!("files: [\"{folder}\"]"), "").start().await;
    ask(&edge, 40).await;
    // While it is read a file may turn over and have another name.
    let texts = || std::fs::read_dir(dir.path()).unwrap().filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok());
    let count = || texts().map(|text| text.lines().count()).sum::<usize>();
    assert!(eventually(PATIENCE, || count() == 40).await, "{}\n{}", count(), edge.log());
    let lines: Vec<Value> =
        texts().flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()).collect();
    assert!(
        lines.len() == 40
            && lines.iter().all(|line| line["event"]["action"] == "request.completed" && line["http"]["response"]["status_code"] == 200)
    );
    assert!(std::fs::read_dir(dir.path()).unwrap().count() > 2, "it turned over");
}

/// A PostgreSQL of the test's own: it ends when its input does.
struct Postgres {
    folder: PathBuf,
    _alive: (Child, ChildStdin),
}

const KEEPER: &str = r#"
run() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$2"; fi
cd "$2" || exit 1
run "$1/initdb" -D "$2/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$2/log" 2>&1 || exit 1
run "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off >>"$2/log" 2>&1 &
cat >/dev/null
kill -QUIT "$(head -n 1 "$2/data/postmaster.pid")"
wait
cd /
rm -rf "$2"
"#;

impl Postgres {
    fn start() -> Option<(Self, PathBuf)> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
        let Some(programs) = versions.into_iter().find(|folder| folder.join("initdb").is_file()) else {
            missing("PostgreSQL");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("odock-pg-").tempdir().unwrap().keep();
        let mut child = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([&programs, &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let alive = child.stdin.take().unwrap();
        let postgres = Self { folder, _alive: (child, alive) };
        for _ in 0..600 {
            if std::os::unix::net::UnixStream::connect(postgres.folder.join(".s.PGSQL.5432")).is_ok() {
                return Some((postgres, programs));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL does not start");
    }

    fn ask(&self, programs: &std::path::Path, text: &str) -> String {
        let socket = self.folder.display().to_string();
        let out = Command::new(programs.join("psql")).args(["-h", &socket, "-U", "postgres", "-Atc", text]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_send_from_one_table_and_rows_arrive_once() {
    let Some((postgres, programs)) = Postgres::start() else { return };
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(30).await);
    let plugins = [
        receiver.plugin("hook", "", ""),
        "{name: analytics, use: analytics_export, config: {gather: 100ms}, storage_access: [postgres]}".to_owned(),
    ];
    let mut setup = setup(upstream.port, &plugins, ", breaker: {failures: 8, pause: 100ms}");
    setup.records = "kind: postgres, url: {env: DATABASE_URL}".into();
    setup.env.push(("DATABASE_URL".into(), format!("postgres://postgres@localhost/postgres?host={}", postgres.folder.display())));
    let edges = [setup.clone().start().await, setup.start().await];
    let mut ids = std::collections::HashSet::new();
    for n in 0..60 {
        let answer = edges[n % 2].send(&Request::chat(KEY, "fast", false)).await;
        ids.insert(answer.header("x-request-id").unwrap().to_owned());
    }
    let arrived = || receiver.upstream.seen().iter().map(|seen| seen.json()["subject"].as_str().unwrap().to_owned()).collect();
    let left = || postgres.ask(&programs, "SELECT count(*) FROM outbox");
    assert!(eventually(PATIENCE, || left() == "0").await, "{} left\n{}", left(), edges[0].log());
    assert_eq!(ids, arrived());
    assert!(eventually(PATIENCE, || postgres.ask(&programs, "SELECT count(*) FROM plugin_analytics.requests") == "60").await);
    let sums = "SELECT count(DISTINCT request_id), min(status), sum(input_tokens) > 0, count(model) FROM plugin_analytics.requests";
    assert_eq!(postgres.ask(&programs, sums), "60|200|t|60");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_threshold_is_told_once() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(0).await);
    let mut setup = setup(upstream.port, &[receiver.plugin("hook", "", ", events: [\"*.threshold\"]")], "");
    setup
        .acme
        .push("quotas: [{name: daily, owner: {type: ORG}, metric: REQUESTS, period: DAILY, limit: 10, thresholds: [50, 100]}]".into());
    setup.governance = "usage: true".into();
    let edge = setup.start().await;
    for _ in 0..8 {
        assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    }
    assert!(eventually(PATIENCE, || receiver.upstream.count() >= 1).await, "{}", edge.log());
    let event = receiver.upstream.last().json();
    assert_eq!((&event["type"], &event["data"]["percent"]), (&"ai.odock.gateway.quota.threshold.v1".into(), &50.into()));
    assert_eq!((&event["data"]["name"], &event["data"]["metric"]), (&"daily".into(), &"REQUESTS".into()));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.upstream.count(), 1);
}
