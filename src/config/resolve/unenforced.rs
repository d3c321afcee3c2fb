//! What this build can read and cannot enforce. A limit that would silently not hold is worse than none: each is an
//! error.

use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{RecordsKind};

/// Refuses every member that asks for something this build does not do.
pub(super) fn refuse(config: &Config, problems: &mut Problems<'_>) {
    let root = &config.root;
    let mut deny = |path: String, what: &str, help: &str| {
        problems.key_error(&path, format!("{what} not enforced by this build")).help(help.to_owned());
    };
    if root.records.kind != RecordsKind::Embedded {
        deny("records.kind".into(), "a record server is", "write `kind: embedded`");
    }
    let without = "take it out; nothing would hold it";
    for (index, organisation) in root.organisations.iter().enumerate() {
        let here = format!("organisations[{index}]");
        if !organisation.mcp_servers.is_empty() {
            deny(format!("{here}.mcp_servers"), "MCP servers are", without);
        }
        if !organisation.policies.is_default() {
            deny(format!("{here}.policies"), "policies are", without);
        }
        if !organisation.budgets.is_empty() {
            deny(format!("{here}.budgets"), "budgets are", without);
        }
        if !organisation.quotas.is_empty() {
            deny(format!("{here}.quotas"), "quotas are", without);
        }
        let teams = organisation.teams.iter().map(|t| &t.policies).enumerate().map(|(i, p)| (format!("teams[{i}]"), p));
        let models = organisation.models.iter().map(|m| &m.policies).enumerate().map(|(i, p)| (format!("models[{i}]"), p));
        let keys = organisation.api_keys.iter().map(|k| &k.policies).enumerate().map(|(i, p)| (format!("api_keys[{i}]"), p));
        for (member, policies) in teams.chain(models).chain(keys) {
            if !policies.is_default() {
                deny(format!("{here}.{member}.policies"), "policies are", without);
            }
        }
        for (key, entry) in organisation.api_keys.iter().enumerate() {
            if !entry.mcp_servers.is_empty() {
                deny(format!("{here}.api_keys[{key}].mcp_servers"), "MCP grants are", without);
            }
        }
    }
}
