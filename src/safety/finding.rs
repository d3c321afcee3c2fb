//! What a module found.

use std::borrow::Cow;
use std::ops::Range;

/// What sort of thing was found: `email`, `credit_card`, `instruction_override`, … Stable; counted and on record.
pub type Category = Cow<'static, str>;

/// One thing a module found in one passage.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Whose finding.
    pub module: &'static str,
    /// What sort.
    pub category: Category,
    /// Where, in bytes of the passage's raw text, on character boundaries.
    pub span: Range<usize>,
    /// How much it stands for an attack or a leak, 0 to 1; 0.5 is the point of decision. 0 for what is only redacted.
    pub score: f32,
    /// Whether the span is to be replaced by a marker.
    pub redact: bool,
}

/// Findings of one passage, in the order they were made.
pub type Findings = Vec<Finding>;
