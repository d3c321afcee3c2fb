//! What tokens, calls and units cost: the pricing document, computed in whole nano-USD.
//!
//! Prices are USD per 1,000. Each part of a cost is rounded to the nearest nano-USD by itself, half up, and the total is the
//! sum of the parts, so that the parts in a record add up. A part without a price of its own is charged as text of the same
//! side, so that a new kind of token is never free by accident.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::NanoUsd;

/// What a model costs, USD per 1,000 (product.md §5.5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pricing {
    /// Tokens of the prompt.
    pub input: SidePrices,
    /// Tokens of the answer.
    pub output: SidePrices,
    /// How much cheaper a prompt token is that the provider read from its cache, percent.
    #[schemars(range(max = 100))]
    pub cached_input_discount_percent: u8,
    /// Tokens of the prompt that the provider wrote to its cache; as input by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_write_cost_per_1k_tokens: Option<NanoUsd>,
    /// Tokens that were embedded; as input text by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings_cost_per_1k_tokens: Option<NanoUsd>,
    /// Tools.
    pub tools: ToolPrices,
    /// Whatever else is counted: see `unit_kind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units_cost_per_1k: Option<NanoUsd>,
    /// What a unit is. `images` are counted at image endpoints and `inputs` at embeddings; without a kind both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_kind: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// Prices of one side, USD per 1,000 tokens; what is missing costs what text costs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SidePrices {
    /// Text.
    pub text_cost_per_1k_tokens: NanoUsd,
    /// Images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_cost_per_1k_tokens: Option<NanoUsd>,
    /// Sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_cost_per_1k_tokens: Option<NanoUsd>,
    /// Moving pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video_cost_per_1k_tokens: Option<NanoUsd>,
    /// Reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_cost_per_1k_tokens: Option<NanoUsd>,
}

/// Prices of tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolPrices {
    /// Definitions, USD per 1,000 tokens, on top of their place in the prompt.
    pub definition_cost_per_1k_tokens: NanoUsd,
    /// Arguments, USD per 1,000 tokens, on top.
    pub input_cost_per_1k_tokens: NanoUsd,
    /// Results, USD per 1,000 tokens, on top.
    pub output_cost_per_1k_tokens: NanoUsd,
    /// Every call that the provider itself carries out, USD.
    pub cost_per_call: NanoUsd,
}

/// The quantities that a request used. Totals include their parts, as OpenAI counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quantities {
    /// Input tokens of all kinds, including cached ones.
    pub input: u64,
    /// Input tokens of images.
    pub input_image: u64,
    /// Input tokens of sound.
    pub input_audio: u64,
    /// Input tokens of video.
    pub input_video: u64,
    /// Input tokens read from the provider's cache.
    pub cached: u64,
    /// Input tokens written to the provider's cache.
    pub cache_write: u64,
    /// Output tokens of all kinds, including reasoning.
    pub output: u64,
    /// Output tokens of images.
    pub output_image: u64,
    /// Output tokens of sound.
    pub output_audio: u64,
    /// Output tokens of video.
    pub output_video: u64,
    /// Output tokens of reasoning.
    pub reasoning: u64,
    /// Tokens that were embedded; not part of `input`.
    pub embeddings: u64,
    /// Tokens of tool definitions; already part of the totals, as are the two that follow.
    pub tool_definition: u64,
    /// Tokens of tool arguments.
    pub tool_input: u64,
    /// Tokens of tool results.
    pub tool_output: u64,
    /// Tool calls that the provider carried out.
    pub tool_calls: u64,
    /// Units of the kind that the price names.
    pub units: u64,
}

/// A cost and its parts (nano-USD).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Input tokens that did not come from the cache.
    pub input: i64,
    /// Input tokens from the cache.
    pub cached_input: i64,
    /// Output tokens.
    pub output: i64,
    /// Embeddings.
    pub embeddings: i64,
    /// Tools.
    pub tool: i64,
    /// Units.
    pub units: i64,
    /// The sum.
    pub total: i64,
}

impl Pricing {
    /// The prices that are never charged, and why. `tells_calls`: whether the provider reports the tool calls it carried out.
    pub fn uncharged(&self, tells_calls: bool) -> Vec<(&'static str, &'static str)> {
        const TOKENS: &str = "is never charged: no provider tells tokens of tools apart, they are charged as text";
        let (tools, free) = (&self.tools, NanoUsd::default());
        [
            (tools.definition_cost_per_1k_tokens != free, "tools.definition_cost_per_1k_tokens", TOKENS),
            (tools.input_cost_per_1k_tokens != free, "tools.input_cost_per_1k_tokens", TOKENS),
            (tools.output_cost_per_1k_tokens != free, "tools.output_cost_per_1k_tokens", TOKENS),
            (
                tools.cost_per_call != free && !tells_calls,
                "tools.cost_per_call",
                "is charged where usage tells the calls, as Anthropic's does",
            ),
            (
                self.input.reasoning_cost_per_1k_tokens.is_some(),
                "input.reasoning_cost_per_1k_tokens",
                "is never charged: no prompt has reasoning",
            ),
            (
                self.units_cost_per_1k.is_some() && !matches!(self.unit_kind.as_deref(), None | Some("images" | "inputs")),
                "unit_kind",
                "is counted nowhere, so its price is never charged: `images` are (image endpoints), and `inputs` (embeddings)",
            ),
        ]
        .into_iter()
        .filter_map(|(is, field, why)| is.then_some((field, why)))
        .collect()
    }

    /// The cost of these quantities. Saturates instead of wrapping.
    pub fn cost(&self, q: &Quantities) -> Cost {
        let text = self.input.text_cost_per_1k_tokens;
        let other = q.input_image.saturating_add(q.input_audio).saturating_add(q.input_video);
        // Providers do not tell the kind of cached tokens; a cached image is charged as cached text.
        let cached = q.cached.min(q.input);
        let written = q.cache_write.min(q.input - cached);
        let plain = q.input.saturating_sub(cached).saturating_sub(written).saturating_sub(other);
        let input = Sum::default().add(plain, text).add(written, self.cached_write_cost_per_1k_tokens.unwrap_or(text)).side(
            &self.input,
            [q.input_image, q.input_audio, q.input_video],
            q.input - cached - written,
        );
        let discounted = i128::from(text.0) * i128::from(100 - self.cached_input_discount_percent.min(100));
        let cached_input = round(i128::from(cached) * discounted, 100_000);
        let reasoning = q.reasoning.min(q.output);
        let spoken = q.output_image.saturating_add(q.output_audio).saturating_add(q.output_video).saturating_add(reasoning);
        let output = Sum::default()
            .add(q.output.saturating_sub(spoken), self.output.text_cost_per_1k_tokens)
            .add(reasoning, self.output.reasoning_cost_per_1k_tokens.unwrap_or(self.output.text_cost_per_1k_tokens))
            .side(&self.output, [q.output_image, q.output_audio, q.output_video], q.output - reasoning);
        let tools = &self.tools;
        let tool = Sum::default()
            .add(q.tool_definition, tools.definition_cost_per_1k_tokens)
            .add(q.tool_input, tools.input_cost_per_1k_tokens)
            .add(q.tool_output, tools.output_cost_per_1k_tokens)
            .add(q.tool_calls.saturating_mul(1000), tools.cost_per_call);
        let embeddings = Sum::default().add(q.embeddings, self.embeddings_cost_per_1k_tokens.unwrap_or(text));
        let units = Sum::default().add(q.units, self.units_cost_per_1k.unwrap_or_default());
        let mut cost = Cost {
            input: input.nanos(),
            cached_input,
            output: output.nanos(),
            embeddings: embeddings.nanos(),
            tool: tool.nanos(),
            units: units.nanos(),
            total: 0,
        };
        cost.total =
            [cost.input, cost.cached_input, cost.output, cost.embeddings, cost.tool, cost.units].into_iter().fold(0, i64::saturating_add);
        cost
    }

    /// The most that so many tokens of prompt and answer, so many units and so many calls of the provider's tools can cost,
    /// whatever kinds of tokens they turn out to be, nano-USD.
    pub fn at_most(&self, input: u64, output: u64, units: u64, calls: u64) -> i64 {
        let dearer = |price: NanoUsd, other: Option<NanoUsd>| NanoUsd(price.0.max(other.map_or(i64::MIN, |other| other.0)));
        let dearest = |side: &SidePrices| {
            let kinds = [
                side.image_cost_per_1k_tokens,
                side.audio_cost_per_1k_tokens,
                side.video_cost_per_1k_tokens,
                side.reasoning_cost_per_1k_tokens,
            ];
            kinds.into_iter().fold(side.text_cost_per_1k_tokens, dearer)
        };
        let tools = &self.tools;
        let extra = |a: NanoUsd, b: NanoUsd| NanoUsd(a.0.max(b.0));
        let input_price = dearer(dearer(dearest(&self.input), self.cached_write_cost_per_1k_tokens), self.embeddings_cost_per_1k_tokens);
        let input_tools = extra(tools.definition_cost_per_1k_tokens, tools.output_cost_per_1k_tokens);
        let sum = Sum::default()
            .add(input, input_price)
            .add(input, input_tools)
            .add(output, dearest(&self.output))
            .add(output, tools.input_cost_per_1k_tokens)
            .add(units, self.units_cost_per_1k.unwrap_or_default())
            .add(calls.saturating_mul(1000), tools.cost_per_call);
        // Rounded part by part a cost can be half a nano-USD a part above its rounded sum.
        sum.nanos().saturating_add(6)
    }
}

/// A sum of tokens times price, before the division by 1,000.
#[derive(Debug, Clone, Copy, Default)]
struct Sum(i128);

impl Sum {
    #[inline]
    fn add(self, tokens: u64, price: NanoUsd) -> Self {
        // Most quantities are zero.
        if tokens == 0 {
            return self;
        }
        Self(self.0 + i128::from(tokens) * i128::from(price.0))
    }

    /// Adds images, sound and video, together never more than `limit` tokens.
    fn side(self, prices: &SidePrices, tokens: [u64; 3], limit: u64) -> Self {
        if tokens == [0; 3] {
            return self;
        }
        let of = [prices.image_cost_per_1k_tokens, prices.audio_cost_per_1k_tokens, prices.video_cost_per_1k_tokens];
        let mut left = limit;
        tokens.into_iter().zip(of).fold(self, |sum, (tokens, price)| {
            let tokens = tokens.min(left);
            left -= tokens;
            sum.add(tokens, price.unwrap_or(prices.text_cost_per_1k_tokens))
        })
    }

    fn nanos(self) -> i64 {
        round(self.0, 1000)
    }
}

/// Divides, rounding half up.
#[inline]
fn round(amount: i128, by: i128) -> i64 {
    // The cost of nearly every request fits into 64 bits, which takes a tenth of the time.
    if let (Ok(amount), Ok(by)) = (i64::try_from(amount), i64::try_from(by))
        && (0..i64::MAX - by).contains(&amount)
    {
        return (amount + by / 2) / by;
    }
    i64::try_from((amount + by / 2).div_euclid(by)).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pricing(yaml: &str) -> Pricing {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn the_products_example() {
        let price =
            pricing("input: {text_cost_per_1k_tokens: 0.002}\noutput: {text_cost_per_1k_tokens: 0.008}\ncached_input_discount_percent: 75");
        let cost = price.cost(&Quantities { input: 15, output: 644, ..Quantities::default() });
        assert_eq!((cost.input, cost.output, cost.total), (30_000, 5_152_000, 5_182_000));
        let cached = price.cost(&Quantities { input: 1000, cached: 400, ..Quantities::default() });
        assert_eq!((cached.input, cached.cached_input, cached.total), (1_200_000, 200_000, 1_400_000));
    }

    #[test]
    fn every_dimension_has_its_price() {
        let price = pricing(
            "input: {text_cost_per_1k_tokens: 1, image_cost_per_1k_tokens: 2, audio_cost_per_1k_tokens: 3, video_cost_per_1k_tokens: 4}\n\
             output: {text_cost_per_1k_tokens: 10, image_cost_per_1k_tokens: 20, audio_cost_per_1k_tokens: 30, reasoning_cost_per_1k_tokens: 50}\n\
             cached_write_cost_per_1k_tokens: 1.25\nembeddings_cost_per_1k_tokens: 0.1\nunits_cost_per_1k: 7\nunit_kind: pages\n\
             tools: {definition_cost_per_1k_tokens: 0.5, input_cost_per_1k_tokens: 0.25, output_cost_per_1k_tokens: 0.125, cost_per_call: 0.01}",
        );
        let usd = |q: Quantities| price.cost(&q).total as f64 / 1e9;
        let none = Quantities::default;
        assert_eq!(usd(Quantities { input: 4000, input_image: 1000, input_audio: 1000, input_video: 1000, ..none() }), 10.0);
        assert_eq!(usd(Quantities { input: 1000, cache_write: 1000, ..none() }), 1.25);
        // There is no price for video output here: it is charged as text.
        assert_eq!(
            usd(Quantities { output: 5000, output_image: 1000, output_audio: 1000, output_video: 1000, reasoning: 1000, ..none() }),
            120.0
        );
        assert_eq!(usd(Quantities { embeddings: 1000, ..none() }), 0.1);
        assert_eq!(usd(Quantities { units: 1000, ..none() }), 7.0);
        assert_eq!(usd(Quantities { tool_definition: 1000, tool_input: 1000, tool_output: 1000, tool_calls: 1, ..none() }), 0.885);
    }

    #[test]
    fn a_provider_that_miscounts_its_parts_is_not_charged_beyond_its_total() {
        let price = pricing("input: {text_cost_per_1k_tokens: 1, image_cost_per_1k_tokens: 1}");
        let cost = price.cost(&Quantities { input: 10, cached: 500, input_image: 500, ..Quantities::default() });
        assert_eq!(cost.total, 10_000_000);
        let price = pricing("output: {text_cost_per_1k_tokens: 1}");
        assert_eq!(price.cost(&Quantities { output: 10, reasoning: 10, output_audio: 10, ..Quantities::default() }).total, 10_000_000);
    }

    proptest! {
        /// The parts add up, and no request costs more than was reserved for its tokens.
        #[test]
        fn the_worst_case_is_one(
            prices in proptest::array::uniform8(0_i64..5_000_000_000),
            input in 0_u64..2_000_000, output in 0_u64..2_000_000,
            shares in proptest::array::uniform5(0.0_f64..1.0),
            discount in 0_u8..=100,
        ) {
            let nano = |i: usize| Some(NanoUsd(prices[i]));
            let price = Pricing {
                input: SidePrices { text_cost_per_1k_tokens: NanoUsd(prices[0]), image_cost_per_1k_tokens: nano(1), ..SidePrices::default() },
                output: SidePrices { text_cost_per_1k_tokens: NanoUsd(prices[2]), reasoning_cost_per_1k_tokens: nano(3), ..SidePrices::default() },
                cached_input_discount_percent: discount,
                cached_write_cost_per_1k_tokens: nano(4),
                embeddings_cost_per_1k_tokens: nano(5),
                tools: ToolPrices {
                    definition_cost_per_1k_tokens: NanoUsd(prices[6]),
                    input_cost_per_1k_tokens: NanoUsd(prices[7]),
                    cost_per_call: NanoUsd(prices[0]),
                    ..ToolPrices::default()
                },
                ..Pricing::default()
            };
            let of = |total: u64, share: f64| (total as f64 * share) as u64;
            let image = of(input, shares[0] * 0.4);
            let q = Quantities {
                input, input_image: image, cached: of(input, shares[1] * 0.3), cache_write: of(input, shares[2] * 0.3),
                output, reasoning: of(output, shares[3]),
                tool_definition: of(input, shares[4]), tool_input: of(output, shares[4]), tool_calls: 3,
                ..Quantities::default()
            };
            let cost = price.cost(&q);
            prop_assert_eq!(cost.total, cost.input + cost.cached_input + cost.output + cost.embeddings + cost.tool + cost.units);
            prop_assert!(cost.total <= price.at_most(input, output, 0, 3), "{} > {}", cost.total, price.at_most(input, output, 0, 3));
        }
    }
}
