//! Design briefs: descriptions of what a person wants the gateway to do that it does not do yet, and what becomes of them. A
//! file is read into a [`Brief`] and [`classify()`]'d (as a plugin's work, or that of a standard control). For a plugin a
//! [`Design`] is made, from which [`folder()`] generates a plugin that builds and passes its cases.
//!
//! Pure functions: reading the brief is left to `config`, writing the folder to the command.

mod check;
mod classify;
mod design;
mod field;
mod folder;
mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
pub use check::{Flaw, check};
pub use classify::{Belongs, Claim, Classification, Signal, classify};
pub use design::{Design, Place};
pub use field::{Action, Datum, Moment, SystemKind, SystemRole, Traffic, Write};
pub use folder::{File, folder};

/// A commented brief that explains every field; it is itself a valid brief.
pub const TEMPLATE: &str = include_str!("template.yaml");

/// The product's design brief. Structured fields are believed before the words of the goal.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Brief {
    /// What the plugin is to be called: the name of its folder, `[a-z][a-z0-9_]*`.
    pub name: String,
    /// What is to be achieved and for whom, in sentences.
    pub goal: String,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
    /// Which traffic it is about.
    #[serde(default)]
    pub traffic_type: Vec<Traffic>,
    /// When it has to happen, as the caller would say it.
    #[serde(default)]
    pub moment: Vec<Moment>,
    /// For whom; everybody without.
    #[serde(default)]
    pub scope: Scope,
    /// What it does.
    #[serde(default)]
    pub action_model: Vec<Action>,
    /// Systems outside the gateway.
    #[serde(default)]
    pub external_systems: Vec<System>,
    /// What it reads, writes, and tells others.
    #[serde(default)]
    pub data_fields: DataFields,
    /// What a caller notices.
    #[serde(default)]
    pub visible_behaviour: Visible,
    /// What must be on record afterwards, one line each.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// How it starts.
    #[serde(default)]
    pub rollout: RolloutWish,
    /// Rules and reviews it has to meet, one line each.
    #[serde(default)]
    pub compliance: Vec<String>,
}

impl Brief {
    /// Adds what the brief leaves out: the actions that its goal speaks of, if it names neither actions nor systems, and a
    /// placeholder for the external system that such an action needs.
    #[must_use]
    pub fn completed(&self) -> Self {
        let mut brief = self.clone();
        if !brief.action_model.is_empty() || !brief.external_systems.is_empty() {
            return brief;
        }
        brief.action_model = words::actions(&brief.goal);
        if brief.moment.is_empty() && brief.action_model == [Action::Tag] {
            brief.moment.extend(words::moment(&brief.goal));
        }
        if brief.action_model.contains(&Action::Note) && brief.data_fields.reads.is_empty() {
            // What is to be noted occurs in a text.
            brief.data_fields.reads.push(Datum::RequestContent);
        }
        let asks = brief.action_model.contains(&Action::Ask);
        if asks || brief.action_model.contains(&Action::Deliver) {
            let role = if asks { SystemRole::Decides } else { SystemRole::Receives };
            let (url, private, secret) = (None, false, None);
            brief.external_systems.push(System {
                name: "system".to_owned(),
                kind: SystemKind::Other,
                role: Some(role),
                url,
                private,
                secret,
            });
        }
        brief
    }
}

/// A system outside the gateway.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its name, for evidence.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub kind: SystemKind,
    /// What it does for a request; by its kind without.
    #[serde(default)]
    pub role: Option<SystemRole>,
    /// Where it is called, `https://host[:port]/path`.
    #[serde(default)]
    pub url: Option<String>,
    /// Its address is inside the network.
    #[serde(default)]
    pub private: bool,
    /// Name of the secret that opens it, as under `secrets` of the configuration.
    #[serde(default)]
    pub secret: Option<String>,
}

impl System {
    /// The role of the system: as written, or by its kind.
    pub fn role(&self) -> SystemRole {
        self.role.unwrap_or(match self.kind {
            SystemKind::PolicyEngine | SystemKind::Dlp | SystemKind::Approval | SystemKind::Ticketing => SystemRole::Decides,
            SystemKind::Crm | SystemKind::Identity => SystemRole::Informs,
            _ => SystemRole::Receives,
        })
    }
}

/// Data in and out.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataFields {
    /// What it looks at.
    pub reads: Vec<Datum>,
    /// What it changes: `request.content`, `response.content`, `request.model`, `request.header.NAME`,
    /// `response.header.NAME`, `tag.NAME`.
    pub writes: Vec<Write>,
    /// What systems outside are told.
    pub leaves: Vec<Datum>,
    /// Words it looks for, by the name of the signal they stand for.
    pub words: BTreeMap<String, Vec<String>>,
}

/// What a caller notices.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Visible {
    /// Status of a refusal.
    pub status: Option<u16>,
    /// Its code, `[a-z0-9_]+`.
    pub code: Option<String>,
    /// Its text.
    pub message: Option<String>,
    /// In words, what else can be noticed.
    pub description: Option<String>,
}

/// How it starts.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutWish {
    /// Whether it only observes at first.
    pub observe_first: bool,
    /// For whom first.
    pub first: Scope,
    /// For which share of keys first, per cent.
    pub percent: u8,
    /// How long it observes, days.
    pub days: u16,
}

impl Default for RolloutWish {
    fn default() -> Self {
        Self { observe_first: true, first: Scope::default(), percent: 10, days: 7 }
    }
}

#[cfg(test)]
mod tests;
