//! `schema`: the JSON Schema of the configuration, for editors.

use super::{FAILED, print};
use crate::config;
use crate::gateway::Builder;

/// Prints the schema, including the configuration of every plugin in this build.
pub fn run(builder: &Builder) -> i32 {
    match serde_json::to_string_pretty(&config::schema(&builder.roster())) {
        Ok(text) => print(&format!("{text}\n")),
        Err(_) => FAILED,
    }
}
