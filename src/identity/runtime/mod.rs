//! Virtual keys made at run time: how their secrets are generated and stored, where they are looked up, how changes arrive, and
//! the operations on them.
//!
//! No request asks a store: all keys are in memory, so that a flood of unknown keys costs one hash each.

mod desk;
mod file;
mod follow;
mod hasher;
mod home;
mod keeping;
mod keyring;
mod table;

pub use desk::{Desk, DeskError, GrantChange, Issued, KeyAsk, RotateAsk, describe, rotation};
pub use follow::{ALL_AGAIN, CHANGED};
pub use hasher::KeyHasher;
pub use home::{Home, Homes, is_minted_id};
pub use keyring::Keyring;
pub use table::KeyTable;
