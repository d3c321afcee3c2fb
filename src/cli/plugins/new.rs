//! `plugins new`: turns a brief into a plugin's folder, or names the existing control that does the same.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::{FAILED, INVALID_CONFIG, print, tell, tell_diagnostics};
use super::Format;
use crate::config::Document;
use crate::plugin::brief::{self, Brief, Classification, Design, File};

const EXAMPLES: &str = "Examples:
  odock-edge plugins new --brief brief.yaml --dry-run
  odock-edge plugins new --brief brief.yaml && cargo test --lib harness
  odock-edge plugins new --brief brief.yaml --into src --format json     a plugin in a crate of its own

Exit codes: 0 the brief was placed (and the folder written, where it is a plugin), 1 the folder could not be written,
78 the brief is wrong.";

/// Arguments of `plugins new`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The design brief; `odock-edge plugins brief` prints one to fill in
    #[arg(long, value_name = "FILE")]
    brief: PathBuf,
    /// The folder in which the plugin's folder is made
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    into: PathBuf,
    /// Say where the brief belongs and write nothing
    #[arg(long)]
    dry_run: bool,
    /// How to report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Reads the brief, decides where it belongs, and writes the folder.
pub fn run(args: &Args) -> i32 {
    let document = match read(&args.brief) {
        Ok(document) => document,
        Err(diagnostics) => {
            tell_diagnostics(&diagnostics);
            return INVALID_CONFIG;
        }
    };
    let brief = &document.value;
    let found = brief::classify(brief);
    let design = found.plugin.as_ref().map(|_| Design::of(brief, &found));
    let mut made = None;
    if let Some(design) = design.as_ref().filter(|_| !args.dry_run) {
        let folder = args.into.join(&brief.name);
        let mut files = brief::folder(brief, &found, design);
        files.push(File { path: "brief.yaml".to_owned(), text: document.text.clone() });
        if let Err(error) = write(&folder, &files) {
            tell(&format!("odock-edge: {}: {error}", folder.display()));
            return FAILED;
        }
        made = Some((folder, files));
    }
    let report = Report { brief, found: &found, design: design.as_ref(), made: made.as_ref() };
    match args.format {
        Format::Text => print(&report.text()),
        Format::Json => print(&format!("{:#}\n", report.json())),
    }
}

/// The brief, or everything that is wrong with it.
fn read(path: &Path) -> Result<Document<Brief>, Vec<crate::config::Diagnostic>> {
    let document = Document::<Brief>::read(path)?;
    let flaws: Vec<_> = brief::check(&document.value).into_iter().map(|flaw| document.error(&flaw.path, flaw.message, flaw.help)).collect();
    if flaws.is_empty() { Ok(document) } else { Err(flaws) }
}

/// Writes a new folder; an incomplete one is removed again.
fn write(folder: &Path, files: &[File]) -> std::io::Result<()> {
    if folder.exists() {
        return Err(std::io::Error::new(std::io::ErrorKind::AlreadyExists, "exists already; nothing was written"));
    }
    let all = || {
        for file in files {
            let path = folder.join(&file.path);
            if let Some(above) = path.parent() {
                std::fs::create_dir_all(above)?;
            }
            std::fs::write(path, &file.text)?;
        }
        Ok(())
    };
    all().inspect_err(|_| {
        let _ = std::fs::remove_dir_all(folder);
    })
}

struct Report<'a> {
    brief: &'a Brief,
    found: &'a Classification,
    design: Option<&'a Design>,
    made: Option<&'a (PathBuf, Vec<File>)>,
}

impl Report<'_> {
    fn json(&self) -> serde_json::Value {
        let claim = |claim: &brief::Claim| {
            json!({
                "class": claim.belongs.as_str(),
                "weight": claim.weight,
                "reason": claim.belongs.reason(),
                "configured": claim.belongs.configured(),
                "because": claim.because,
            })
        };
        let places = |design: &&Design| {
            let place = |place: &brief::Place| json!({"moment": place.moment(), "gate": place.gate.as_str(), "style": place.style.as_str(), "why": place.why});
            design.places.iter().map(place).collect::<Vec<_>>()
        };
        json!({
            "name": self.brief.name,
            "verdict": self.found.verdict(),
            "plugin": self.found.plugin.as_ref().map(claim),
            "controls": self.found.controls.iter().map(claim).collect::<Vec<_>>(),
            "places": self.design.as_ref().map(places),
            "needs": self.design.map(|design| design.needs.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "remarks": self.found.remarks,
            "folder": self.made.map(|(folder, _)| folder.display().to_string()),
            "files": self.made.map(|(_, files)| files.iter().map(|file| file.path.clone()).collect::<Vec<_>>()),
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let verdict = match (&self.found.plugin, self.found.controls.is_empty()) {
            (Some(_), true) => "a plugin",
            (Some(_), false) => "two things: a plugin, and work of a standard control",
            (None, false) => "no plugin: a standard control does it",
            (None, true) => "unclear",
        };
        let _ = writeln!(text, "{}: {verdict}", self.brief.name);
        for claim in self.found.plugin.iter().chain(&self.found.controls) {
            let _ = writeln!(text, "\n{}: {}", claim.belongs.as_str(), claim.belongs.reason());
            for signal in &claim.because {
                let _ = writeln!(text, "  {} ({})", signal.from, signal.about);
            }
            let _ = writeln!(text, "  where: {}", claim.belongs.configured());
        }
        if let Some(design) = self.design {
            text.push_str("\nmoments:\n");
            for place in &design.places {
                let _ = writeln!(text, "  {} ({}), {}: {}", place.gate.as_str(), place.moment(), place.style.as_str(), place.why);
            }
            let needs: Vec<String> = design.needs.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "needs: {}", if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") });
        }
        for remark in &self.found.remarks {
            let _ = writeln!(text, "note: {remark}");
        }
        if let Some((folder, files)) = self.made {
            let _ = writeln!(text, "\nwritten: {}/", folder.display());
            for file in files {
                let _ = writeln!(text, "  {}", file.path);
            }
            let example = files.iter().find(|file| file.path == "example.yaml").map_or("", |file| file.text.as_str());
            let _ = writeln!(text, "\nnext: build, run its cases (`cargo test --lib harness`), and add to the configuration:\n\n{example}");
        }
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::super::OK;
    use super::*;

    fn args(dir: &Path, brief: &str) -> Args {
        let file = dir.join("brief.yaml");
        std::fs::write(&file, brief).unwrap();
        Args { brief: file, into: dir.join("plugins"), dry_run: false, format: Format::Json }
    }

    #[test]
    fn a_folder_is_written_once_and_only_for_a_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let plugin =
            "name: hook\ngoal: a webhook is told of every request\naction_model: [deliver]\nexternal_systems: [{name: a, kind: webhook}]\n";
        let dry = Args { dry_run: true, ..args(dir.path(), plugin) };
        assert_eq!((run(&dry), dir.path().join("plugins").exists()), (OK, false));
        assert_eq!(run(&args(dir.path(), plugin)), OK);
        assert_eq!(std::fs::read_to_string(dir.path().join("plugins/hook/brief.yaml")).unwrap(), plugin);
        assert_eq!(run(&args(dir.path(), plugin)), FAILED, "what is there is not written over");
        let control = "name: calm\ngoal: at most ten requests per minute\naction_model: [limit]\ndata_fields: {reads: [request.rate]}\n";
        assert_eq!((run(&args(dir.path(), control)), dir.path().join("plugins/calm").exists()), (OK, false));
        assert_eq!(run(&args(dir.path(), "name: calm\n")), INVALID_CONFIG);
        assert_eq!(run(&args(dir.path(), "name: Calm\ngoal: at most ten requests\n")), INVALID_CONFIG);
    }
}
