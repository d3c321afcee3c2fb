//! What a request used and what that cost.

mod books;
mod price;
mod record;
mod spool;

pub use books::{Books, Debts};
pub use price::{Cost, Pricing, Quantities, SidePrices, ToolPrices};
pub use record::{AtMost, How, Who};
pub use spool::{Leftover, Pending, Place, Spool};
