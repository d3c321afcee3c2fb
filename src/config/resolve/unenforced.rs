//! What this build can read and cannot enforce. A grant that would silently mean nothing is worse than none: each is an
//! error.

use crate::config::Config;
use crate::config::problems::Problems;

/// Refuses every member that asks for something this build does not do.
pub(super) fn refuse(config: &Config, problems: &mut Problems<'_>) {
    let mut deny = |path: String, what: &str| {
        problems.key_error(&path, format!("{what} not enforced by this build")).help("take it out; nothing would hold it".to_owned());
    };
    for (index, organisation) in config.root.organisations.iter().enumerate() {
        let here = format!("organisations[{index}]");
        if !organisation.mcp_servers.is_empty() {
            deny(format!("{here}.mcp_servers"), "MCP servers are");
        }
        for (key, entry) in organisation.api_keys.iter().enumerate() {
            if !entry.mcp_servers.is_empty() {
                deny(format!("{here}.api_keys[{key}].mcp_servers"), "MCP grants are");
            }
        }
    }
}
