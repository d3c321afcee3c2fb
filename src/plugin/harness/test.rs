#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::plugin::BUNDLED;

/// Every case of every bundled plugin; a plugin without cases is not finished.
#[tokio::test]
async fn the_cases_of_all_bundled_plugins() {
    let mut wrong = Vec::new();
    for manifest in BUNDLED {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(manifest.name).join("cases");
        let files = std::fs::read_dir(&folder).map(|entries| entries.map(|e| e.unwrap().path()).collect::<Vec<_>>());
        let mut files = files.unwrap_or_default();
        files.retain(|file| file.extension().is_some_and(|e| e == "yaml"));
        files.sort();
        if files.is_empty() {
            wrong.push(format!("plugins/{}/cases: no case", manifest.name));
        }
        for file in files {
            let at = format!("{}/{}", manifest.name, file.file_name().unwrap().to_string_lossy());
            match serde_yaml::from_str::<Case>(&std::fs::read_to_string(&file).unwrap()) {
                Err(error) => wrong.push(format!("{at}: {error}")),
                Ok(case) => {
                    wrong.extend(case.run(manifest).await.into_iter().map(|w| format!("{at} ({}): {w}", case.name)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The harness itself can fail: what is expected otherwise is said.
#[tokio::test]
async fn a_wrong_expectation_is_told() {
    static PASSING: Manifest = Manifest {
        name: "passing",
        version: "1.0.0",
        author: "Odock",
        category: "test",
        kind: "audit",
        summary: "Lets everything pass.",
        gates: &[Gate::PreRoute, Gate::PostResponse],
        styles: &[Style::Sequential],
        needs: &[],
        streams: false,
        evidence: &[],
        config_schema: || serde_json::json!({}),
        build: |_| Ok(Arc::new(Passing)),
    };
    struct Passing;
    #[async_trait::async_trait]
    impl crate::plugin::Plugin for Passing {}

    let case = |text: &str| serde_yaml::from_str::<Case>(text).unwrap();
    assert_eq!(case("name: a\nrequest: {body: {model: m}}\nexpect: {model: m, body: {model: m}}").run(&PASSING).await, [""; 0]);
    let wrong = case("name: b\nexpect: {verdict: abort, code: x, tags: {a: b}}").run(&PASSING).await;
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(serde_yaml::from_str::<Case>("name: c\nexpect: {verdicts: next}").is_err());
}
