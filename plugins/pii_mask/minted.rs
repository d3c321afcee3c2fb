//! The tokens of one request and what they stand for.

use std::collections::HashMap;

use crate::plugin::prelude::*;

/// As many are compared one by one; more are hashed.
const FEW: usize = 8;

/// Token and value pairs made for one request; they resolve for its answer whatever the vault forgets meanwhile.
#[derive(Default)]
pub struct Minted {
    few: Vec<(Arc<str>, Arc<str>)>,
    more: HashMap<Arc<str>, Arc<str>>,
}

impl Minted {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.few.is_empty()
    }

    /// What a token stands for.
    pub fn get(&self, token: &str) -> Option<&Arc<str>> {
        let one = self.few.iter().find(|(known, _)| **known == *token).map(|(_, value)| value);
        one.or_else(|| if self.more.is_empty() { None } else { self.more.get(token) })
    }

    /// Adds a pair; a token that is known already stands for this from now on.
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
