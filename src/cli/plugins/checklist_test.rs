#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use super::*;
use crate::plugin::harness::Case;
use crate::plugin::{Roster, StorageScope};

fn cases(plugin: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(plugin).join("cases");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    files.map(|text| serde_yaml::from_str(&text).unwrap()).collect()
}

fn excess(checklist: &Checklist) -> Vec<&str> {
    checklist.items.iter().filter(|item| item.state == State::Exceeds).map(|item| item.item.as_str()).collect()
}

fn evaluated(manifest: &'static Manifest, used: &Used, instances: &[Listed<'_>], answers: &BTreeMap<String, String>) -> Checklist {
    Facts { manifest, used: Some(used), instances, answers }.checklist()
}

/// One of every kind of need.
fn every_need() -> Vec<Need> {
    let plain = [
        Need::ReadRequest,
        Need::WriteRequest,
        Need::ReadResponse,
        Need::WriteResponse,
        Need::Block,
        Need::Tags,
        Need::Headers,
        Need::Network,
        Need::Secrets,
        Need::Mail,
        Need::Background,
        Need::Deliver,
        Need::Files,
        Need::Notices,
    ];
    plain.into_iter().chain(StorageScope::ALL.map(Need::Storage)).collect()
}

/// No bundled plugin asks for more than it uses; and each further need, added to one of them, is reported, and nothing
/// else.
#[tokio::test]
async fn what_no_case_needs_exceeds() {
    for manifest in Roster::bundled().iter() {
        let cases = cases(manifest.name);
        let used = Used::by(manifest, &cases).await;
        assert_eq!(excess(&evaluated(manifest, &used, &[], &BTreeMap::new())), [""; 0], "{} as it is: {used:?}", manifest.name);
        let more: Vec<Need> = every_need().into_iter().filter(|need| !manifest.needs.contains(need)).collect();
        let needs: Vec<Need> = manifest.needs.iter().copied().chain(more.iter().copied()).collect();
        let wider: &'static Manifest = Box::leak(Box::new(Manifest { needs: Box::leak(needs.into_boxed_slice()), ..*manifest }));
        let used = Used::by(wider, &cases).await;
        let more: Vec<String> = more.iter().map(ToString::to_string).collect();
        assert_eq!(excess(&evaluated(wider, &used, &[], &BTreeMap::new())), more, "{} with everything", manifest.name);
    }
}

#[test]
fn grants_beyond_the_configuration_exceed() {
    let manifest = Roster::bundled().find("http_callout").unwrap();
    let entry: PluginEntry = serde_yaml::from_str(
        "name: dlp\nuse: http_callout\nconfig: {url: \"https://dlp.internal/v1\", token: dlp_token}\n\
         grant: {network: [\"dlp.internal:443\", \"elsewhere.example:443\"], secrets: [dlp_token, other_token]}\n",
    )
    .unwrap();
    let chains: BTreeMap<String, ChainEntry> = serde_yaml::from_str("default: {pre_upstream: {sequential: [dlp]}}").unwrap();
    let entries = [entry];
    let listed = Listed::all("http_callout", &entries, &chains);
    assert_eq!(listed[0].places, [("default".to_owned(), Gate::PreUpstream, Style::Sequential)]);
    let used = Used { needs: manifest.needs.iter().map(ToString::to_string).collect(), ..Used::default() };
    let checklist = evaluated(manifest, &used, &listed, &BTreeMap::new());
    let said: Vec<&str> = checklist.items.iter().filter(|item| item.state == State::Exceeds).map(|item| item.value.as_str()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("elsewhere.example") && said[1].contains("other_token"), "{said:?}");
}

#[test]
fn what_people_answer_is_open_until_they_do() {
    let manifest = Roster::bundled().find("audit_log").unwrap();
    let used = Used { needs: manifest.needs.iter().map(ToString::to_string).collect(), ..Used::default() };
    let nobody = evaluated(manifest, &used, &[], &BTreeMap::new());
    assert!(!nobody.is_complete() && nobody.count(State::Open) >= 5);
    let answers: BTreeMap<String, String> = QUESTIONS.iter().map(|(key, _)| ((*key).to_owned(), "yes".to_owned())).collect();
    assert!(evaluated(manifest, &used, &[], &answers).is_complete());
    let empty: BTreeMap<String, String> = QUESTIONS.iter().map(|(key, _)| ((*key).to_owned(), "  ".to_owned())).collect();
    assert_eq!(evaluated(manifest, &used, &[], &empty), nobody, "an empty answer is none");
}
