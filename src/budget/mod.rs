//! Budgets and quotas: how much an owner may spend or use within a business window.
//!
//! A budget bounds money, a quota bounds a [`Metric`]. Both are counted in windows of a [`Schedule`], both reserve the
//! worst case before a request leaves and settle on what it really took. Money is whole nano-USD; nothing here is a
//! floating point number.

mod amount;
mod metric;
mod schedule;

pub use amount::{AmountError, NanoUsd};
pub use metric::Metric;
pub use schedule::{Period, Schedule, ScheduleError, Window};
