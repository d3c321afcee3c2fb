//! What a request used and what that cost.

mod price;
mod spool;

pub use price::{Cost, Pricing, Quantities, SidePrices, ToolPrices};
pub use spool::{Leftover, Pending, Place, Spool};
