//! The alerts and the dashboard in `conf/` use metrics that exist, with labels that they have.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use regex::Regex;

use super::names::{self, Family, Kind};

const ALERTS: &str = include_str!("../../conf/prometheus/alerts.yaml");
const SCRAPE: &str = include_str!("../../conf/prometheus/scrape.yaml");
const DASHBOARD: &str = include_str!("../../conf/grafana/odock.json");

/// Every PromQL expression: alert rules, panels, and the queries behind the dashboard's variables.
fn expressions() -> Vec<String> {
    fn collect(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        serde_json::Value::String(text) if ["expr", "definition"].contains(&key.as_str()) => found.push(text.clone()),
                        other => collect(other, found),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_yaml::from_str(ALERTS).unwrap(), &mut found);
    collect(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    found
}

fn family(name: &str) -> Option<&'static Family> {
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    names::ALL.iter().copied().find(|family| match family.kind {
        Kind::Histogram => Some(family.name) == histogram,
        _ => family.name == name,
    })
}

#[test]
fn every_metric_and_label_that_is_shipped_exists() {
    let metric = Regex::new(r"\b((?:gateway|process)_[a-z_0-9]+)(?:\{([^}]*)\})?").unwrap();
    let label = Regex::new(r#"([a-z_]+)\s*(?:=~|!=|=)"#).unwrap();
    let mut seen = BTreeSet::new();
    for expression in expressions() {
        for hit in metric.captures_iter(&expression) {
            let name = &hit[1];
            let family = family(name).unwrap_or_else(|| panic!("{name} is in no table: {expression}"));
            seen.insert(family.name);
            for matcher in hit.get(2).map(|m| m.as_str()).into_iter().flat_map(|m| label.captures_iter(m)) {
                let known = ["instance", "job"].contains(&&matcher[1]) || family.labels.contains(&&matcher[1]);
                assert!(known, "{name} has no label {}: {expression}", &matcher[1]);
            }
        }
    }
    let unseen: Vec<&str> = names::ALL.iter().map(|family| family.name).filter(|name| !seen.contains(name)).collect();
    assert!(unseen.is_empty(), "neither an alert nor a panel shows {unseen:?}");
}

#[test]
fn rules_have_what_prometheus_wants_of_them() {
    let alerts: serde_json::Value = serde_yaml::from_str(ALERTS).unwrap();
    let rules = alerts["groups"][0]["rules"].as_array().unwrap();
    let names: BTreeSet<&str> = rules.iter().map(|rule| rule["alert"].as_str().unwrap()).collect();
    assert_eq!(names.len(), rules.len(), "an alert stands twice");
    for rule in rules {
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()));
        assert!(rule["annotations"]["summary"].is_string());
        let expression = rule["expr"].as_str().unwrap();
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            assert_eq!(expression.matches(open).count(), expression.matches(close).count(), "{expression}");
        }
    }
    let scrape: serde_json::Value = serde_yaml::from_str(SCRAPE).unwrap();
    assert_eq!(scrape["scrape_configs"][0]["job_name"], "odock-edge");
}

#[test]
fn the_dashboard_can_be_provisioned_from_a_file() {
    let board: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert_eq!((board["uid"].as_str(), board["schemaVersion"].as_u64() >= Some(36)), (Some("odock"), true));
    assert!(board.get("__inputs").is_none(), "a template variable chooses the data source");
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()));
        assert!(panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}");
    }
}
