//! The provider wants two headers of ours on each call, x-team and x-request-ref.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use std::collections::BTreeMap;

use odock_edge::plugin::prelude::*;

/// What `plugins show provider_headers` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "provider_headers",
    version: "0.1.0",
    author: "platform",
    category: "custom",
    kind: "enrichment",
    summary: "The provider wants two headers of ours on each call, x-team and x-request-ref.",
    gates: &[Gate::PreUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::Headers],
    streams: false,
    evidence: &[
        ("set", "how many headers and tags were set"),
        ("without_value", "what was not set because it has no value for this request"),
    ],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(ProviderHeaders::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `provider_headers`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Headers towards the provider, with templates of their values.
    headers: BTreeMap<String, String>,
}

struct ProviderHeaders {
    headers: Vec<(String, Template)>,
    host: Host,
}

impl ProviderHeaders {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let headers = templates("headers", &config.headers, &host)?;
        Ok(Self { headers, host })
    }

    /// What has a value for this request; what has none, or one that no head can carry, is noted.
    fn rendered<'t>(&self, templates: &'t [(String, Template)], cx: &View<'_>) -> Result<Vec<(&'t str, String)>, PluginError> {
        let mut values = Vec::new();
        let mut without = Vec::new();
        for (name, template) in templates {
            let value = template.render(cx, &self.host)?.filter(|value| value.bytes().all(|b| (0x20..0x7f).contains(&b)));
            match value {
                Some(value) => values.push((name.as_str(), value)),
                None => without.push(name.as_str()),
            }
        }
        if !without.is_empty() {
            cx.note("without_value", without.join(" "));
        }
        Ok(values)
    }
}

#[async_trait]
impl Plugin for ProviderHeaders {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        let headers = self.rendered(&self.headers, cx)?;
        cx.note("set", headers.len().to_string());
        for (name, value) in &headers {
            cx.set_header(name, value)?;
        }
        Ok(Verdict::Next)
    }
}

fn compiled(at: &str, text: &str, host: &Host) -> Result<Template, BuildError> {
    Template::compile(text, host).map_err(|why| BuildError::at(at, why))
}

fn templates(at: &str, texts: &BTreeMap<String, String>, host: &Host) -> Result<Vec<(String, Template)>, BuildError> {
    texts.iter().map(|(name, text)| Ok((name.clone(), compiled(&format!("{at}.{name}"), text, host)?))).collect()
}
