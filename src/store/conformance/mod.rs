//! The promises of the traits, tested against every engine: memory, a real Redis, and any engine added later.
//!
//! Each test is written once against the traits and runs on all [`engines`]; an engine whose server is not installed is
//! skipped with a message on stderr. Every engine uses a clock that the test controls, so a day passes at once.

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
