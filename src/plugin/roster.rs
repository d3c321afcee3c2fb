//! The plugins of this binary: the folders under `plugins/`, found at build time, and those that an embedding program adds.

use super::Manifest;

include!(concat!(env!("OUT_DIR"), "/roster.rs"));

/// The manifests of plugins, by name.
#[derive(Debug, Clone, Default)]
pub struct Roster(Vec<&'static Manifest>);

impl Roster {
    /// The bundled plugins.
    pub fn bundled() -> Self {
        Self(BUNDLED.to_vec())
    }

    /// Adds a plugin, replacing one of the same name.
    pub fn with(mut self, manifest: &'static Manifest) -> Self {
        self.0.retain(|known| known.name != manifest.name);
        self.0.push(manifest);
        self
    }

    /// The plugin of this name.
    pub fn find(&self, name: &str) -> Option<&'static Manifest> {
        self.0.iter().copied().find(|manifest| manifest.name == name)
    }

    /// All plugins: the bundled ones by name, then the added ones.
    pub fn iter(&self) -> impl Iterator<Item = &'static Manifest> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::gate::{Gate, Style};
    use crate::plugin::Need;

    /// A manifest that contradicts itself is refused at load; in a bundled plugin that would be a defect of ours.
    #[test]
    fn bundled_manifests_hold_together() {
        for manifest in BUNDLED {
            let name = manifest.name;
            assert!(!manifest.gates.is_empty() && !manifest.styles.is_empty(), "{name} stands nowhere");
            let background = manifest.styles.contains(&Style::Background);
            assert_eq!(background, manifest.needs.contains(&Need::Background), "{name}: background style and need");
            assert!(!background || manifest.gates.contains(&Gate::PostResponse), "{name}: background is post_response");
            assert!(
                !manifest.streams || manifest.gates.contains(&Gate::PostUpstream),
                "{name} filters streams without standing at post_upstream"
            );
            assert!((manifest.config_schema)().is_object(), "{name}: no schema");
            assert!(std::ptr::eq(Roster::bundled().find(name).unwrap(), *manifest), "{name} twice");
        }
    }
}
