//! What a person wrote, checked, and turned into the [`Snapshot`] that requests run on.

mod settings;
mod snapshot;

pub use settings::{AdminSettings, EvidenceSettings, LogFormat, LogSettings, PluginSettings, ServerSettings, SigningKey, TlsFiles};
pub use snapshot::Snapshot;
