//! `explain`: what a code of an error answer means, from the one table of codes.

use super::{FAILED, print, tell};
use crate::error::codes;

/// Arguments of `explain`.
#[derive(clap::Args)]
pub struct Args {
    /// The value of `error.code`; all codes when left out
    code: Option<String>,
}

/// Explains one code or lists them all.
pub fn run(args: &Args) -> i32 {
    let Some(name) = &args.code else {
        return print(&codes::ALL.iter().map(|c| format!("{} {:<34} {}\n", c.status, c.code, c.meaning)).collect::<String>());
    };
    let Some(code) = codes::find(name) else {
        tell(&format!("no such code: {name}; `odock-edge explain` lists them all (a plugin may answer with codes of its own)"));
        return FAILED;
    };
    print(&format!(
        "{} (HTTP {})\n\n{}\n\nThe caller reads: {}\nWhat to do: {}\n",
        code.code, code.status, code.meaning, code.message, code.remedy
    ))
}
