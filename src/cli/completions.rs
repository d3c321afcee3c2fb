//! `completions`: shell completions.

use clap::CommandFactory;

use super::print;

/// Arguments of `completions`.
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the script for the shell.
pub fn run(args: &Args) -> i32 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "odock-edge", &mut script);
    print(&String::from_utf8_lossy(&script))
}
