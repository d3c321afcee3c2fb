//! The on-call people get an e-mail when a provider fails.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// What `plugins show failure_mail` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "failure_mail",
    version: "0.1.0",
    author: "operations",
    category: "custom",
    kind: "delivery",
    summary: "The on-call people get an e-mail when a provider fails.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background],
    needs: &[Need::Network, Need::Secrets, Need::Background, Need::Deliver],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(FailureMail::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `failure_mail`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The system that is told.
    deliver: Option<Receiver>,
}

struct FailureMail {
    deliver: Destination,
    host: Host,
}

impl FailureMail {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let deliver = config.deliver.as_ref().ok_or_else(|| BuildError::at("deliver", "names no system"))?.open("deliver", &host)?;
        Ok(Self { deliver, host })
    }
}

#[async_trait]
impl Plugin for FailureMail {
    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "provider": cx.provider(),
            "status": cx.status(),
            "end": cx.outcome().end.as_str(),
        });
        let delivery = Delivery::new("mailer", "application/json", document.to_string()).about(cx.request_id());
        cx.external("mailer", Some(self.host.deliver(delivery)?.to_string()));
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        self.deliver.deliver(&self.host, delivery).await
    }
}
