#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::plugin::BUNDLED;

/// Runs every case of every bundled plugin; a plugin without cases is not finished.
#[tokio::test]
async fn the_cases_of_all_bundled_plugins() {
    let mut wrong = Vec::new();
    for manifest in BUNDLED {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(manifest.name).join("cases");
        wrong.extend(Case::run_folder(manifest, &folder).await);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// `explain` can be trusted: every code with which a plugin refuses is in its manifest, is chosen by its configuration or by an
/// external system, or is the gateway's own.
#[test]
fn every_code_of_a_case_is_declared() {
    let mut seen = 0;
    for manifest in BUNDLED {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(manifest.name).join("cases");
        for (file, case) in Case::read_folder(&folder).unwrap() {
            let Some(code) = &case.expect.code else { continue };
            let quoted = serde_json::json!(code).to_string();
            let declared = manifest.codes.iter().any(|known| known.code == code);
            let chosen =
                case.config.to_string().contains(&quoted) || case.replies.iter().any(|reply| reply.body.to_string().contains(&quoted));
            let the_gateways = crate::error::codes::find(code).is_some();
            assert!(declared || chosen || the_gateways, "{} {file:?}: {code} is in no manifest", manifest.name);
            seen += usize::from(declared);
        }
    }
    assert!(seen >= 6, "{seen} cases show a declared code");
}

/// The harness itself can fail: a wrong expectation is reported.
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
        codes: &[],
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
