//! `plugins brief`: a commented design brief to fill in.

use super::super::print;
use crate::plugin::brief::TEMPLATE;

/// Prints the template.
pub fn run() -> i32 {
    print(TEMPLATE)
}
