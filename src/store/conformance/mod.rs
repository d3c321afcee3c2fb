//! The promises of the traits, held against every engine: memory, a real Redis, and whatever comes next.
//!
//! Each test is written once against the traits and named in [`engines`]; an engine whose server is not installed is
//! skipped with a word on stderr. Time is a clock of the test in every engine, so that a day passes at once.

mod bus;
mod crash;
mod databases;
mod decisions;
mod engines;
mod fleets;
mod grants;
mod limits;
mod others;
mod outage;
mod outbox;
mod records;
mod reservations;
mod risk;
mod usage;
