//! Records of who called which model are to be kept in the long-term archive for ten years.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// What `plugins show audit_archive` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "audit_archive",
    version: "0.1.0",
    author: "records-management",
    category: "custom",
    kind: "delivery",
    summary: "Records of who called which model are to be kept in the long-term archive for ten years.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background],
    needs: &[Need::Network, Need::Background, Need::Deliver],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(AuditArchive::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `audit_archive`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The system that is told.
    deliver: Option<Receiver>,
}

struct AuditArchive {
    deliver: Destination,
    host: Host,
}

impl AuditArchive {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let deliver = config.deliver.as_ref().ok_or_else(|| BuildError::at("deliver", "names no system"))?.open("deliver", &host)?;
        Ok(Self { deliver, host })
    }
}

#[async_trait]
impl Plugin for AuditArchive {
    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "organisation": caller.map(|caller| caller.organisation.name.to_string()),
            "user": caller.and_then(|caller| caller.user.as_ref()).map(|user| user.name.to_string()),
            "model": cx.model(),
            "status": cx.status(),
            "tokens": {"input": cx.outcome().usage.input, "output": cx.outcome().usage.output},
        });
        let delivery = Delivery::new("archive", "application/json", document.to_string()).about(cx.request_id());
        cx.external("archive", Some(self.host.deliver(delivery)?.to_string()));
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        self.deliver.deliver(&self.host, delivery).await
    }
}
