#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::plugin::BUNDLED;

/// Every case of every bundled plugin; a plugin without cases is not finished.
#[tokio::test]
async fn the_cases_of_all_bundled_plugins() {
    let mut wrong = Vec::new();
    for manifest in BUNDLED {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(manifest.name).join("cases");
        wrong.extend(Case::run_folder(manifest, &folder).await);
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
