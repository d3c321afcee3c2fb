//! Rules about the source tree that no compiler checks. Each has a reason, which is printed with a violation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use odock_edge::error::codes;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A pattern that is forbidden except in some places.
struct Rule {
    pattern: &'static str,
    /// Path prefixes in which the pattern is searched.
    within: &'static [&'static str],
    /// Path prefixes in which it is allowed.
    allowed: &'static [&'static str],
    why: &'static str,
}

const SOURCE: &[&str] = &["src/", "plugins/"];

const RULES: &[Rule] = &[
    Rule {
        pattern: r"\bpingora(_\w+)?::",
        within: SOURCE,
        allowed: &["src/proxy/", "src/gateway.rs", "src/gateway/", "src/mock/", "src/cli/mock_provider.rs"],
        why: "Pingora changes under us with every release: the request path meets it in src/proxy, the process in src/gateway.rs, and the mock provider is a server of its own",
    },
    Rule {
        // `redis::Options` is this crate's own type, not the driver's.
        pattern: r"(^|[^\w:])(::)?redis::(?!Options\b)",
        within: SOURCE,
        allowed: &["src/store/redis/", "src/store/conformance/"],
        why: "what a counter means must not depend on the engine that keeps it: Redis is spoken in src/store/redis alone",
    },
    Rule {
        pattern: r"(^|[^\w:])(::)?sqlx::",
        within: SOURCE,
        allowed: &["src/store/sql/", "src/store/conformance/"],
        why: "what is kept must not depend on the engine that keeps it: SQL is spoken in src/store/sql alone",
    },
    Rule {
        pattern: r"\bstore::(memory|redis|sql)\b",
        within: SOURCE,
        allowed: &["src/store/", "src/gateway.rs", "src/gateway/startable.rs", "src/cli/", "src/outbox/outbox_test.rs"],
        why: "who decides knows the traits of src/store; which engine is behind them is chosen where the process is put together",
    },
    Rule {
        pattern: r"\bcrate::(?!store\b|error\b)",
        within: &["src/store/"],
        allowed: &[],
        why: "a store keeps what it is given: it knows no configuration, no request and none of the domains that use it",
    },
    Rule {
        pattern: r"\bprometheus::",
        within: SOURCE,
        allowed: &["src/telemetry/"],
        why: "names and labels of metrics are a contract and live in src/telemetry/names.rs; everyone else holds handles",
    },
    Rule {
        pattern: r"\b(serde_yaml|saphyr_parser)::",
        within: SOURCE,
        allowed: &["src/config/", "src/plugin/harness"],
        why: "serde_yaml accepts duplicate keys and has no places; src/config/yaml.rs is where that is made good (the harness reads test cases)",
    },
    Rule {
        pattern: r"\bcrate::(proxy|cli|gateway|config::(load|yaml|sections|resolve))\b",
        within: &[
            "src/gate/",
            "src/plugin/",
            "src/identity/",
            "src/route/",
            "src/evidence/",
            "src/wire/",
            "src/telemetry/",
            "src/error.rs",
            "src/safety/",
            "src/limit/",
            "src/budget/",
            "src/usage/",
            "src/outbox/",
        ],
        allowed: &[],
        why: "imports go main → cli → lib → proxy → gate → plugin → domains → wire: what decides must be testable without what carries",
    },
    Rule {
        pattern: r"\bcrate::(gate|plugin|identity|route|evidence|config|telemetry|proxy)\b|\b(tokio|std::fs|std::net|std::io)::",
        within: &["src/wire/"],
        allowed: &[],
        why: "src/wire is pure bytes ⇄ types: no I/O and nothing of the gateway, so that it can be fuzzed by itself",
    },
    Rule { pattern: r"\bcrate::", within: &["src/error.rs"], allowed: &[], why: "everyone imports src/error.rs, so it imports no one" },
    Rule {
        pattern: r"\b(crate|super::super)::(?!plugin::prelude\b)",
        within: &["plugins/"],
        allowed: &["plugins/roster.rs"],
        why: "a plugin uses crate::plugin::prelude and nothing else: then the contract is the whole contract, and it works out of tree as well",
    },
    Rule {
        pattern: r"\b(tokio|reqwest|hyper|redis|sqlx)::|\bstd::(fs|env)\b|\bprocess::Command\b|\b(Tcp|Udp|Unix)(Stream|Socket|Listener|Datagram)\b|\bToSocketAddrs\b",
        within: &["plugins/"],
        allowed: &["plugins/roster.rs"],
        why: "a plugin reaches the world through its host, which asks the operator's grant and judges every address: tests/golden/ssrf.jsonl",
    },
    Rule {
        pattern: r"\.(write_response_header|write_response_body|respond_error\w*)\(",
        within: SOURCE,
        allowed: &["src/proxy/respond.rs", "src/proxy/tap.rs", "src/mock/"],
        why: "there must never be two answers to one request: only src/proxy/respond.rs writes one (src/proxy/tap.rs passes the provider's on)",
    },
    Rule {
        pattern: r"\b(std::fs|fs)::(read|read_to_string|File)\b|\bFile::open\b",
        within: SOURCE,
        allowed: &[
            "src/config/",
            "src/evidence/",
            "src/cli/",
            "src/proxy/live.rs",
            "src/identity/secret.rs",
            "src/identity/runtime/hasher.rs",
            "src/identity/runtime/file.rs",
            "src/plugin/harness",
            "src/gateway/taken.rs",
            "src/telemetry/metrics.rs",
            "src/usage/leftover.rs",
            "src/usage/spool.rs",
            "src/outbox/spool.rs",
            "plugins/roster.rs",
        ],
        why: "files are read when a configuration is loaded, never on a request (evidence reads its own log, metrics /proc, the spools of usage and outbox what they or a process before wrote, commands what a person names)",
    },
    Rule {
        pattern: r"\b(todo|unimplemented|dbg)!|\b(TODO|FIXME|XXX|HACK)\b",
        within: &["src/", "plugins/", "tests/", "bench/", "conf/", "systemd/", "README.md"],
        allowed: &["tests/tidy.rs"],
        why: "what is not done is an issue, not a comment",
    },
    Rule {
        pattern: r"(^|[^\w.])/(root|home/\w|work|Users)/",
        within: &["src/", "plugins/", "tests/", "bench/", "conf/", "systemd/", "README.md", "Cargo.toml", ".ci/"],
        allowed: &["tests/tidy.rs"],
        why: "paths of one machine mean nothing on another",
    },
    Rule {
        pattern: r"\b(SystemTime|Instant)::now\(\)",
        within: &["src/wire/", "src/route/"],
        allowed: &[],
        why: "time is handed in, so that a test can say what time it is",
    },
];

/// Every file in the hand-written parts of the tree, relative to the root.
fn files() -> Vec<String> {
    fn walk(at: &Path, out: &mut Vec<PathBuf>) {
        // An unreadable folder is an error.
        for entry in std::fs::read_dir(at).unwrap_or_else(|error| panic!("{}: {error}", at.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, out) } else { out.push(path) }
        }
    }
    let mut found = Vec::new();
    for part in ["src", "plugins", "tests", "bench", "conf", "systemd", ".ci"] {
        walk(&Path::new(ROOT).join(part), &mut found);
    }
    found.extend(["README.md", "Cargo.toml"].map(|f| Path::new(ROOT).join(f)));
    let mut names: Vec<String> =
        found.iter().map(|p| p.strip_prefix(ROOT).unwrap().display().to_string()).filter(|p| !p.contains("__pycache__")).collect();
    names.sort();
    names
}

fn read(file: &str) -> String {
    let bytes = std::fs::read(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The lines of a Rust file that are built into the gateway: without comments, and without `#[cfg(test)]` items. In
/// rustfmt's layout an item ends at its own indentation.
fn built_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut test = None;
    let mut built = move |line: &str| {
        let indent = line.len() - line.trim_start().len();
        match test {
            None if line.trim() == "#[cfg(test)]" => test = Some(indent),
            None => return true,
            Some(own) if indent == own && line.trim_end().ends_with(['}', ';', ',']) => test = None,
            Some(_) => {}
        }
        false
    };
    text.lines().enumerate().filter(move |(_, line)| built(line)).map(|(n, l)| (n + 1, l.split("//").next().unwrap_or_default()))
}

/// Items under `#[cfg(test)]`: the first line after each such attribute that is not another attribute.
fn test_items<'a>(lines: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let marks = lines.iter().enumerate().filter(|(_, l)| l.trim() == "#[cfg(test)]").map(|(n, _)| n);
    marks.filter_map(|n| lines[n + 1..].iter().find(|l| !l.trim().starts_with("#[")).copied())
}

/// Files that consist of tests only: `#[cfg(test)] mod name;` in the parent module.
fn test_files(files: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|f| f.ends_with(".rs")) {
        let text = read(file);
        let lines: Vec<&str> = text.lines().collect();
        let folder = match Path::new(file).file_name().unwrap().to_str().unwrap() {
            "mod.rs" | "lib.rs" | "main.rs" => Path::new(file).parent().unwrap().to_owned(),
            _ => Path::new(file).with_extension(""),
        };
        for name in test_items(&lines).filter_map(|item| item.trim().strip_prefix("mod ")?.strip_suffix(';')) {
            found.push(folder.join(format!("{name}.rs")).display().to_string());
            // With `#[path]` the file is beside the parent.
            found.push(
                Path::new(file)
                    .with_file_name(format!("{}_test.rs", Path::new(file).file_stem().unwrap().to_str().unwrap()))
                    .display()
                    .to_string(),
            );
        }
    }
    found
}

#[test]
fn what_stands_behind_a_test_is_built_all_the_same() {
    let text = "use a;\n#[cfg(test)]\nfn only() {\n    b();\n}\n\nimpl C {\n    #[cfg(test)]\n    fn two(&self) { d }\n\n    fn e() {} // f\n}\n#[cfg(test)]\n#[path = \"g.rs\"]\nmod g;\nfn h() {}\n";
    let lines: Vec<_> = built_lines(text).filter(|(_, line)| !line.trim().is_empty()).collect();
    assert_eq!(lines, [(1, "use a;"), (7, "impl C {"), (11, "    fn e() {} "), (12, "}"), (16, "fn h() {}")]);
}

#[test]
fn rules_of_the_tree() {
    let mut broken = String::new();
    let files = files();
    let test_files = test_files(&files);
    for rule in RULES {
        // The regex crate has no look-ahead; patterns that use it are split into a match and an exception.
        let (pattern, except) = match rule.pattern.split_once("(?!") {
            Some((before, after)) => {
                let after = after.trim_end_matches(')');
                (regex::Regex::new(before).unwrap(), Some(regex::Regex::new(&format!("{before}{after}")).unwrap()))
            }
            None => (regex::Regex::new(rule.pattern).unwrap(), None),
        };
        let prefixed = |file: &str, list: &[&str]| list.iter().any(|p| file.starts_with(p));
        for file in files.iter().filter(|f| prefixed(f, rule.within) && !prefixed(f, rule.allowed)) {
            let text = read(file);
            // Rules about code apply only to code that is built into the gateway; the others apply to all text.
            let of_code = rule.within.iter().all(|p| p.starts_with("src/") || p.starts_with("plugins/"));
            if of_code && test_files.contains(file) {
                continue;
            }
            let lines: Vec<(usize, &str)> = match of_code && file.ends_with(".rs") {
                true => built_lines(&text).collect(),
                false => text.lines().enumerate().map(|(n, l)| (n + 1, l)).collect(),
            };
            for (line, text) in lines {
                let excepted = except.as_ref().map_or(0, |e| e.find_iter(text).count());
                if pattern.find_iter(text).count() > excepted {
                    writeln!(broken, "{file}:{line}: {}\n    why it may not: {}", text.trim(), rule.why).unwrap();
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn files_have_one_job() {
    let mut broken = String::new();
    for file in files().iter().filter(|f| f.ends_with(".rs")) {
        let lines = read(file).lines().count();
        if lines > 600 {
            writeln!(broken, "{file} has {lines} lines: it has more than one job, find the second one a file of its own").unwrap();
        }
        let name = Path::new(file).file_stem().unwrap().to_str().unwrap();
        if ["utils", "util", "helpers", "helper", "common", "misc", "manager"].contains(&name) {
            writeln!(broken, "{file}: a name that says nothing collects everything; name what is in it").unwrap();
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn the_top_level_is_the_one_that_was_agreed() {
    let agreed = ["Cargo.lock", "Cargo.toml", "README.md", "bench", "conf", "plugins", "src", "systemd", "tests"];
    let ignored = ["target", "var"];
    for entry in std::fs::read_dir(ROOT).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || agreed.contains(&name.as_str()) || ignored.contains(&name.as_str()),
            "{name} is not one of {agreed:?}"
        );
    }
}

#[test]
fn a_plugin_is_a_folder_with_all_that_belongs_to_it() {
    for entry in std::fs::read_dir(Path::new(ROOT).join("plugins")).unwrap().flatten().filter(|e| e.path().is_dir()) {
        let folder = entry.path();
        for file in ["mod.rs", "README.md", "example.yaml"] {
            assert!(folder.join(file).is_file(), "{} lacks {file}: people copy a plugin to make their own", folder.display());
        }
        let cases = std::fs::read_dir(folder.join("cases"))
            .map_or(0, |c| c.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "yaml")).count());
        assert!(cases > 0, "{} has no cases/*.yaml: nothing shows what it does", folder.display());
    }
    for manifest in odock_edge::plugin::Roster::bundled().iter() {
        let page = read(&format!("plugins/{}/README.md", manifest.name));
        for code in manifest.codes {
            assert!(page.contains(&format!("`{}`", code.code)), "the README of {} is silent about its code {}", manifest.name, code.code);
        }
    }
}

/// Checks a table of the README that is generated: `wanted` makes the new table, given the current one. `UPDATE_GOLDEN=1`
/// writes the table, generated from scratch.
fn table_of_the_readme(name: &str, wanted: impl Fn(Option<&str>) -> String) {
    let (begin, end) = (format!("<!-- {name}: begin, written by tests/tidy.rs -->\n"), format!("<!-- {name}: end -->"));
    let file = Path::new(ROOT).join("README.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(&begin).expect("the README has a place for it");
    let (found, after) = rest.split_once(&end).expect("the place ends");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, format!("{before}{begin}{}{end}{after}", wanted(None))).unwrap();
    } else {
        assert_eq!(found, wanted(Some(found)), "the README's {name} are old; UPDATE_GOLDEN=1 cargo test --test tidy writes them");
    }
}

/// The README's tables of codes and plugins are up to date. A plugin that was just made may be missing, so that a new
/// folder passes without any other change.
#[test]
fn the_readme_lists_every_code_and_the_plugins() {
    table_of_the_readme("codes", |_| {
        let mut table = String::from("| HTTP | Code | When |\n|---|---|---|\n");
        for code in codes::ALL {
            writeln!(table, "| {} | `{}` | {} |", code.status, code.code, code.meaning).unwrap();
        }
        table
    });
    table_of_the_readme("plugins", |found| {
        let mut table = String::from("| Bundled | Gates | What it does |\n|---|---|---|\n");
        for manifest in odock_edge::plugin::Roster::bundled().iter() {
            let gates = manifest.gates.iter().map(|gate| format!("`{}`", gate.as_str())).collect::<Vec<_>>().join(", ");
            let row = format!("| [`{name}`](plugins/{name}/README.md) | {gates} | {} |\n", manifest.summary, name = manifest.name);
            if found.is_none_or(|found| found.contains(&format!("[`{}`]", manifest.name))) {
                table.push_str(&row);
            }
        }
        table
    });
}

#[test]
fn the_reference_configuration_names_every_plugin() {
    let conf = read("conf/odock.yaml");
    let list = conf.split_once("# Plugin instances.").and_then(|(_, rest)| rest.split_once("plugins: []")).unwrap().0;
    for manifest in odock_edge::plugin::Roster::bundled().iter() {
        let found = list.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == manifest.name);
        // A folder passes with no other file edited.
        assert!(found || !read("README.md").contains(&format!("[`{}`]", manifest.name)), "conf/odock.yaml does not name {}", manifest.name);
    }
}

/// The unit may write its own folders and nothing else (`ProtectSystem=strict`), so what a shipped configuration names
/// absolutely is in one of them.
#[test]
fn shipped_configurations_stay_in_the_folders_of_the_unit() {
    let unit = read("systemd/odock-edge.service");
    let own = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    let folders = [
        format!("/var/lib/{}/", own("StateDirectory=")),
        format!("/run/{}/", own("RuntimeDirectory=")),
        format!("/etc/{}/", own("ConfigurationDirectory=")),
        // Where other software puts secrets.
        "/run/secrets/".to_owned(),
    ];
    // What is read elsewhere is another matter; nothing of ours is under another name.
    let places = regex::Regex::new(r"(?:^|[^.\w])(/(?:etc/odock|var|run|srv|opt)[\w./-]*)").unwrap();
    for file in files().iter().filter(|file| file.starts_with("conf/") && file.ends_with(".yaml")) {
        for found in places.captures_iter(&read(file)) {
            let place = &found[1];
            assert!(folders.iter().any(|folder| place.starts_with(folder)), "{file}: {place} is in none of {folders:?}");
        }
    }
    for file in ["src/cli/run.rs", "README.md", "systemd/README.md"] {
        assert!(!read(file).contains("/etc/odock-edge/"), "{file}: the unit's folder is {}", folders[2]);
    }
}

/// systemd must not kill what the gateway is still draining.
#[test]
fn the_unit_waits_longer_than_the_drain() {
    let unit = read("systemd/odock-edge.service");
    let stop: u64 =
        unit.lines().find_map(|l| l.strip_prefix("TimeoutStopSec=")).and_then(|v| v.trim_end_matches('s').parse().ok()).unwrap();
    let tail = odock_edge::gateway::TAIL.as_secs();
    let drains = regex::Regex::new(r"drain: *(\d+)s").unwrap();
    for file in files().iter().filter(|file| file.starts_with("conf/") && file.ends_with(".yaml")) {
        let drain = drains.captures(&read(file)).map_or(30, |c| c[1].parse().unwrap());
        assert!(stop >= drain + tail + 5, "TimeoutStopSec={stop}, drain: {drain}s in {file} and {tail}s to write everything down");
    }
    for page in ["README.md", "systemd/README.md", "systemd/odock-edge.service"] {
        let text = read(page);
        assert!(
            [format!("{tail} seconds"), format!("{tail}s")].iter().any(|told| text.contains(told)),
            "{page} does not tell the {tail} seconds"
        );
    }
}
