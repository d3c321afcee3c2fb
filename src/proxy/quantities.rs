//! Converts the usage that a provider reported into the quantities that are priced.

use crate::budget::{self, MissingUsage};
use crate::gate::Exchange;
use crate::usage::Quantities;
use crate::wire::{Endpoint, Usage, UsageSource};

/// What was reserved for a request, in tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reserved {
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// Its answer is made after it is over.
    pub later: bool,
}

/// What the provider did not tell is estimated, or whatever `missing` says: the prompt as it was reserved, the answer by four
/// bytes a token. Of a request that nothing is asked of only the prompt of a stream is estimated, whose answer was already. An
/// answer that is made after its request is over costs what was reserved.
pub(super) fn estimate(exchange: &mut Exchange, reserved: Option<Reserved>, missing: MissingUsage) {
    let endpoint = exchange.facts.endpoint;
    if endpoint == Endpoint::CountTokens {
        // The number that is answered is what was asked for, not what was used.
        exchange.outcome.usage = Usage::default();
        return;
    }
    if endpoint == Endpoint::Embeddings {
        exchange.outcome.usage = exchange.outcome.usage.of_prompt();
    }
    let usage = exchange.outcome.usage;
    let estimated =
        |input: u64, output: u64| Usage { input, output, total: input.saturating_add(output), source: UsageSource::Estimated, ..usage };
    if let Some(reserved) = reserved.filter(|reserved| reserved.later && (usage.source != UsageSource::Provider || usage.output == 0)) {
        exchange.outcome.usage = estimated(reserved.tokens_in, reserved.tokens_out);
        return;
    }
    let (input, output) = match (usage.source, reserved) {
        (UsageSource::Provider | UsageSource::Failed, _) | (UsageSource::None, None) => return,
        // A stream may have told its prompt before it broke off.
        (UsageSource::Estimated, _) if usage.input > 0 => (usage.input, usage.output),
        (UsageSource::Estimated, None) => (budget::input_tokens(&exchange.draft.body), usage.output),
        (UsageSource::Estimated, Some(reserved)) => (reserved.tokens_in, usage.output),
        (UsageSource::None, Some(reserved)) => match endpoint {
            // Numbers, pictures and sound: their length says nothing of tokens.
            Endpoint::Embeddings | Endpoint::Images | Endpoint::ImageEdits | Endpoint::Audio => (reserved.tokens_in, 0),
            _ => (reserved.tokens_in, exchange.outcome.bytes_received / 4),
        },
    };
    exchange.outcome.usage = match (missing, reserved) {
        (MissingUsage::Nothing, Some(_)) => Usage::default(),
        (MissingUsage::Worst, Some(reserved)) => estimated(reserved.tokens_in, reserved.tokens_out),
        _ => estimated(input, output),
    };
}

/// Each token is counted once, under the kind that has its own price. `units` are images generated or texts embedded.
pub(super) fn quantities(told: &Usage, endpoint: Endpoint, units: u64) -> Quantities {
    if endpoint == Endpoint::Embeddings {
        return Quantities { embeddings: told.input, units, ..Quantities::default() };
    }
    let (input, output) = (told.input_kinds, told.output_kinds);
    // Image endpoints generate images, even if the provider does not report the kind of its output tokens.
    let pictures = matches!(endpoint, Endpoint::Images | Endpoint::ImageEdits) && output.image == 0;
    Quantities {
        input: told.input,
        input_image: input.image,
        input_audio: input.audio,
        input_video: input.video,
        cached: told.cached,
        cache_write: told.cache_write,
        output: told.output,
        output_image: if pictures { told.output } else { output.image },
        output_audio: output.audio,
        output_video: output.video,
        reasoning: told.reasoning,
        tool_calls: told.calls,
        units,
        ..Quantities::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::usage::Pricing;
    use crate::wire::Dialect;

    #[test]
    fn every_kind_of_token_is_charged_at_its_own_price() {
        // USD per 1,000; a quantity of n at a price of p costs n × p × 10⁶ nano-USD.
        let price: Pricing = serde_yaml::from_str(
            "input: {text_cost_per_1k_tokens: 1, image_cost_per_1k_tokens: 2, audio_cost_per_1k_tokens: 3}\n\
             output: {text_cost_per_1k_tokens: 10, image_cost_per_1k_tokens: 20, audio_cost_per_1k_tokens: 30, reasoning_cost_per_1k_tokens: 50}\n\
             cached_input_discount_percent: 50\ncached_write_cost_per_1k_tokens: 1.25\nembeddings_cost_per_1k_tokens: 0.1\n\
             units_cost_per_1k: 7\nunit_kind: images\ntools: {cost_per_call: 0.01}",
        )
        .unwrap();
        let cases = [
            // 650 text + 50 × 2 + 200 × 3 = 1.35; 100 cached at half = 0.05; 340 × 10 + 60 × 30 + 100 × 50 = 10.2.
            (
                (Dialect::OpenAi, Endpoint::ChatCompletions, 0),
                r#"{"usage":{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500,
                    "prompt_tokens_details":{"cached_tokens":100,"audio_tokens":200,"image_tokens":50},
                    "completion_tokens_details":{"reasoning_tokens":100,"audio_tokens":60,"rejected_prediction_tokens":9}}}"#,
                [1_350_000_000, 50_000_000, 10_200_000_000, 0, 0, 0],
            ),
            // 900; 100 at half; 400 × 10 + 100 × 50.
            (
                (Dialect::OpenAi, Endpoint::Responses, 0),
                r#"{"output":[],"usage":{"input_tokens":1000,"input_tokens_details":{"cached_tokens":100},
                    "output_tokens":500,"output_tokens_details":{"reasoning_tokens":100}}}"#,
                [900_000_000, 50_000_000, 9_000_000_000, 0, 0, 0],
            ),
            // 10 text + 40 × 2; 1,000 × 20, all of them pictures; two pictures.
            (
                (Dialect::OpenAi, Endpoint::Images, 2),
                r#"{"data":[{},{}],"usage":{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},"output_tokens":1000}}"#,
                [90_000_000, 0, 20_000_000_000, 0, 0, 14_000_000],
            ),
            // 100 + 200 × 1.25; 300 at half; 10 × 10; three searches.
            (
                (Dialect::Anthropic, Endpoint::Messages, 0),
                r#"{"usage":{"input_tokens":100,"cache_creation_input_tokens":200,"cache_read_input_tokens":300,"output_tokens":10,
                    "cache_creation":{"ephemeral_5m_input_tokens":200},"server_tool_use":{"web_search_requests":3}}}"#,
                [350_000_000, 150_000_000, 100_000_000, 0, 30_000_000, 0],
            ),
            (
                (Dialect::OpenAi, Endpoint::Embeddings, 0),
                r#"{"data":[],"usage":{"prompt_tokens":2000,"total_tokens":2000}}"#,
                [0, 0, 0, 200_000_000, 0, 0],
            ),
        ];
        for ((dialect, endpoint, units), body, expected) in cases {
            let usage = crate::wire::usage::from_body(dialect, body.as_bytes());
            let cost = price.cost(&quantities(&usage, endpoint, units));
            let parts = [cost.input, cost.cached_input, cost.output, cost.embeddings, cost.tool, cost.units];
            assert_eq!((parts, cost.total), (expected, expected.iter().sum()), "{body}");
        }
    }
}
