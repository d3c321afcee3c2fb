#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::*;
use crate::config::Document;
use crate::plugin::harness::Case;

/// The briefs of a folder, each with the expectation in its first line.
fn briefs(folder: &str) -> Vec<(String, String, Brief)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/briefs").join(folder);
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|x| x == "yaml")).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let document = Document::<Brief>::read(file).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let expected = document.text.lines().next().unwrap().strip_prefix("# expect: ").unwrap().to_owned();
        (file.file_name().unwrap().to_string_lossy().into_owned(), expected, document.value)
    };
    files.iter().map(read).collect()
}

/// The result in the form of the expectations: `plugin; MOMENT STYLE, …; CONTROL, …`, as far as it applies.
fn told(brief: &Brief) -> String {
    let found = classify(brief);
    let mut parts = Vec::new();
    if found.plugin.is_some() {
        parts.push("plugin".to_owned());
        let places = Design::of(brief, &found).places;
        parts.push(places.iter().map(|place| format!("{} {}", place.moment(), place.style.as_str())).collect::<Vec<_>>().join(", "));
    }
    if !found.controls.is_empty() {
        parts.push(found.controls.iter().map(|claim| claim.belongs.as_str()).collect::<Vec<_>>().join(", "));
    }
    parts.join("; ")
}

fn all_right(folder: &str) {
    let wrong: Vec<String> = briefs(folder)
        .iter()
        .filter(|(_, expected, brief)| told(brief) != *expected)
        .map(|(file, expected, brief)| format!("{file}: expected {expected}, got {}\n{:#?}", told(brief), classify(brief)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_briefs_of_the_product_are_placed_right() {
    all_right("");
}

/// Other wordings in two languages: sparse, awkward and mixed ones.
#[test]
fn other_wordings_are_placed_right() {
    all_right("held_out");
}

#[test]
fn every_verdict_has_its_reason_and_its_place() {
    for (file, _, brief) in briefs("").into_iter().chain(briefs("held_out")) {
        let found = classify(&brief);
        for claim in found.plugin.iter().chain(&found.controls) {
            assert!(!claim.because.is_empty(), "{file}");
            assert!(!claim.belongs.reason().is_empty() && !claim.belongs.configured().is_empty());
        }
        assert_eq!(check(&brief), [], "{file}");
    }
}

#[test]
fn the_template_is_a_brief() {
    let brief = Document::<Brief>::parse("template", TEMPLATE.to_owned()).unwrap().value;
    assert_eq!(check(&brief), []);
    assert_eq!(told(&brief), "plugin; after_response background");
}

#[test]
fn what_cannot_be_built_is_told_with_its_place() {
    let text = "name: Use\ngoal: too short\naction_model: [ask]\nexternal_systems:\n  - {name: a, url: \"https://user@host/\", secret: \"Sk 1\"}\n\
                data_fields: {writes: [request.header.authorization, tag.a b]}\nvisible_behaviour: {status: 200, code: Not-A-Code}\nrollout: {percent: 0}\n";
    let document = Document::<Brief>::parse("f", text.to_owned()).unwrap();
    let paths: Vec<String> = check(&document.value).into_iter().map(|flaw| flaw.path).collect();
    let all = [
        "name",
        "goal",
        "external_systems[0].url",
        "external_systems[0].secret",
        "data_fields.writes[0]",
        "data_fields.writes[1]",
        "visible_behaviour.status",
        "visible_behaviour.code",
        "rollout.percent",
    ];
    assert_eq!(paths, all);
    let unknown = Document::<Brief>::parse("f", "name: a\ngoal: b\nacton_model: []\n".to_owned()).unwrap_err();
    assert_eq!((unknown[0].line, unknown[0].help.as_deref()), (3, Some("did you mean `action_model`?")));
    let variant = Document::<Brief>::parse("f", "name: a\ngoal: b\naction_model: [delivr]\n".to_owned()).unwrap_err();
    assert_eq!((variant[0].line, variant[0].column, variant[0].help.as_deref()), (3, 16, Some("did you mean `deliver`?")), "{variant:?}");
}

#[test]
fn folders_are_complete_and_their_cases_are_cases() {
    for (file, _, brief) in briefs("").into_iter().chain(briefs("held_out")) {
        let found = classify(&brief);
        if found.plugin.is_none() {
            continue;
        }
        let files = folder(&brief, &found, &Design::of(&brief, &found));
        for name in ["README.md", "acceptance.md", "example.yaml", "mod.rs", "rollout.md"] {
            assert!(files.iter().any(|made| made.path == name), "{file}: {name}");
        }
        for made in &files {
            assert!(made.text.ends_with('\n') && !made.text.contains("\n\n\n"), "{file}: {}", made.path);
            if made.path.starts_with("cases/") {
                let case = serde_yaml::from_str::<Case>(&made.text);
                assert!(case.is_ok(), "{file}: {}: {case:?}\n{}", made.path, made.text);
            }
            if made.path == "README.md" {
                for heading in ["What it does", "When it runs", "Configuration", "What it may do", "Evidence", "Failure"] {
                    assert!(made.text.contains(&format!("\n## {heading}\n")), "{file}: {heading}");
                }
            }
        }
    }
}

/// Something that is excluded by the wording is not asked for.
#[test]
fn the_manifest_asks_for_no_more_than_the_brief() {
    for (file, _, brief) in briefs("") {
        let found = classify(&brief);
        if found.plugin.is_none() {
            continue;
        }
        let needs = Design::of(&brief, &found).needs;
        let has = |need| needs.contains(&need);
        use crate::plugin::Need;
        assert_eq!(has(Need::Network), !brief.external_systems.is_empty(), "{file}");
        assert!(!has(Need::Secrets) || brief.external_systems.iter().any(|system| system.secret.is_some()), "{file}");
        assert!(!has(Need::ReadResponse) || brief.data_fields.reads.contains(&Datum::ResponseContent), "{file}");
        assert!(
            !has(Need::ReadRequest) || brief.data_fields.reads.iter().any(|datum| datum.is_content() || *datum == Datum::McpTool),
            "{file}"
        );
        assert!(!has(Need::Block) || brief.action_model.iter().any(|action| matches!(action, Action::Block | Action::Ask)), "{file}");
    }
}

/// A generated plugin builds within this crate as it does in a crate of its own.
#[path = "../../../tests/golden/briefs/made/corporate_dlp.rs"]
mod corporate_dlp;
#[path = "../../../tests/golden/briefs/made/offer_signals.rs"]
mod offer_signals;
#[path = "../../../tests/golden/briefs/made/tenant_metadata.rs"]
mod tenant_metadata;

#[tokio::test]
async fn what_is_made_passes_its_cases_in_this_tree() {
    let all = briefs("");
    for manifest in [&corporate_dlp::MANIFEST, &offer_signals::MANIFEST, &tenant_metadata::MANIFEST] {
        let (.., brief) = all.iter().find(|(.., brief)| brief.name == manifest.name).unwrap();
        let found = classify(brief);
        let files = folder(brief, &found, &Design::of(brief, &found));
        let cases = files.iter().filter(|file| file.path.starts_with("cases/"));
        let mut seen = 0;
        for file in cases {
            let case: Case = serde_yaml::from_str(&file.text).unwrap();
            assert_eq!(case.run(manifest).await, [""; 0], "{} {}\n{}", manifest.name, file.path, file.text);
            seen += 1;
        }
        assert!(seen >= 4, "{}", manifest.name);
    }
}
