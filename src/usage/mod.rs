//! What a request used and what that cost.

mod price;

pub use price::{Cost, Pricing, Quantities, SidePrices, ToolPrices};
