//! Exports events to security tools: to a file, a syslog server or an HTTP collector; in the native form, in OCSF or in
//! ECS.

use crate::plugin::prelude::*;

mod form;
mod syslog;

use form::Form;

/// The manifest, as printed by `plugins show siem_export`.
pub static MANIFEST: Manifest = Manifest {
    name: "siem_export",
    version: "1.0.0",
    author: "Odock",
    category: "security",
    kind: "export",
    summary: "Exports events about requests, findings and budgets to a file, a syslog server or an HTTP collector, never content.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background, Style::Parallel, Style::Sequential],
    needs: &[Need::Background, Need::Deliver, Need::Files, Need::Network, Need::Notices, Need::Secrets],
    streams: false,
    evidence: &[("events", "how many events were handed to the outbox")],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| {
        let config: Config = cx.parse()?;
        let all = EVENTS.map(|(kind, _)| kind);
        if let Some(place) = config.events.iter().position(|pattern| !all.iter().any(|kind| pattern.matches(kind))) {
            return Err(BuildError::at(format!("events.{place}"), format!("names no event; there are {}", all.join(", "))));
        }
        let secret = |name: &Option<String>, at: &str| match name {
            None => Ok(None),
            Some(name) => cx.host.secret(name).map(Some).map_err(|error| BuildError::at(at, error.to_string())),
        };
        let (way, destination) = match &config.to {
            Target::File { path, rotate, keep } => {
                cx.host.may_write(path).map_err(|error| BuildError::at("to.path", error.to_string()))?;
                (Way::File { path: path.clone(), rotate: rotate.0, keep: *keep }, path.display().to_string())
            }
            Target::Syslog { address, carrier, ca, facility } => {
                cx.host.may_connect(address).map_err(|error| BuildError::at("to.address", error.to_string()))?;
                if *facility > 23 {
                    return Err(BuildError::at("to.facility", "a facility is 0 to 23"));
                }
                let authorities = secret(ca, "to.ca")?;
                (Way::Syslog { carrier: *carrier, authorities, facility: *facility }, address.clone())
            }
            Target::Http { receiver, framing } => {
                let to = receiver.open("to.receiver", &cx.host)?;
                let name = to.system().to_owned();
                (Way::Http { to, framing: *framing }, name)
            }
        };
        Ok(Arc::new(SiemExport { config, way, destination, host: cx.host.clone() }))
    },
};

/// Configuration of `siem_export`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to.
    to: Target,
    /// In which form.
    #[serde(default)]
    form: Form,
    /// Which events; all without. `*` stands for any run of characters.
    #[serde(default)]
    events: Vec<Glob>,
    /// How many events go together, 1 to 500.
    #[serde(default = "batch")]
    batch: usize,
    /// How long events gather before they go; at once without.
    #[serde(default)]
    gather: Option<Span>,
    /// What the gateway is called.
    #[serde(default = "source")]
    source: String,
    /// How long to wait for the other end.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn batch() -> usize {
    100
}

fn source() -> String {
    "odock-edge".to_owned()
}

fn timeout() -> Span {
    Span::seconds(10)
}

/// Where events go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Target {
    /// One JSON object a line.
    File {
        /// The whole path; under a directory of `grant.files`.
        path: std::path::PathBuf,
        /// The file does not become longer; then it is called `NAME.1`.
        #[serde(default = "rotate")]
        rotate: Size,
        /// How many older files stay.
        #[serde(default = "keep")]
        keep: u32,
    },
    /// RFC 5424; over TCP and TLS with octet counting (RFC 6587, RFC 5425).
    Syslog {
        /// `host:port`, in `grant.network`.
        address: String,
        /// How.
        #[serde(default = "carrier")]
        carrier: Carrier,
        /// Name of a secret with further certificate authorities, PEM.
        #[serde(default)]
        ca: Option<String>,
        /// The facility; 13 is the audit log.
        #[serde(default = "facility")]
        facility: u8,
    },
    /// `POST` of several events at once.
    Http {
        /// Address and credential.
        receiver: Receiver,
        /// How the events stand in the body.
        #[serde(default)]
        framing: Framing,
    },
}

fn rotate() -> Size {
    Size(64 << 20)
}

fn keep() -> u32 {
    7
}

fn carrier() -> Carrier {
    Carrier::Tls
}

fn facility() -> u8 {
    13
}

/// How events stand in a body.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Framing {
    /// One object a line, `application/x-ndjson`.
    #[default]
    Ndjson,
    /// A JSON array.
    Array,
    /// `{"event": …}` one after the other, as Splunk's HTTP event collector takes them.
    Hec,
}

enum Way {
    File { path: std::path::PathBuf, rotate: u64, keep: u32 },
    Syslog { carrier: Carrier, authorities: Option<Secret>, facility: u8 },
    Http { to: Destination, framing: Framing },
}

struct SiemExport {
    config: Config,
    way: Way,
    /// The destination's name in evidence and the outbox.
    destination: String,
    host: Host,
}

impl SiemExport {
    fn tell(&self, event: &Event) -> Result<Option<DeliveryId>, HostError> {
        if !self.config.events.is_empty() && !self.config.events.iter().any(|pattern| pattern.matches(event.kind)) {
            return Ok(None);
        }
        let body = self.config.form.write(event, &self.config.source).to_string();
        let mut delivery = Delivery::new(self.destination.as_str(), "application/json", body).with_id(event.id.as_str());
        delivery.request = event.request;
        if let Some(gather) = self.config.gather {
            delivery = delivery.not_before(self.host.now() + gather.0);
        }
        self.host.deliver(delivery).map(Some)
    }

    async fn send(&self, deliveries: &[Delivery]) -> Result<(), Delivered> {
        let bodies = || deliveries.iter().map(|delivery| delivery.body.as_ref());
        let failed = |error: HostError| Delivered::of_error(&error);
        match &self.way {
            Way::File { path, rotate, keep } => {
                let lines: Vec<u8> = bodies().flat_map(|body| body.iter().copied().chain([b'\n'])).collect();
                self.host.append(path, &lines, *rotate, *keep).await.map_err(failed)
            }
            Way::Syslog { carrier, authorities, facility } => {
                let lines = deliveries.iter().map(|delivery| syslog::message(delivery, &self.config.source, *facility));
                let pieces = if *carrier == Carrier::Udp { lines.map(Bytes::from).collect() } else { lines.map(syslog::counted).collect() };
                let (to, timeout) = (self.destination.clone(), self.config.timeout.0);
                let transmission = Transmission { to, carrier: *carrier, pieces, authorities: authorities.clone(), timeout };
                self.host.transmit(transmission).await.map_err(failed)
            }
            Way::Http { to, framing } => {
                let (body, media): (Vec<u8>, &str) = match framing {
                    Framing::Ndjson => (bodies().flat_map(|body| body.iter().copied().chain([b'\n'])).collect(), "application/x-ndjson"),
                    Framing::Array => ([b"[", bodies().collect::<Vec<_>>().join(&b","[..]).as_slice(), b"]"].concat(), "application/json"),
                    Framing::Hec => (bodies().flat_map(|body| [b"{\"event\":", body, b"}\n"].concat()).collect(), "application/json"),
                };
                let mut all = deliveries[0].clone();
                (all.body, all.content_type) = (body.into(), media.into());
                match to.deliver(&self.host, &all).await {
                    Delivered::Done { .. } => Ok(()),
                    other => Err(other),
                }
            }
        }
    }
}

#[async_trait]
impl Plugin for SiemExport {
    fn is_prompt(&self) -> bool {
        true
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        Ok(Event::told(cx, self.destination.as_str(), |event| self.tell(event))?)
    }

    async fn notice(&self, notice: &Notice) -> Result<(), PluginError> {
        self.tell(&Event::of_notice(notice))?;
        Ok(())
    }

    fn batch(&self) -> usize {
        self.config.batch.clamp(1, 500)
    }

    async fn deliver_all(&self, deliveries: &[Delivery]) -> Vec<Delivered> {
        if deliveries.is_empty() {
            return Vec::new();
        }
        // The events were sent together, so they all have the same outcome.
        match self.send(deliveries).await {
            Ok(()) => vec![Delivered::done(); deliveries.len()],
            Err(other) => vec![other; deliveries.len()],
        }
    }
}
