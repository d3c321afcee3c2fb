//! Virtual keys made at run time: how their secrets are made and kept, where they are looked up, how changes arrive, and
//! what operators do with them.
//!
//! No request asks a store: the whole table is in this process, so that a flood of unknown keys costs a hash each.

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
