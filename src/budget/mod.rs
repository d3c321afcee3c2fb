//! Budgets and quotas: how much an owner may spend or use within a window of time.
//!
//! A budget bounds money, a quota bounds a [`Metric`]. Both are counted in windows of a [`Schedule`]; both reserve the worst
//! case before a request leaves, and settle on what it really used. Money is whole nano-USD; nothing here is a floating-point
//! number.

mod account;
mod amount;
mod document;
mod doubts;
mod estimate;
mod metric;
mod reservation;
mod schedule;

pub use account::{Account, AccountError, AccountKind, Open, Past};
pub use amount::{AmountError, NanoUsd};
pub use document::{BudgetEntry, Currency, Owner, OwnerKind, QuotaEntry, ScheduleEntry};
pub use doubts::Doubts;
pub use estimate::{MissingUsage, input_tokens, output_tokens};
pub use metric::Metric;
pub use reservation::{Actual, BudgetNotice, Crossing, Reservation, Worst};
pub use schedule::{Period, Schedule, ScheduleError, Window};
