//! Packing and unpacking gives the same record.

use super::*;
use proptest::prelude::*;

fn record() -> impl Strategy<Value = UsageRecord> {
    let name = || proptest::option::of("[a-z\"é]{0,12}");
    let numbers = (0i64..1 << 60, any::<u16>(), any::<[u64; 8]>(), proptest::option::of(0i64..i64::MAX), any::<bool>());
    let texts = ("\\PC{0,12}", name(), name(), name(), proptest::collection::vec("[a-z_]{1,9}", 0..4));
    (numbers, texts, any::<u128>()).prop_map(|((at, status, n, cost_nanos, stream), (key, team, model, code, plugins), id)| UsageRecord {
        request_id: format!("{id:032x}"),
        at,
        organisation: "acme".into(),
        key,
        team,
        model,
        code,
        stream,
        status,
        latency_ms: n[0],
        overhead_us: n[1],
        input_tokens: n[2],
        cached_tokens: n[3],
        output_tokens: n[4],
        reasoning_tokens: n[5],
        total_tokens: n[6],
        units: n[7],
        cost_nanos,
        details: r#"{"tokens":{}}"#.into(),
        plugins,
        ..UsageRecord::default()
    })
}

proptest! {
    #[test]
    fn what_was_packed_comes_back(records in proptest::collection::vec(record(), 0..8)) {
        let mut batch = UsageBatch::default();
        for row in &records {
            let (mut names, mut packed) = (String::new(), Vec::new());
            Usage::of_row(row, &mut names).pack(&mut packed);
            prop_assert_eq!(Usage::at(&packed), Some(row.at));
            batch.push(u128::from_str_radix(&row.request_id, 16).unwrap(), &packed);
        }
        let again = UsageBatch::of_bytes(batch.bytes().to_vec());
        prop_assert_eq!(&again, &batch);
        let rows: Vec<_> = again.iter().map(|(id, packed)| Usage::unpack(packed).unwrap().row(id)).collect();
        prop_assert_eq!(rows, records);
    }

    #[test]
    fn whatever_it_is_reading_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        let _ = Usage::unpack(&bytes);
        prop_assert!(UsageBatch::of_bytes(bytes.clone()).len() <= bytes.len() / HEAD);
    }
}

#[test]
fn details_are_derived_from_their_parts() {
    let billing = Billing { input: 30_000, output: 5_152_000, total: 5_182_000, input_per_1k: 2_000_000, ..Billing::default() };
    let parts = Parts { route: "openai", user_agent: Some("curl/8"), attempts: 1, billing: Some(billing), ..Parts::default() };
    let usage =
        Usage { input_tokens: 15, output_tokens: 644, total_tokens: 659, stream: true, details: Details::Parts(parts), ..Usage::default() };
    let mut packed = Vec::new();
    usage.pack(&mut packed);
    assert!(packed.len() < 110, "{} bytes", packed.len());
    let row = Usage::unpack(&packed).unwrap().row(7);
    let details: serde_json::Value = serde_json::from_str(&row.details).unwrap();
    assert_eq!((&details["tokens"]["completion_tokens"], &details["billing"]["output_cost_nanos_usd"]), (&644.into(), &5_152_000.into()));
    assert_eq!(details["billing"]["pricing_nanos_usd_per_1k"]["input"], 2_000_000);
    assert_eq!((&details["metadata"]["mode"], &details["metadata"]["user_agent"]), (&"stream".into(), &"curl/8".into()));
    assert_eq!((&details["billing"]["tool_cost_nanos_usd"], &details["billing"]["total_cost_usd"]), (&0.into(), &"0.005182".into()));
}

/// A record of the previous build, in version 1 of the format: it ends where version 2 continues.
#[test]
fn records_of_the_first_form_are_still_read() {
    let parts = Parts { route: "openai", attempts: 2, ..Parts::default() };
    let usage = Usage { input_tokens: 15, details: Details::Parts(parts), ..Usage::default() };
    let mut packed = Vec::new();
    usage.pack(&mut packed);
    let (mut more, mut first) = (Vec::new(), packed.clone());
    parts.more.pack(&mut more);
    first.truncate(packed.len() - more.len());
    first[0] = FIRST;
    assert_eq!((Usage::unpack(&first), Usage::at(&first)), (Some(usage.clone()), Some(0)));
    assert_eq!(Usage::unpack(&packed), Some(usage));
}
