//! What sort of attack a window is, for people: named after the ideas it speaks of. The score does not depend on it.

use std::ops::Range;

use super::lexicon::{Idea, Mark};
use super::model::INJECTION;

/// Sorts of injection and the ideas that speak for them, the most telling sort first.
const INJECTIONS: &[(&str, &[Idea])] = &[
    ("fake_role", &[Idea::Tag]),
    ("prompt_extraction", &[Idea::Prompt, Idea::Reveal]),
    ("secret_extraction", &[Idea::Secret, Idea::Reveal]),
    ("instruction_override", &[Idea::Ignore, Idea::Instructions]),
    ("exfiltration", &[Idea::Send]),
    ("secret_extraction", &[Idea::Secret]),
    ("instruction_override", &[Idea::Ignore]),
];

/// Sorts of jailbreaks.
const JAILBREAKS: &[(&str, &[Idea])] = &[
    ("mode_switch", &[Idea::Mode]),
    ("guard_bypass", &[Idea::Bypass, Idea::Limits]),
    ("unbound_persona", &[Idea::Persona, Idea::Unbound]),
    ("unbound_persona", &[Idea::Become]),
    ("refusal_suppression", &[Idea::NoRefusal]),
    ("fiction_wrapper", &[Idea::Fiction, Idea::Harm]),
    ("pretext", &[Idea::Excuse, Idea::Harm]),
    ("unbound_persona", &[Idea::Persona]),
];

/// The sort of attack a head has found in a span of the text these marks are of.
pub fn family(head: usize, marks: &[Mark], span: &Range<usize>) -> &'static str {
    let seen = |idea: &Idea| marks.iter().any(|mark| mark.idea == *idea && span.contains(&mark.start));
    let (sorts, other) = if head == INJECTION { (INJECTIONS, "embedded_instruction") } else { (JAILBREAKS, "adversarial_wording") };
    sorts.iter().find(|(_, ideas)| ideas.iter().all(seen)).map_or(other, |(name, _)| name)
}
