//! After each response a webhook of the product team is called with model, status and tokens.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// What `plugins show finished_webhook` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "finished_webhook",
    version: "0.1.0",
    author: "product",
    category: "custom",
    kind: "delivery",
    summary: "After each response a webhook of the product team is called with model, status and tokens.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background],
    needs: &[Need::Network, Need::Background, Need::Deliver],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(FinishedWebhook::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `finished_webhook`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The system that is told.
    deliver: Option<Receiver>,
}

struct FinishedWebhook {
    deliver: Destination,
    host: Host,
}

impl FinishedWebhook {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let deliver = config.deliver.as_ref().ok_or_else(|| BuildError::at("deliver", "names no system"))?.open("deliver", &host)?;
        Ok(Self { deliver, host })
    }
}

#[async_trait]
impl Plugin for FinishedWebhook {
    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "model": cx.model(),
            "status": cx.status(),
            "tokens": {"input": cx.outcome().usage.input, "output": cx.outcome().usage.output},
            "upstream_ms": cx.outcome().upstream_ms,
        });
        let delivery = Delivery::new("hooks", "application/json", document.to_string()).about(cx.request_id());
        cx.external("hooks", Some(self.host.deliver(delivery)?.to_string()));
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        self.deliver.deliver(&self.host, delivery).await
    }
}
