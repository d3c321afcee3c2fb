//! Build script: finds the plugin folders beside it, so that adding a plugin only adds a folder.
//!
//! Every `plugins/<name>/mod.rs` with a `pub static MANIFEST: Manifest` becomes a module of `odock_edge::plugin::roster`
//! and an entry of its `BUNDLED`.

#![allow(clippy::print_stdout)] // this is how a build script speaks to cargo

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?).join("plugins");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.path().join("mod.rs").is_file() {
            let name = entry.file_name().into_string().map_err(|_| "a plugin folder's name is not UTF-8")?;
            if !name.starts_with(|c: char| c.is_ascii_lowercase())
                || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            {
                return Err(format!("plugins/{name}: a plugin folder is named [a-z][a-z0-9_]*").into());
            }
            names.push(name);
        }
    }
    names.sort();

    let mut text = String::new();
    for name in &names {
        let path = folder.join(name).join("mod.rs");
        writeln!(text, "#[path = {:?}]\nmod {name};", path.display().to_string())?;
    }
    writeln!(text, "/// The bundled plugins, by name.\npub static BUNDLED: &[&Manifest] = &[")?;
    for name in &names {
        writeln!(text, "    &{name}::MANIFEST,")?;
    }
    writeln!(text, "];")?;

    let target = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?).join("roster.rs");
    // An unchanged file keeps its time stamp, so that an edit within a plugin rebuilds no more than necessary.
    if fs::read_to_string(&target).ok().as_deref() != Some(text.as_str()) {
        fs::write(target, text)?;
    }
    println!("cargo::rerun-if-changed=plugins");
    Ok(())
}
