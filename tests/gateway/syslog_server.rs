//! `siem_export` with rsyslog, an independent syslog server, over UDP, TCP and TLS.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::client::Request;
use crate::delivery::setup;
use crate::delivery_peers::{certificate, missing, with_secret};
use crate::edge::{Edge, KEY, KEY_WITHOUT_GRANTS, PATIENCE, eventually, free_port};
use crate::upstream::Upstream;

/// What rsyslog has read of a message, and by which of its inputs.
const CONF: &str = r#"
global(workDirectory="@DIR@" maxMessageSize="64k" defaultNetstreamDriverCAFile="@DIR@/cert.pem"
       defaultNetstreamDriverCertFile="@DIR@/cert.pem" defaultNetstreamDriverKeyFile="@DIR@/key.pem")
module(load="imudp")
module(load="imtcp")
template(name="parsed" type="string" string="%inputname% %syslogfacility-text% %syslogseverity-text% %timestamp:::date-rfc3339% %HOSTNAME% %APP-NAME% %PROCID% %MSGID% %STRUCTURED-DATA% %msg%\n")
ruleset(name="keep") { action(type="omfile" file="@DIR@/parsed" template="parsed" asyncWriting="off" flushOnTXEnd="on") }
input(type="imudp" name="udp" address="127.0.0.1" port="@UDP@" ruleset="keep")
input(type="imtcp" name="tcp" address="127.0.0.1" port="@TCP@" ruleset="keep" streamDriver.name="ptcp" streamDriver.mode="0")
input(type="imtcp" name="tls" address="127.0.0.1" port="@TLS@" ruleset="keep" streamDriver.name="@DRIVER@" streamDriver.mode="1"
      streamDriver.authMode="anon")
"#;

/// Runs it as nobody where the tests are root, and ends it when its own input ends.
const KEEPER: &str = r#"
cd "$2" || exit 1
if [ "$(id -u)" = 0 ]; then chown -R nobody "$2"; runuser -u nobody -- "$1" -n -f "$2/conf" -i "$2/pid" >>"$2/log" 2>&1 &
else "$1" -n -f "$2/conf" -i "$2/pid" >>"$2/log" 2>&1 & fi
cat >/dev/null
kill -TERM "$(cat "$2/pid")"
wait
"#;

/// An rsyslog of the test's own.
struct Rsyslog {
    program: PathBuf,
    folder: tempfile::TempDir,
    ports: [u16; 3],
    running: Option<(Child, ChildStdin)>,
}

impl Rsyslog {
    /// `None` where it, or what it needs for TLS, is not installed.
    fn installed(cert: &str, key: &str) -> Option<Self> {
        let in_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
        let programs = in_path.chain(["/usr/sbin".into(), "/sbin".into()]).map(|folder| folder.join("rsyslogd"));
        let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path().join("rsyslog"));
        let libraries: Vec<PathBuf> = folders.chain(["/usr/lib/rsyslog".into(), "/usr/lib64/rsyslog".into()]).collect();
        let known = ["ossl", "gtls"].into_iter();
        let driver = known.into_iter().find(|name| libraries.iter().any(|library| library.join(format!("lmnsd_{name}.so")).is_file()));
        let (Some(program), Some(driver)) = (programs.into_iter().find(|program| program.is_file()), driver) else {
            missing("rsyslog with rsyslog-openssl");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let ports = [free_port(), free_port(), free_port()];
        let mut conf = CONF.replace("@DIR@", &folder.path().display().to_string()).replace("@DRIVER@", driver);
        for (name, port) in ["@UDP@", "@TCP@", "@TLS@"].iter().zip(ports) {
            conf = conf.replace(name, &port.to_string());
        }
        for (name, text) in [("conf", conf.as_str()), ("cert.pem", cert), ("key.pem", key)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Some(Self { program, folder, ports, running: None })
    }

    /// Starts it and waits until it has read a datagram and listens on both ports.
    async fn up(&mut self) {
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&self.program).arg(self.folder.path());
        let mut child = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let alive = child.stdin.take().unwrap();
        self.running = Some((child, alive));
        let probe = format!("probe-{}", free_port());
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let [udp, tcp, tls] = self.ports;
        let ready = || {
            // A port that nobody listens on may refuse.
            let _ = socket.send_to(format!("<14>1 - here test - {probe} - ready").as_bytes(), ("127.0.0.1", udp));
            let listens = [tcp, tls].iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok());
            listens && self.text("parsed").contains(&probe)
        };
        assert!(eventually(PATIENCE, ready).await, "{}", self.text("log"));
    }

    fn down(&mut self) {
        if let Some((mut child, alive)) = self.running.take() {
            drop(alive);
            child.wait().unwrap();
        }
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// What came by one input, a line each.
    fn parsed(&self, input: &str) -> Vec<Parsed> {
        let text = self.text("parsed");
        text.lines().map(Parsed::of).filter(|parsed| parsed.input == input && parsed.app == "odock-edge").collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        self.down();
    }
}

/// The fields of a message as rsyslog has read them.
#[derive(Debug)]
struct Parsed {
    input: String,
    facility: String,
    severity: String,
    at: String,
    host: String,
    app: String,
    process: String,
    kind: String,
    structured: String,
    message: String,
}

impl Parsed {
    fn of(line: &str) -> Self {
        let mut fields = line.splitn(10, ' ').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        Self {
            input: next(),
            facility: next(),
            severity: next(),
            at: next(),
            host: next(),
            app: next(),
            process: next(),
            kind: next(),
            structured: next(),
            message: next(),
        }
    }

    /// The request that it speaks of, and when that was, in each of the forms.
    fn event(&self) -> (String, String) {
        let event: Value = serde_json::from_str(&self.message).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let text = |place: &str| event.pointer(place).and_then(Value::as_str).map(str::to_owned);
        let request = ["/request_id", "/http/request/id", "/api/request/uid"].iter().find_map(|place| text(place)).unwrap();
        let millis = || {
            let at: jiff::Timestamp = self.at.parse().unwrap();
            let same = at.as_millisecond() == event["time"].as_i64().unwrap();
            if same { self.at.clone() } else { format!("not {}", event["time"]) }
        };
        (request, ["/at", "/@timestamp"].iter().find_map(|place| text(place)).unwrap_or_else(millis))
    }
}

/// Requests that are answered, and one that is refused at the end; their ids.
async fn ask(edge: &Edge, answered: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for (key, status) in std::iter::repeat_n((KEY, 200), answered).chain([(KEY_WITHOUT_GRANTS, 403)]) {
        let answer = edge.send(&Request::chat(key, "fast", false)).await;
        assert_eq!(answer.status, status);
        ids.insert(answer.header("x-request-id").unwrap().to_owned());
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rsyslog_reads_every_field_over_every_carrier_and_gets_what_was_sent_while_it_was_away() {
    let made = certificate();
    let Some(mut server) = Rsyslog::installed(&made.pem, &made.key_pem) else { return };
    server.up().await;
    let upstream = Upstream::start().await;
    let [udp, tcp, tls] = server.ports;
    let export = |name: &str, port: u16, carrier: &str, form: &str, ca: &str| {
        format!(
            "{{name: {name}, use: siem_export, config: {{to: {{kind: syslog, address: \"localhost:{port}\", carrier: {carrier}{ca}}}, \
             form: {form}, source: \"{name} of K\u{f6}ln\"}}, grant: {{network: [\"localhost:{port} private\"], secrets: [authority]}}}}"
        )
    };
    let plugins = [
        export("udp", udp, "udp", "native", ""),
        export("tcp", tcp, "tcp", "ecs", ""),
        export("tls", tls, "tls", "ocsf", ", ca: authority"),
        // Nobody told this one whom to believe, so it tells nobody anything.
        export("stranger", tls, "tls", "native", ""),
    ];
    let setup = setup(upstream.port, &plugins, ", breaker: {failures: 3, pause: 300ms}");
    let edge = with_secret(setup, "authority", &made.pem).start().await;
    let ids = ask(&edge, 4).await;
    let came = |server: &Rsyslog, input: &str| -> BTreeSet<String> { server.parsed(input).iter().map(|parsed| parsed.event().0).collect() };
    let process = edge.pid().await.to_string();
    for input in ["udp", "tcp", "tls"] {
        assert!(eventually(PATIENCE, || came(&server, input) == ids).await, "{input}: {}\n{}", server.text("log"), edge.log());
        let parsed = server.parsed(input);
        assert_eq!(parsed.len(), 5, "{input}");
        for one in &parsed {
            let severity = if one.kind == "request.refused" { "warning" } else { "info" };
            let host = format!("{input}_of_K_ln");
            let fields = [&one.facility, &one.severity, &one.host, &one.process, &one.structured].map(String::as_str);
            assert_eq!(fields, ["audit", severity, &host, &process, "-"], "{one:?}");
            assert_eq!(one.at, one.event().1, "the time of the event: {one:?}");
            assert!(!one.message.contains("Hello") && !one.message.contains(KEY), "nothing that was said, no key");
        }
        let kinds = |kind: &str| parsed.iter().filter(|one| one.kind == kind).count();
        assert_eq!((kinds("request.completed"), kinds("request.refused")), (4, 1), "{parsed:?}");
    }
    server.down();
    let later = ask(&edge, 2).await;
    let tried = eventually(PATIENCE, || edge.log().contains("a destination is paused")).await;
    assert!(tried, "{}", edge.log());
    server.up().await;
    let all: BTreeSet<String> = ids.union(&later).cloned().collect();
    // Of datagrams nobody knows.
    for input in ["tcp", "tls"] {
        assert!(eventually(PATIENCE, || came(&server, input) == all).await, "{input}: {:?}\n{}", came(&server, input), edge.log());
    }
    assert!(!server.text("parsed").contains("stranger"), "a server that proved nothing was told");
    assert!(Path::new("/proc").join(&process).exists());
}
