//! The kind of attack in a window, for people: named by the ideas found in it. The score does not depend on it.

use super::lexicon::Idea;
use super::model::INJECTION;

/// Kinds of injections with the ideas that indicate them, the most telling first.
const INJECTIONS: &[(&str, &[Idea])] = &[
    ("fake_role", &[Idea::Tag]),
    ("prompt_extraction", &[Idea::Prompt, Idea::Reveal]),
    ("secret_extraction", &[Idea::Secret, Idea::Reveal]),
    ("instruction_override", &[Idea::Ignore, Idea::Instructions]),
    ("exfiltration", &[Idea::Send]),
    ("secret_extraction", &[Idea::Secret]),
    ("instruction_override", &[Idea::Ignore]),
];

/// Kinds of jailbreaks with the ideas that indicate them, the most telling first.
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

/// The kind of attack that a head found, by the bit set of ideas in its window.
pub fn family(head: usize, found: u64) -> &'static str {
    let seen = |idea: &Idea| found >> *idea as u64 & 1 == 1;
    let (sorts, other) = if head == INJECTION { (INJECTIONS, "embedded_instruction") } else { (JAILBREAKS, "adversarial_wording") };
    sorts.iter().find(|(_, ideas)| ideas.iter().all(seen)).map_or(other, |(name, _)| name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::model::JAILBREAK;
    use super::*;

    #[test]
    fn the_most_telling_sort_comes_first() {
        let set = |ideas: &[Idea]| ideas.iter().fold(0, |set, idea| set | 1u64 << *idea as u64);
        assert_eq!(family(INJECTION, set(&[Idea::Ignore, Idea::Instructions, Idea::Reveal, Idea::Prompt])), "prompt_extraction");
        assert_eq!(family(INJECTION, set(&[Idea::Ignore])), "instruction_override");
        assert_eq!(family(JAILBREAK, set(&[Idea::Persona, Idea::Unbound])), "unbound_persona");
        assert_eq!(family(JAILBREAK, 0), "adversarial_wording");
    }
}
