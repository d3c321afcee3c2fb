//! Headers that tell the caller what was decided, where the route enables them: `odock-receipt` (which steps ran, with what
//! verdict) and `server-timing` (how long each took). Steps that did not run are left out.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use pingora::Result;
use pingora_http::ResponseHeader;

use crate::gate::guard::Reading;
use crate::gate::{Decision, Exchange};
use crate::limit::Fields;
use crate::route::Route;

/// The receipt's field; from an upstream it would be a forged one.
pub const RECEIPT: HeaderName = HeaderName::from_static("odock-receipt");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Writes the headers that the route enables.
///
/// # Errors
/// Pingora refuses the value; it is ASCII, so it does not.
pub fn write(head: &mut ResponseHeader, route: &Route, exchange: &Exchange) -> Result<()> {
    fields(route, exchange).into_iter().try_for_each(|(name, value)| head.insert_header(name, value))
}

/// The headers that the route enables, for an answer of the gateway's own.
pub fn fields(route: &Route, exchange: &Exchange) -> Fields {
    let receipt = route.receipt.then(|| (RECEIPT, receipt(&route.chain.id, exchange)));
    let timing = route.server_timing.then(|| (SERVER_TIMING, timing(exchange, exchange.facts.received.elapsed())));
    receipt.into_iter().chain(timing).filter_map(|(name, text)| Some((name, HeaderValue::try_from(text).ok()?))).collect()
}

fn ran(exchange: &Exchange) -> impl Iterator<Item = &crate::gate::Execution> {
    exchange.executions.iter().filter(|e| !matches!(e.decision, Decision::SkippedScope | Decision::SkippedRollout | Decision::Enqueued))
}

fn receipt(chain: &str, exchange: &Exchange) -> String {
    let mut text = format!("chain={chain}");
    for step in ran(exchange) {
        let _ =
            write!(text, ", {};gate={};verdict={};us={}", step.plugin, step.gate.as_str(), step.decision.as_str(), step.took.as_micros());
    }
    for reading in readings(exchange) {
        let (module, gate, verdict) = (reading.module, reading.phase.as_str(), reading.outcome.as_str());
        let _ = write!(text, ", safety.{module};gate={gate};verdict={verdict};us={}", reading.took.as_micros());
    }
    text
}

/// The results of SafetySec's modules so far.
fn readings(exchange: &Exchange) -> &[Reading] {
    exchange.safety.as_ref().map_or(&[], |kept| &kept.readings)
}

fn timing(exchange: &Exchange, total: Duration) -> String {
    let mut text = format!("total;dur={:.3}", total.as_secs_f64() * 1e3);
    for step in ran(exchange) {
        let _ = write!(text, ", {}-{};dur={:.3}", step.plugin, step.gate.as_str(), step.took.as_secs_f64() * 1e3);
    }
    for reading in readings(exchange) {
        let _ = write!(text, ", safety.{}-{};dur={:.3}", reading.module, reading.phase.as_str(), reading.took.as_secs_f64() * 1e3);
    }
    text
}
