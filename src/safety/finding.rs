//! Findings of modules.

use std::borrow::Cow;
use std::ops::Range;

use crate::wire::Kind;

/// What sort of thing was found: `email`, `credit_card`, `instruction_override`, … Stable; counted and on record.
pub type Category = Cow<'static, str>;

/// Something that a module found in a passage.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The module's name.
    pub module: &'static str,
    /// The kind.
    pub category: Category,
    /// The range in bytes of the passage's raw text, on character boundaries.
    pub span: Range<usize>,
    /// How strongly it indicates an attack or a leak, 0 to 1, with the decision threshold at 0.5. 0 for findings that are
    /// only redacted.
    pub score: f32,
    /// Whether the span is to be replaced by a marker.
    pub redact: bool,
}

/// Findings in one passage, in the order in which they were made.
pub type Findings = Vec<Finding>;

/// Kinds of text, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u16);

impl Kinds {
    /// One more.
    pub fn insert(&mut self, kind: Kind) {
        self.0 |= 1 << kind as u16;
    }

    /// All of the others as well.
    pub fn join(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// There are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their names in the order of the alphabet.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        BY_NAME.iter().filter(move |kind| self.0 >> **kind as u16 & 1 == 1).map(|kind| kind.as_str())
    }
}

/// Every kind in the order of its name.
const BY_NAME: [Kind; Kind::ALL.len()] = [
    Kind::Content,
    Kind::FileName,
    Kind::Input,
    Kind::Instruction,
    Kind::Metadata,
    Kind::Structural,
    Kind::ToolArguments,
    Kind::ToolDefinition,
    Kind::ToolResult,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_in_order_and_once() {
        let mut all = Kinds::default();
        assert!(all.is_empty() && all.names().next().is_none());
        for kind in Kind::ALL {
            let mut one = Kinds::default();
            one.insert(*kind);
            assert_eq!(one.names().collect::<Vec<_>>(), [kind.as_str()]);
            all.join(one);
            all.join(one);
        }
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        assert_eq!(all.names().collect::<Vec<_>>(), names);
    }
}
