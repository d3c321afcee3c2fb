//! `explain`: the meaning of the code in an error answer: the gateway's codes from their table, plugins' codes from their
//! manifests.

use super::{FAILED, print, tell};
use crate::error::{Code, codes};
use crate::limit::Field;
use crate::plugin::Roster;

const EXAMPLES: &str = "Examples:
  odock-edge explain                      every code, its status and what it says
  odock-edge explain rate_limit_exceeded
  odock-edge explain tpm_exceeded         a reason inside of one";

/// Arguments of `explain`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The value of `error.code`; all codes when left out
    code: Option<String>,
}

/// Explains one code, or lists all of them, the gateway's first.
pub fn run(args: &Args, roster: &Roster) -> i32 {
    let of_plugins = roster.iter().flat_map(|manifest| manifest.codes.iter().map(|code| (code, Some(manifest.name))));
    let mut all = codes::ALL.iter().map(|code| (*code, None)).chain(of_plugins);
    let Some(name) = &args.code else {
        return print(&all.map(|(code, plugin)| line(code, plugin)).collect::<String>());
    };
    // Plugins may share codes with the gateway and with one another, so there can be several explanations.
    let found: Vec<String> = all.by_ref().filter(|(code, _)| code.code == name).map(|(code, plugin)| page(code, plugin)).collect();
    let reason = Field::ALL.into_iter().find(|field| field.reason() == name);
    if let Some(field) = reason.filter(|_| found.is_empty()) {
        let said = format!("{name} is the `reason` of a refusal: the limit `{}` of a policy.\n\n", field.limit());
        let own = matches!(field, Field::RequestBytes | Field::MaxTokens);
        let more = "It is a limit of each request by itself, so waiting does not help: ask for less. A request that names no\nmaximum of tokens counts with its model's `max_output_tokens`.\n";
        return print(&(said + &if own { more.to_owned() } else { page(codes::RATE_LIMITED, None) }));
    }
    if found.is_empty() {
        tell(&format!(
            "no such code: {name}; `odock-edge explain` lists them all (the configuration of a plugin, or the system it asks, may choose others)"
        ));
        return FAILED;
    }
    print(&found.join("\n"))
}

fn line(code: &Code, plugin: Option<&str>) -> String {
    let whose = plugin.map(|name| format!(" (plugin {name})")).unwrap_or_default();
    format!("{} {:<34} {}{whose}\n", code.status, code.code, code.meaning)
}

fn page(code: &Code, plugin: Option<&str>) -> String {
    let whose = plugin.map(|name| format!("A refusal of the plugin `{name}`.\n\n")).unwrap_or_default();
    format!(
        "{} (HTTP {})\n\n{whose}{}\n\nThe caller reads: {}\nWhat to do: {}\n",
        code.code, code.status, code.meaning, code.message, code.remedy
    )
}
