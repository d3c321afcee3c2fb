//! The commands: exit codes, what goes to stdout and what to stderr.

use odock_edge::error::{Code, codes};
use odock_edge::plugin::Roster;

use crate::edge::{Setup, cli, free_port};

#[test]
fn help_has_examples_and_usage_errors_are_2() {
    let (code, out, _) = cli(&["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("Examples:") && out.contains("odock-edge demo"), "{out}");
    for args in [&["no-such-command"][..], &["run", "--no-such-flag"], &[]] {
        let (code, out, err) = cli(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(!err.is_empty());
    }
    let (code, out, _) = cli(&["--version"]);
    assert!(code == 0 && out.contains(env!("CARGO_PKG_VERSION")), "{out}");
}

#[test]
fn explain_knows_every_code() {
    let bundled = Roster::bundled();
    let of_plugins: Vec<(&Code, &str)> =
        bundled.iter().flat_map(|manifest| manifest.codes.iter().map(|code| (code, manifest.name))).collect();
    for known in codes::ALL.iter().copied().chain(of_plugins.iter().map(|(code, _)| *code)) {
        let (code, out, _) = cli(&["explain", known.code]);
        assert_eq!(code, 0, "{}", known.code);
        assert!(out.contains(known.meaning) && out.contains(known.remedy) && out.contains(&known.status.to_string()), "{out}");
    }
    let said = |code: &str, plugin: &str| cli(&["explain", code]).1.contains(&format!("A refusal of the plugin `{plugin}`."));
    for (code, plugin) in [
        ("approval_pending", "approval"),
        ("approval_denied", "approval"),
        ("callout_denied", "http_callout"),
        ("stream_not_allowed", "http_callout"),
        ("schema_mismatch", "schema_guard"),
        ("not_eligible", "tenant_eligibility"),
    ] {
        assert!(said(code, plugin), "{code}");
    }
    assert!(!said("model_not_allowed", "approval"));
    let (code, out, err) = cli(&["explain", "no_such_code"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no_such_code"));
    let (_, out, _) = cli(&["explain"]);
    assert_eq!(out.lines().count(), codes::ALL.len() + of_plugins.len());
    assert!(out.contains("(plugin schema_guard)"), "{out}");
}

#[test]
fn the_emitted_schema_is_the_one_in_conf() {
    let (code, out, _) = cli(&["schema"]);
    assert_eq!(code, 0);
    let now: serde_json::Value = serde_json::from_str(&out).unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/odock.schema.json");
    let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    // A plugin that was made of a brief and is not accepted yet is in what editors get, and not in the file.
    let mut now = now;
    for made in Roster::bundled().iter().map(|manifest| manifest.name) {
        let (name, inside) = (format!("plugin:{made}"), format!("plugin:{made}."));
        assert!(now["definitions"][&name].is_object(), "{made} is in the schema");
        if !crate::plugin_life::accepted(made) {
            let target = serde_json::json!(format!("#/definitions/{name}"));
            now["definitions"].as_object_mut().unwrap().retain(|known, _| *known != name && !known.starts_with(&inside));
            let rules = now["definitions"]["PluginEntry"]["allOf"].as_array_mut().unwrap();
            rules.retain(|rule| rule["then"]["properties"]["config"]["$ref"] != target);
        }
    }
    assert!(now == kept, "conf/odock.schema.json is old: `odock-edge schema > conf/odock.schema.json`");
}

#[test]
fn bundled_plugins_are_listed_and_shown() {
    let (code, out, _) = cli(&["plugins", "list"]);
    assert_eq!(code, 0);
    for name in ["audit_log", "pii_mask", "request_transform"] {
        assert!(out.contains(name), "{out}");
        let (code, page, _) = cli(&["plugins", "show", name]);
        assert!(code == 0 && page.contains("pre_"), "{page}");
    }
    assert_eq!(cli(&["plugins", "show", "nothing"]).0, 1);
}

#[test]
fn completions_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = cli(&["completions", shell]);
        assert!(code == 0 && out.contains("odock-edge"), "{shell}");
    }
}

fn check(yaml: &str, format: &str) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, yaml).unwrap();
    cli(&["check", "-c", &file.display().to_string(), "--format", format])
}

#[test]
fn check_accepts_the_configuration_of_these_tests_and_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = Setup::to(9).plugin("{name: audit_log, config: {}}").chain("pre_route: {parallel: [audit_log]}").yaml(1, 2, dir.path());
    let (code, out, err) = check(&yaml, "text");
    assert_eq!(code, 0, "{out}{err}");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "check made something");
}

/// Each mistake is reported with its place, all of them at once, and the exit code says which kind of failure it is.
#[test]
fn check_points_at_every_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let good = Setup::to(9).plugin("{name: audit_log, config: {}}").yaml(1, 2, dir.path());
    let mistakes = [
        ("an unknown key", good.replacen("admin:", "admni:", 1), 5, 1),
        ("a wrong unit", good.replacen("server:\n", "server:\n  drain: 30\n", 1), 3, 10),
        ("a duplicate key", good.replacen("version: 1\n", "version: 1\nversion: 1\n", 1), 2, 1),
        ("an unknown plugin in a chain", good.replacen("  default:\n    {}", "  default:\n    pre_route: {sequential: [nobody]}", 1), 0, 0),
        (
            "a gate the plugin does not have",
            good.replacen("  default:\n    {}", "  default:\n    pre_upstream: {parallel: [audit_log]}", 1),
            0,
            0,
        ),
        ("an unknown storage scope", good.replacen("{name: audit_log,", "{name: audit_log, storage_access: [everything],", 1), 0, 0),
        ("an unknown provider", good.replacen("provider: mock, slug: real-model-1", "provider: mokc, slug: real-model-1", 1), 0, 0),
        ("an inline secret", good.replacen("{env: MOCK_PROVIDER_KEY}", "sk-written-out", 1), 0, 0),
        ("not YAML", "version: [1\n".to_owned(), 0, 0),
    ];
    let place = regex::Regex::new(r"bad\.yaml:(\d+):(\d+)").unwrap();
    for (name, yaml, line, column) in mistakes {
        assert_ne!(yaml, good, "{name}: the mistake was made");
        let (code, out, err) = check(&yaml, "text");
        assert_eq!(code, 78, "{name}: {out}{err}");
        let place = place.captures(&err).unwrap_or_else(|| panic!("{name} has no place: {err}"));
        if line > 0 {
            assert_eq!((&place[1], &place[2]), (line.to_string().as_str(), column.to_string().as_str()), "{name}: {err}");
        }
        assert!(!err.contains("sk-written-out"), "{name}: the secret is repeated: {err}");
        let (code, out, _) = check(&yaml, "json");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &report["valid"]), (78, &serde_json::Value::Bool(false)), "{name}");
        assert!(report["errors"][0]["line"].as_u64().is_some_and(|l| l > 0), "{name}: {report}");
    }
    let two = good.replacen("provider: mock, slug: real-model-1", "provider: mokc, slug: real-model-1", 1).replacen(
        "  default:\n    {}",
        "  default:\n    pre_route: {sequential: [nobody]}",
        1,
    );
    let (_, _, err) = check(&two, "text");
    assert!(err.contains("mokc") && err.contains("nobody"), "both at once: {err}");
    assert!(err.contains("mock"), "a suggestion: {err}");
}

/// What `run` would refuse although every line of it makes sense.
#[test]
fn check_tells_of_stores_and_certificates_that_run_would_refuse() {
    let dir = tempfile::tempdir().unwrap();
    for (stores, server, place, why) in [
        ("state: {kind: redis}\n", "", "state", "has an address"),
        ("state: {kind: redis, url: {env: NOT_SET_ANYWHERE}}\n", "", "state.url", "NOT_SET_ANYWHERE"),
        ("state: {kind: redis, url: {file: URL}}\n", "", "state.url", "redis://"),
        ("", "tls: {cert: /nowhere/cert.pem, key: /nowhere/key.pem}", "server.tls", "/nowhere/cert.pem"),
        ("RECORDS: {kind: postgres}\n", "", "records", "has an address"),
        ("RECORDS: {kind: postgres, url: {file: URL}}\n", "", "records.url", "postgres://"),
    ] {
        let url = dir.path().join("url");
        std::fs::write(&url, "http://x").unwrap();
        let stores = stores.replace("URL", &url.display().to_string());
        let mut setup = Setup { server: server.into(), ..Setup::to(1) };
        match stores.strip_prefix("RECORDS: {") {
            Some(members) => {
                setup.records = members.trim_end().trim_end_matches('}').to_owned() + if members.contains("file") { "}" } else { "" }
            }
            None => setup.more = stores.clone(),
        }
        let yaml = setup.yaml(free_port(), free_port(), dir.path());
        let (code, out, err) = check(&yaml, "json");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        // What another machine may have, or says by a file of its own, is a warning: `run` refuses in any case.
        let here = server.starts_with("tls") || stores.contains("file:");
        let told = report[if here { "warnings" } else { "errors" }].as_array().unwrap();
        let found = told.iter().find(|found| found["path"] == place).unwrap_or_else(|| panic!("{out}{err}\n{yaml}"));
        assert_eq!(code, if here { 0 } else { 78 }, "{out}{err}\n{yaml}");
        assert!(found["message"].as_str().unwrap().contains(why) || found["help"].as_str().is_some_and(|help| help.contains(why)), "{out}");
        assert!(found["line"].as_u64().unwrap() > 1 || place == "server.tls", "{out}");
        let file = dir.path().join("refused.yaml");
        std::fs::write(&file, &yaml).unwrap();
        assert_eq!(cli(&["run", "-c", &file.display().to_string()]).0, 78, "{yaml}");
    }
}

#[test]
fn run_with_a_bad_file_is_78_and_with_a_taken_port_1() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    std::fs::write(&file, "version: 1\nnonsense: true\n").unwrap();
    let (code, _, err) = cli(&["run", "-c", &file.display().to_string()]);
    assert_eq!(code, 78);
    assert!(err.contains("bad.yaml:2:1"), "{err}");
    assert_eq!(cli(&["run", "-c", "/no/such/file.yaml"]).0, 78);

    // A gateway that cannot listen ends, and says where: a service manager must not take it for one that serves.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (traffic, admin) in [(port, free_port()), (free_port(), port)] {
        std::fs::write(&file, Setup::to(9).yaml(traffic, admin, dir.path())).unwrap();
        let (code, _, err) = cli(&["run", "-c", &file.display().to_string()]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(&format!("127.0.0.1:{port}")) && !err.contains("serving"), "{err}");
    }
}

#[test]
fn a_reason_is_explained_by_the_code_it_stands_beside() {
    let (code, out, _) = cli(&["explain", "rpm_exceeded"]);
    assert_eq!(code, 0);
    assert!(out.contains("requests_per_minute") && out.contains("rate_limit_exceeded (HTTP 429)"), "{out}");
}
