//! The output of `plugins new` for the briefs in `tests/golden/briefs`, built here as in any crate that links the gateway.
//! `UPDATE_GOLDEN=1 cargo test --test gateway plugin_life` writes the files again.

use odock_edge::plugin::Manifest;

#[path = "../golden/briefs/made/answer_facts.rs"]
mod answer_facts;
#[path = "../golden/briefs/made/audit_archive.rs"]
mod audit_archive;
#[path = "../golden/briefs/made/corporate_dlp.rs"]
mod corporate_dlp;
#[path = "../golden/briefs/made/customer_segment.rs"]
mod customer_segment;
#[path = "../golden/briefs/made/deploy_workflow.rs"]
mod deploy_workflow;
#[path = "../golden/briefs/made/embargo.rs"]
mod embargo;
#[path = "../golden/briefs/made/failure_mail.rs"]
mod failure_mail;
#[path = "../golden/briefs/made/finished_webhook.rs"]
mod finished_webhook;
#[path = "../golden/briefs/made/incident_model.rs"]
mod incident_model;
#[path = "../golden/briefs/made/model_approval.rs"]
mod model_approval;
#[path = "../golden/briefs/made/offer_signals.rs"]
mod offer_signals;
#[path = "../golden/briefs/made/policy_engine.rs"]
mod policy_engine;
#[path = "../golden/briefs/made/product_mentions.rs"]
mod product_mentions;
#[path = "../golden/briefs/made/project_names.rs"]
mod project_names;
#[path = "../golden/briefs/made/provider_headers.rs"]
mod provider_headers;
#[path = "../golden/briefs/made/siem_audit.rs"]
mod siem_audit;
#[path = "../golden/briefs/made/tenant_eligibility.rs"]
mod tenant_eligibility;
#[path = "../golden/briefs/made/tenant_metadata.rs"]
mod tenant_metadata;
#[path = "../golden/briefs/made/usage_warehouse.rs"]
mod usage_warehouse;

/// The plugins that were made of briefs, also for the gateway that this binary can be.
pub fn manifests() -> Vec<&'static Manifest> {
    vec![
        &answer_facts::MANIFEST,
        &audit_archive::MANIFEST,
        &corporate_dlp::MANIFEST,
        &customer_segment::MANIFEST,
        &deploy_workflow::MANIFEST,
        &embargo::MANIFEST,
        &failure_mail::MANIFEST,
        &finished_webhook::MANIFEST,
        &incident_model::MANIFEST,
        &model_approval::MANIFEST,
        &offer_signals::MANIFEST,
        &policy_engine::MANIFEST,
        &product_mentions::MANIFEST,
        &project_names::MANIFEST,
        &provider_headers::MANIFEST,
        &siem_audit::MANIFEST,
        &tenant_eligibility::MANIFEST,
        &tenant_metadata::MANIFEST,
        &usage_warehouse::MANIFEST,
    ]
}
