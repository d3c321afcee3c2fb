//! During an incident a runbook of ours swaps the models that applications ask for.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use std::collections::BTreeMap;

use odock_edge::plugin::prelude::*;

/// What `plugins show incident_model` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "incident_model",
    version: "0.1.0",
    author: "reliability",
    category: "custom",
    kind: "transform",
    summary: "During an incident a runbook of ours swaps the models that applications ask for.",
    gates: &[Gate::PreRoute],
    styles: &[Style::Sequential],
    needs: &[Need::WriteRequest],
    streams: false,
    evidence: &[("model", "the model that was asked for and the one chosen")],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(IncidentModel::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `incident_model`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The model that is asked for, and the one that is taken in its place.
    models: BTreeMap<String, String>,
}

struct IncidentModel {
    config: Config,
}

impl IncidentModel {
    fn build(config: Config, _host: Host) -> Result<Self, BuildError> {
        Ok(Self { config })
    }
}

#[async_trait]
impl Plugin for IncidentModel {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        if let Some((from, to)) = cx.model().and_then(|model| self.config.models.get_key_value(model)) {
            cx.note("model", format!("{from}={to}"));
            cx.set_model(to.as_str())?;
        }
        Ok(Verdict::Next)
    }
}
