//! What requests used and what that cost: prices, usage records, and their way to the record store.

mod books;
mod leftover;
mod named;
mod price;
mod record;
mod spool;
mod table;

pub use books::{Books, Debts};
pub use leftover::{Leftover, Pending};
pub use named::{Unknown, named};
pub use price::{Cost, Pricing, Quantities, SidePrices, ToolPrices};
pub use record::{AtMost, How, Ran, Who};
pub use spool::{Begun, EndError, Place, Spool};
pub use table::{Table, by_name, moment};
