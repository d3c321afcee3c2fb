//! Looking at a text that arrives in pieces.

use super::Findings;

/// How far a streamed text is settled: no byte before this offset can become part of a later finding, so it may leave.
pub type Settled = usize;

/// Looks at one text of a streamed answer as it arrives. Offsets count from the beginning of the text.
pub trait Scanner: Send {
    /// Takes the next fragment, reports what has become certain, and says how far the text is settled. Settled never
    /// goes back, and never lies behind the longest candidate that is still open.
    fn feed(&mut self, fragment: &str, out: &mut Findings) -> Settled;

    /// The text has ended: reports the rest.
    fn finish(&mut self, out: &mut Findings);
}
