//! Scanning a text that arrives in pieces.

use super::Findings;

/// How far a streamed text is settled: no byte before this offset can become part of a later finding, so it may be sent.
pub type Settled = usize;

/// Scans one text of a streamed answer as it arrives. Offsets count from the beginning of the text.
pub trait Scanner: Send {
    /// Takes the next fragment, reports what became certain, and returns how far the text is settled. That offset never
    /// decreases, and is never beyond the start of a candidate that is still undecided.
    fn feed(&mut self, fragment: &str, out: &mut Findings) -> Settled;

    /// Ends the text, and reports the rest.
    fn finish(&mut self, out: &mut Findings);
}
