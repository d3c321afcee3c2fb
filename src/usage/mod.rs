//! What a request used and what that cost.

mod books;
mod named;
mod price;
mod record;
mod spool;
mod table;

pub use books::{Books, Debts};
pub use named::{Unknown, named};
pub use price::{Cost, Pricing, Quantities, SidePrices, ToolPrices};
pub use record::{AtMost, How, Ran, Who};
pub use spool::{Begun, Leftover, Pending, Place, Spool};
pub use table::{Table, by_name, moment};
