//! The life of a plugin: from a brief to a folder that builds and passes, to an observing instance, to an evaluation, and
//! to a report of what it would have done.

use std::path::{Path, PathBuf};

use odock_edge::plugin::harness::Case;
use odock_edge::plugin::{Need, Roster};
use serde_json::{Value, json};

use crate::client::Request;
use crate::edge::{Edge, KEY, Setup, cli, free_port};
use crate::made::manifests;
use crate::upstream::Upstream;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn golden(path: &str) -> PathBuf {
    Path::new(ROOT).join("tests/golden").join(path)
}

/// What differs from a golden file; `UPDATE_GOLDEN=1` writes it instead.
fn differs(file: &Path, now: &str) -> Option<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(file, now).unwrap();
        return None;
    }
    let kept = std::fs::read_to_string(file).unwrap_or_default();
    (kept != now).then(|| format!("{}: `UPDATE_GOLDEN=1 cargo test --test gateway plugin_life` writes\n{now}", file.display()))
}

fn briefs() -> Vec<PathBuf> {
    let files = std::fs::read_dir(golden("briefs")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|x| x == "yaml")).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_folder_of_a_brief_builds_and_passes_with_nothing_else_edited() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for brief in briefs() {
        let (code, out, err) = cli(&[
            "plugins",
            "new",
            "--brief",
            &brief.display().to_string(),
            "--into",
            &dir.path().display().to_string(),
            "--format",
            "json",
        ]);
        assert_eq!((code, err.as_str()), (0, ""), "{}", brief.display());
        let report: Value = serde_json::from_str(&out).unwrap();
        let Some(folder) = report["folder"].as_str().map(PathBuf::from) else { continue };
        seen += 1;
        let name = report["name"].as_str().unwrap();
        let code = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
        wrong.extend(differs(&golden(&format!("briefs/made/{name}.rs")), &code));
        let manifest = manifests().into_iter().find(|manifest| manifest.name == name);
        match manifest {
            Some(manifest) => wrong.extend(Case::run_folder(manifest, &folder.join("cases")).await),
            None => wrong.push(format!("{name} is not built here: add it to made.rs")),
        }
    }
    assert_eq!(seen, manifests().len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A manifest that asks for more than the brief needs would show here: withholding a need must change a case.
#[tokio::test]
async fn what_is_made_asks_for_nothing_it_does_not_use() {
    let dir = tempfile::tempdir().unwrap();
    for brief in briefs() {
        cli(&["plugins", "new", "--brief", &brief.display().to_string(), "--into", &dir.path().display().to_string()]);
    }
    for manifest in manifests() {
        let cases = Case::read_folder(&dir.path().join(manifest.name).join("cases")).unwrap();
        let cases: Vec<Case> = cases.into_iter().map(|(_, case)| case).collect();
        let used = odock_edge::plugin::harness::Used::by(manifest, &cases).await;
        let unused: Vec<String> = manifest.needs.iter().filter(|need| !used.has(**need)).map(ToString::to_string).collect();
        assert_eq!(unused, [""; 0], "{}", manifest.name);
    }
}

#[test]
fn a_brief_says_where_it_belongs() {
    let place = |name: &str| {
        let file = golden(&format!("briefs/{name}.yaml")).display().to_string();
        let (code, out, err) = cli(&["plugins", "new", "--brief", &file, "--dry-run", "--format", "json"]);
        assert_eq!((code, err.as_str()), (0, ""));
        serde_json::from_str::<Value>(&out).unwrap()
    };
    for (name, class) in
        [("requests_per_minute", "policies"), ("prompt_injection", "safety_sec"), ("monthly_spend", "budgets"), ("model_access", "grants")]
    {
        let report = place(name);
        assert_eq!((&report["verdict"], &report["plugin"], &report["folder"]), (&json!(class), &Value::Null, &Value::Null), "{report:#}");
        assert!(report["controls"][0]["reason"].is_string() && report["controls"][0]["configured"].is_string());
    }
    assert_eq!(place("audit_export")["verdict"], json!("plugin"));
    assert_eq!(place("held_out/mixed_siem_rate")["verdict"], json!("both"));

    let (code, out, _) = cli(&["plugins", "brief"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("brief.yaml");
    std::fs::write(&file, &out).unwrap();
    let named = file.display().to_string();
    assert_eq!((code, cli(&["plugins", "new", "--brief", &named, "--dry-run"]).0), (0, 0), "the template is a brief");
    std::fs::write(&file, out.replace("action_model:", "acton_model:")).unwrap();
    let (code, out, err) = cli(&["plugins", "new", "--brief", &named, "--dry-run"]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.contains("brief.yaml:3") && err.contains("did you mean `action_model`?"), "{err}");
}

/// What `plugins new` prints to be added to the configuration.
fn printed(brief: &Path, into: &Path) -> String {
    let (code, out, err) = cli(&["plugins", "new", "--brief", &brief.display().to_string(), "--into", &into.display().to_string()]);
    assert_eq!((code, err.as_str()), (0, ""));
    out.split_once("add to the configuration:\n\n").map(|(_, entry)| entry.to_owned()).unwrap_or_default()
}

/// A configuration that has neither plugins nor chains, with what was printed behind it.
fn with_printed(upstream: u16, dir: &Path, printed: &str) -> String {
    let base = Setup::to(upstream).yaml(free_port(), free_port(), dir);
    let bare = base.replacen("plugins: []\n", "", 1).replacen("chains:\n  default:\n    {}\n", "", 1);
    assert!(!bare.contains("plugins:") && !bare.contains("chains:"), "{bare}");
    // Whom the briefs begin with.
    let bare = bare.replacen("teams: [", "teams: [{name: clinic}, ", 1).replacen(
        "      - {name: secret,",
        "      - {name: reasoner, provider: mock}\n      - {name: secret,",
        1,
    );
    bare + "  - {name: mcp, match: {path_prefix: /mcp/}, chain: default}\n" + printed
}

/// One command and one paste: whatever the brief is, the configuration takes what the command printed, and it observes.
#[test]
fn what_is_printed_is_all_that_a_configuration_needs() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for brief in briefs() {
        let printed = printed(&brief, dir.path());
        if printed.is_empty() {
            continue;
        }
        seen += 1;
        assert!(printed.contains("\n    mode: observe\n"), "{printed}");
        let file = dir.path().join("odock.yaml");
        std::fs::write(&file, with_printed(9, dir.path(), &printed)).unwrap();
        let mut check = crate::faults::command(&["check".to_owned(), "-c".to_owned(), file.display().to_string()]);
        let secrets = printed.lines().filter_map(|line| line.split_once("{ env: ")?.1.strip_suffix(" }"));
        check.envs(secrets.map(|name| (name, "a-secret-of-sixteen-bytes"))).env("MOCK_PROVIDER_KEY", "sk");
        let done = check.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{}\n{printed}\n{said}", brief.display());
    }
    assert_eq!(seen, manifests().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_of_a_brief_observes_and_then_enforces() {
    let dir = tempfile::tempdir().unwrap();
    let example = printed(&golden("briefs/response_metadata.yaml"), dir.path());
    let entry =
        |key: &str| example.lines().find_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix(key)).unwrap().trim().to_owned();
    let upstream = Upstream::start().await;
    let config = entry("config:");
    let setup = |mode: &str| {
        let mut setup = Setup::to(upstream.port).faults().plugin(format!("{{name: answer_facts, mode: {mode}, config: {config}}}"));
        setup.chain = vec![format!("post_upstream: {}", entry("post_upstream:"))];
        setup
    };
    assert_eq!(entry("mode:"), "observe", "it begins by observing");
    let edge = setup("observe").start().await;
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!((answer.status, answer.header("x-served-model")), (200, None));
    let record = edge.record(answer.header("x-request-id").unwrap()).await;
    assert_eq!(record["executions"][0]["action"], json!("would_change"));
    edge.rewrite(&setup("enforce"));
    edge.signal("HUP", None);
    edge.logged("reloaded", 0).await;
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!((answer.header("x-served-model"), answer.header("x-served-by")), (Some("fast"), Some("mock")));
}

/// A plugin that was made and is not accepted yet (open boxes in its `acceptance.md`) has no evaluation on file.
pub fn accepted(name: &str) -> bool {
    let list = std::fs::read_to_string(Path::new(ROOT).join("plugins").join(name).join("acceptance.md")).unwrap_or_default();
    !list.contains("- [ ]")
}

#[test]
fn the_evaluation_of_every_bundled_plugin_is_on_file() {
    let mut wrong = Vec::new();
    for manifest in Roster::bundled().iter().filter(|manifest| accepted(manifest.name)) {
        let (code, out, err) = cli(&["plugins", "evaluate", manifest.name]);
        assert_eq!(err, "", "{}", manifest.name);
        assert_eq!(code, 1, "{}: people have not answered yet", manifest.name);
        wrong.extend(differs(&golden(&format!("evaluate/{}.txt", manifest.name)), &out));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_evaluation_is_complete_when_people_have_answered() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers.yaml");
    let (code, out, _) = cli(&["plugins", "evaluate", "audit_log", "--format", "json"]);
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&out).unwrap();
    let open = report["items"].as_array().unwrap().iter().filter(|item| item["state"] == json!("open"));
    let open: Vec<String> = open.map(|item| format!("{}: looked at and agreed\n", item["item"].as_str().unwrap())).collect();
    assert_eq!(json!(open.len()), report["open"]);
    std::fs::write(&answers, open.concat()).unwrap();
    let named = answers.display().to_string();
    let (code, out, err) = cli(&["plugins", "evaluate", "audit_log", "--answers", &named]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    std::fs::write(&answers, open[1..].concat()).unwrap();
    assert_eq!(cli(&["plugins", "evaluate", "audit_log", "--answers", &named]).0, 1, "one answer is missing");
    std::fs::write(&answers, "ownr: me\n").unwrap();
    let (code, _, err) = cli(&["plugins", "evaluate", "audit_log", "--answers", &named]);
    assert!(code == 78 && err.contains("answers.yaml:1:7"), "{err}");
}

/// With every question answered, what a manifest asks for beyond its cases is all that keeps an evaluation from being complete.
#[test]
fn a_capability_that_no_case_uses_fails_the_evaluation_of_every_bundled_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let answers = dir.path().join("answers.yaml");
    let (_, out, _) = cli(&["plugins", "evaluate", "http_callout", "--format", "json"]);
    let (_, more, _) = cli(&["plugins", "evaluate", "tenant_eligibility", "--format", "json"]);
    let keys: std::collections::BTreeSet<String> = [out, more]
        .iter()
        .flat_map(|text| serde_json::from_str::<Value>(text).unwrap()["items"].as_array().unwrap().clone())
        .filter(|item| item["state"] == json!("open"))
        .map(|item| item["item"].as_str().unwrap().to_owned())
        .collect();
    std::fs::write(&answers, keys.iter().map(|key| format!("{key}: agreed\n")).collect::<String>()).unwrap();
    for manifest in Roster::bundled().iter() {
        let args = ["plugins", "evaluate", manifest.name, "--answers", &answers.display().to_string()].map(str::to_owned);
        let (code, out, err) = cli(&args.each_ref().map(String::as_str));
        assert_eq!((code, err.as_str()), (0, ""), "{}: {out}", manifest.name);
        let wider = crate::faults::command_with_wider(manifest.name, &args).output().unwrap();
        let out = String::from_utf8_lossy(&wider.stdout).into_owned();
        assert_eq!(wider.status.code(), Some(1), "{}: {out}", manifest.name);
        for need in [Need::Mail, Need::Files].iter().filter(|need| !manifest.needs.contains(need)) {
            assert!(out.lines().any(|line| line.starts_with(&format!("  EXCESS {need}"))), "{}: {out}", manifest.name);
        }
    }
}

async fn sent(edge: &Edge, requests: usize) {
    for _ in 0..requests {
        assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    }
}

fn report(args: &[&str]) -> Value {
    let (code, out, err) = cli(&[&["plugins", "report"], args, &["--format", "json"]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    serde_json::from_str(&out).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_compares_what_would_have_been_with_what_was() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port).faults();
    setup.plugins = [
        "{name: refuses, use: fault, mode: observe, config: {how: block, status: 403, code: never, after_ms: 2}}",
        "{name: sleeps, use: fault, mode: observe, timeout: 5ms, config: {how: sleep}}",
        "{name: elsewhere, use: fault, mode: observe, scope: {routes: [aside]}, config: {how: block}}",
    ]
    .map(str::to_owned)
    .to_vec();
    setup.routes.push("{name: aside, match: {path_prefix: /aside/}, chain: default}".to_owned());
    setup.chain.push("pre_upstream: {sequential: [refuses, sleeps, elsewhere]}".into());
    setup.chain.push("post_upstream: {sequential: [refuses]}".into());
    let mut edge = setup.start().await;
    sent(&edge, 12).await;
    edge.signal("TERM", None);
    assert_eq!(edge.ended(crate::edge::PATIENCE).await.expect("ended").0, 0);
    let evidence = edge.evidence_dir().display().to_string();

    let refuses = report(&["refuses", "--since", "1h", "--evidence", &evidence]);
    assert_eq!(refuses["counts"], json!({"requests": 12, "would_block": 12, "would_change": 0, "blocked": 0, "changed": 0, "failed": 0}));
    assert_eq!((&refuses["would_block"]["answered"], &refuses["actions"]["would_block"]), (&json!(12), &json!(24)), "{refuses:#}");
    assert_eq!(refuses["by"]["model"]["fast"]["would_block"], json!(12));
    assert_eq!(refuses["by"]["route"]["llm"]["requests"], json!(12));
    assert_eq!(refuses["reasons"], json!({"never": 24}));
    let latency = &refuses["latency"];
    assert!(latency["p50_us"].as_u64().unwrap() >= 4000, "two gates of 2 ms each: {latency}");
    assert!(latency["p50_us"].as_u64() <= latency["p95_us"].as_u64() && latency["p95_us"].as_u64() <= latency["p99_us"].as_u64());
    assert!(refuses["recommendation"].as_str().unwrap().starts_with("Go on observing"), "{refuses:#}");

    let sleeps = report(&["sleeps", "--evidence", &evidence]);
    assert_eq!((&sleeps["counts"]["failed"], &sleeps["actions"]["timeout"]), (&json!(12), &json!(12)));
    assert!(sleeps["recommendation"].as_str().unwrap().starts_with("Not yet: it failed for 12 of 12"), "{sleeps:#}");

    let elsewhere = report(&["elsewhere", "--evidence", &evidence]);
    assert_eq!((&elsewhere["counts"]["requests"], &elsewhere["skipped"]), (&json!(0), &json!(12)));
    assert!(elsewhere["recommendation"].as_str().unwrap().starts_with("It looked at no request"));

    let (code, text, _) = cli(&["plugins", "report", "refuses", "--evidence", &evidence]);
    assert!(code == 0 && text.contains("would have refused      12 (100.00 %)") && text.contains("by model"), "{text}");
    assert_eq!(cli(&["plugins", "report", "refuses", "--since", "soon"]).0, 2);
    assert_eq!(cli(&["plugins", "report", "refuses", "--evidence", "no/such/file"]).0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_finds_instances_and_evidence_by_the_configuration() {
    let upstream = Upstream::start().await;
    let setup = Setup::to(upstream.port)
        .plugin("{name: stamp, use: request_transform, mode: observe, config: {headers: {set: {x-a: b}}}}")
        .chain("pre_upstream: {sequential: [stamp]}");
    let mut edge = setup.start().await;
    sent(&edge, 5).await;
    edge.signal("TERM", None);
    assert_eq!(edge.ended(crate::edge::PATIENCE).await.expect("ended").0, 0);
    let config = edge.file.display().to_string();
    for name in ["stamp", "request_transform"] {
        let found = report(&[name, "--since", "24h", "-c", &config]);
        assert_eq!(
            (&found["counts"]["requests"], &found["counts"]["would_change"], &found["modes"]),
            (&json!(5), &json!(5), &json!({"observe": 5}))
        );
    }
}
