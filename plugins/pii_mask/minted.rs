//! The tokens of one request, and their values.

use std::collections::HashMap;

use crate::plugin::prelude::*;

/// Up to this many are compared one by one; more are hashed.
const FEW: usize = 8;

/// The tokens made for one request, with their values. They can be restored in its answer even if the vault forgets them
/// meanwhile.
#[derive(Default)]
pub struct Minted {
    few: Vec<(Arc<str>, Arc<str>)>,
    more: HashMap<Arc<str>, Arc<str>>,
}

impl Minted {
    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.few.is_empty()
    }

    /// The value of a token.
    pub fn get(&self, token: &str) -> Option<&Arc<str>> {
        let one = self.few.iter().find(|(known, _)| **known == *token).map(|(_, value)| value);
        one.or_else(|| if self.more.is_empty() { None } else { self.more.get(token) })
    }

    /// Adds a token; the value of a known one is replaced.
    pub fn insert(&mut self, token: Arc<str>, value: Arc<str>) {
        if let Some((_, known)) = self.few.iter_mut().find(|(known, _)| *known == token) {
            *known = value;
        } else if self.few.len() < FEW {
            self.few.push((token, value));
        } else {
            self.more.insert(token, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_for_what_was_said_last_however_many_there_are() {
        let mut minted = Minted::default();
        for round in 0..2 {
            for n in 0..3 * FEW {
                minted.insert(format!("[[A_{n}]]").into(), format!("{n} {round}").into());
            }
        }
        for n in 0..3 * FEW {
            assert_eq!(minted.get(&format!("[[A_{n}]]")).map(|v| &**v), Some(&*format!("{n} 1")));
        }
        assert_eq!((minted.get("[[A_]]"), minted.few.len() + minted.more.len()), (None, 3 * FEW));
    }
}
