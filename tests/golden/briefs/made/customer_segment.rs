//! Usage is to be told apart by the customer's segment, which only the CRM knows.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// What `plugins show customer_segment` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "customer_segment",
    version: "0.1.0",
    author: "sales-operations",
    category: "custom",
    kind: "audit",
    summary: "Usage is to be told apart by the customer's segment, which only the CRM knows.",
    gates: &[Gate::PreUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::Tags, Need::Network, Need::Secrets],
    streams: false,
    evidence: &[("answer", "what the system that was asked said")],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(CustomerSegment::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `customer_segment`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The system that is asked.
    ask: Option<Receiver>,
}

struct CustomerSegment {
    ask: Destination,
    host: Host,
}

impl CustomerSegment {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let ask = config.ask.as_ref().ok_or_else(|| BuildError::at("ask", "names no system"))?.open("ask", &host)?;
        Ok(Self { ask, host })
    }

    /// Asks crm: what is to be attached.
    async fn ask(&self, cx: &View<'_>) -> Result<Vec<(String, String)>, PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "organisation": caller.map(|caller| caller.organisation.name.to_string()),
        });
        let answer = self.host.fetch(self.ask.post(document.to_string())).await?;
        if answer.status != 200 {
            return Err(PluginError::failed(format!("{} answered {}", self.ask.system(), answer.status)));
        }
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| PluginError::failed("its answer is not JSON"))?;
        cx.external("crm", answer.get("id").and_then(Value::as_str).map(str::to_owned));
        let tags = answer.get("tags").and_then(Value::as_object).ok_or_else(|| PluginError::failed("its answer has no `tags`"))?;
        cx.note("answer", tags.len().to_string());
        Ok(tags.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
    }
}

#[async_trait]
impl Plugin for CustomerSegment {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        for (key, value) in self.ask(cx).await? {
            cx.tag(key, value)?;
        }
        Ok(Verdict::Next)
    }
}
