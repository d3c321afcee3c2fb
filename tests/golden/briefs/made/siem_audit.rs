//! Security operations needs an event of every governed request in its SIEM, within a minute of its end.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// What `plugins show siem_audit` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "siem_audit",
    version: "0.1.0",
    author: "security-operations",
    category: "custom",
    kind: "delivery",
    summary: "Security operations needs an event of every governed request in its SIEM, within a minute of its end.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background],
    needs: &[Need::Network, Need::Secrets, Need::Background, Need::Deliver],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(SiemAudit::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `siem_audit`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The system that is told.
    deliver: Option<Receiver>,
}

struct SiemAudit {
    deliver: Destination,
    host: Host,
}

impl SiemAudit {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let deliver = config.deliver.as_ref().ok_or_else(|| BuildError::at("deliver", "names no system"))?.open("deliver", &host)?;
        Ok(Self { deliver, host })
    }
}

#[async_trait]
impl Plugin for SiemAudit {
    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "organisation": caller.map(|caller| caller.organisation.name.to_string()),
            "team": caller.and_then(|caller| caller.team.as_ref()).map(|team| team.name.to_string()),
            "api_key": caller.map(|caller| caller.key_name.to_string()),
            "model": cx.model(),
            "provider": cx.provider(),
            "status": cx.status(),
            "end": cx.outcome().end.as_str(),
            "decisions": cx.executions().iter().map(|step| json!({"plugin": &*step.plugin, "decision": step.decision.as_str()})).collect::<Vec<_>>(),
        });
        let delivery = Delivery::new("splunk", "application/json", document.to_string()).about(cx.request_id());
        cx.external("splunk", Some(self.host.deliver(delivery)?.to_string()));
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        self.deliver.deliver(&self.host, delivery).await
    }
}
