//! Sends mail about events: one for each, or one for all events of an interval.

use crate::plugin::prelude::*;

mod letter;

use letter::{Letter, letter};

/// The manifest, as printed by `plugins show email_notify`.
pub static MANIFEST: Manifest = Manifest {
    name: "email_notify",
    version: "1.0.0",
    author: "Odock",
    category: "notification",
    kind: "export",
    summary: "Sends mail about refusals, findings and budgets, one by one or together; facts and counts, never content.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background, Style::Parallel, Style::Sequential],
    needs: &[Need::Background, Need::Deliver, Need::Mail, Need::Network, Need::Notices, Need::Secrets],
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
        if config.to.is_empty() {
            return Err(BuildError::at("to", "somebody has to get the mail"));
        }
        const NO_ADDRESS: &str = "this is no mail address; write `Name <name@example.com>` or the address alone";
        if !Mail::is_mailbox(&config.from) {
            return Err(BuildError::at("from", NO_ADDRESS));
        }
        if let Some(place) = config.to.iter().position(|to| !Mail::is_mailbox(to)) {
            return Err(BuildError::at(format!("to.{place}"), NO_ADDRESS));
        }
        if config.subject.contains(['\r', '\n']) {
            return Err(BuildError::at("subject", "a subject is one line"));
        }
        cx.host.may_connect(&config.server).map_err(|error| BuildError::at("server", error.to_string()))?;
        let secret = |name: &Option<String>, at: &str| match name {
            None => Ok(None),
            Some(name) => cx.host.secret(name).map(Some).map_err(|error| BuildError::at(at, error.to_string())),
        };
        let credentials = match (&config.username, secret(&config.password, "password")?) {
            (Some(name), Some(password)) => Some((name.clone(), password)),
            (None, None) => None,
            _ => return Err(BuildError::at("username", "a name and a password go together")),
        };
        if credentials.is_some() && config.security == MailSecurity::Plain {
            return Err(BuildError::at("security", "a password is not sent in clear"));
        }
        let (subject, text) = (
            Letter::parse(&config.subject).map_err(|message| BuildError::at("subject", message))?,
            Letter::parse(&config.text).map_err(|message| BuildError::at("text", message))?,
        );
        let relay = Relay {
            address: config.server.clone(),
            security: config.security,
            credentials,
            authorities: secret(&config.ca, "ca")?,
            timeout: config.timeout.0,
        };
        Ok(Arc::new(EmailNotify { relay, subject, text, config, host: cx.host.clone() }))
    },
};

/// Configuration of `email_notify`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// `host:port` of the mail server, in `grant.network`.
    server: String,
    /// How it is spoken to; `plain` only for a server on the same machine.
    #[serde(default = "security")]
    security: MailSecurity,
    /// The name to log in with.
    #[serde(default)]
    username: Option<String>,
    /// Name of the secret with its password.
    #[serde(default)]
    password: Option<String>,
    /// Name of a secret with further certificate authorities, PEM.
    #[serde(default)]
    ca: Option<String>,
    /// The sender, `Name <address>` or an address.
    from: String,
    /// Whom it is for.
    to: Vec<String>,
    /// Which events. `*` stands for any run of characters.
    #[serde(default = "events")]
    events: Vec<Glob>,
    /// All events of such an interval in one mail; one mail for each without.
    #[serde(default)]
    digest: Option<Span>,
    /// The subject: a template.
    #[serde(default = "subject")]
    subject: String,
    /// What is said of one event: a template.
    #[serde(default = "text")]
    text: String,
    /// How long to wait for the mail server.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn security() -> MailSecurity {
    MailSecurity::Starttls
}

fn events() -> Vec<Glob> {
    ["security.finding", "*.threshold"].iter().filter_map(|pattern| Glob::parse(pattern).ok()).collect()
}

fn subject() -> String {
    "Odock gateway: {count} {event}".to_owned()
}

fn text() -> String {
    "{at}  {event}  {subject}\n{facts}".to_owned()
}

fn timeout() -> Span {
    Span::seconds(15)
}

struct EmailNotify {
    config: Config,
    relay: Relay,
    subject: Letter,
    text: Letter,
    host: Host,
}

impl EmailNotify {
    fn tell(&self, event: &Event) -> Result<Option<DeliveryId>, HostError> {
        if !self.config.events.iter().any(|pattern| pattern.matches(event.kind)) {
            return Ok(None);
        }
        let body = event.native().to_string();
        let mut delivery = Delivery::new(self.config.server.as_str(), "application/json", body).with_id(event.id.as_str());
        delivery.request = event.request;
        if let Some(digest) = self.config.digest {
            // All events of an interval become due at its end.
            let since = self.host.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
            let length = digest.0.as_millis().max(1);
            let end = u64::try_from((since / length + 1) * length).unwrap_or(u64::MAX);
            delivery = delivery.not_before(std::time::UNIX_EPOCH + Duration::from_millis(end));
        }
        self.host.deliver(delivery).map(Some)
    }
}

#[async_trait]
impl Plugin for EmailNotify {
    fn is_prompt(&self) -> bool {
        true
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        Ok(Event::told(cx, self.config.server.as_str(), |event| self.tell(event))?)
    }

    async fn notice(&self, notice: &Notice) -> Result<(), PluginError> {
        self.tell(&Event::of_notice(notice))?;
        Ok(())
    }

    fn batch(&self) -> usize {
        if self.config.digest.is_some() { 500 } else { 1 }
    }

    async fn deliver_all(&self, deliveries: &[Delivery]) -> Vec<Delivered> {
        let Some(first) = deliveries.first() else { return Vec::new() };
        let events: Vec<Value> = deliveries.iter().filter_map(|delivery| serde_json::from_slice(&delivery.body).ok()).collect();
        let (subject, text) = letter(&self.subject, &self.text, &events);
        let mail = Mail { from: self.config.from.clone(), to: self.config.to.clone(), subject, text, id: first.id.to_string() };
        let outcome = match self.host.mail(&self.relay, &mail).await {
            Ok(external_id) => Delivered::Done { external_id },
            Err(error) => Delivered::of_error(&error),
        };
        vec![outcome; deliveries.len()]
    }
}
