//! Usage of all models flows into the warehouse for analytics, row by row.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// What `plugins show usage_warehouse` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "usage_warehouse",
    version: "0.1.0",
    author: "analytics",
    category: "custom",
    kind: "delivery",
    summary: "Usage of all models flows into the warehouse for analytics, row by row.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background],
    needs: &[Need::Network, Need::Background, Need::Deliver],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(UsageWarehouse::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `usage_warehouse`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The system that is told.
    deliver: Option<Receiver>,
}

struct UsageWarehouse {
    deliver: Destination,
    host: Host,
}

impl UsageWarehouse {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let deliver = config.deliver.as_ref().ok_or_else(|| BuildError::at("deliver", "names no system"))?.open("deliver", &host)?;
        Ok(Self { deliver, host })
    }
}

#[async_trait]
impl Plugin for UsageWarehouse {
    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "organisation": caller.map(|caller| caller.organisation.name.to_string()),
            "team": caller.and_then(|caller| caller.team.as_ref()).map(|team| team.name.to_string()),
            "model": cx.model(),
            "provider": cx.provider(),
            "tokens": {"input": cx.outcome().usage.input, "output": cx.outcome().usage.output},
            "upstream_ms": cx.outcome().upstream_ms,
            "status": cx.status(),
        });
        let delivery = Delivery::new("warehouse", "application/json", document.to_string()).about(cx.request_id());
        cx.external("warehouse", Some(self.host.deliver(delivery)?.to_string()));
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        self.deliver.deliver(&self.host, delivery).await
    }
}
