//! One text as the modules see it.

use crate::wire::{Kind, Role};

/// Whose words are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What goes to the provider.
    Request,
    /// What comes from it.
    Response,
}

/// One text of a request or an answer, decoded from its JSON.
#[derive(Debug, Clone)]
pub struct Passage<'a> {
    /// What it says, as written.
    pub text: &'a str,
    /// Whose words.
    pub side: Side,
    /// What it is for.
    pub kind: Kind,
    /// Whose it is.
    pub role: Role,
}

impl<'a> Passage<'a> {
    /// A passage of one side's words.
    pub fn new(text: &'a str, side: Side, kind: Kind, role: Role) -> Self {
        Self { text, side, kind, role }
    }
}
