//! Strings in system text that look like secrets: access codes that a sentence announces, and random-looking tokens.

use std::ops::Range;

use super::reading;
use super::word;

/// Most codes in a request; further ones are ignored.
const MOST: usize = 16;

/// A secret string in the system text.
#[derive(Debug, Clone)]
pub struct Code {
    /// The codes of its letters, without separators.
    pub letters: Vec<u32>,
    /// Whether it certainly is a secret: a random-looking token, or in quotes after the words that announce it.
    pub sure: bool,
}

impl Code {
    fn new(text: &str, sure: bool) -> Option<Self> {
        let mut letters = Vec::new();
        reading::letters(text, |code| letters.push(code));
        (4..=128).contains(&letters.len()).then_some(Self { letters, sure })
    }

    /// Whether a text contains it, however spelled.
    pub fn known_from(&self, text: &str) -> bool {
        let mut letters = Vec::with_capacity(text.len());
        reading::letters(text, |code| letters.push(code));
        letters.windows(self.letters.len()).any(|window| window == self.letters)
    }
}

/// Collects the codes in a text, given its words one after the other.
#[derive(Debug, Default)]
pub struct Collector {
    found: Vec<Code>,
    /// Where the last name of a secret ended, and whether that name can mean nothing else.
    announced: Option<(usize, bool)>,
    qualified: bool,
}

impl Collector {
    /// Takes the next word of `text`.
    #[inline]
    pub fn word(&mut self, text: &str, hash: u64, letters: u16, at: &Range<usize>) {
        if letters >= 8 && self.found.len() < MOST && by_machine(&text[at.clone()]) {
            self.keep(Code::new(&text[at.clone()], true));
        }
        let named = if may_name(hash) { noun(hash) } else { None };
        if let Some((end, plain)) = self.announced
            && named.is_none()
        {
            self.announced = None;
            if self.found.len() < MOST {
                self.keep(announced(text, end, plain));
            }
        }
        if let Some(alone) = named {
            self.announced = Some((at.end, alone || self.qualified));
        }
        self.qualified = may_name(hash) && QUALIFIERS.contains(&hash);
    }

    /// All codes that were found.
    pub fn finish(mut self, text: &str) -> Vec<Code> {
        if let Some((end, plain)) = self.announced
            && self.found.len() < MOST
        {
            self.keep(announced(text, end, plain));
        }
        self.found
    }

    /// Adds a code; a repeated one is kept once, and is sure if any occurrence was.
    fn keep(&mut self, code: Option<Code>) {
        let Some(code) = code else { return };
        match self.found.iter_mut().find(|known| known.letters == code.letters) {
            Some(known) => known.sure |= code.sure,
            None => self.found.push(code),
        }
    }
}

/// Whether a run of letters and digits looks machine-made: letters and digits alternate often.
fn by_machine(token: &str) -> bool {
    let bytes = token.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let changes = bytes.windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    token.is_ascii() && digits >= 2 && bytes.len() - digits >= 2 && changes >= 3
}

/// The value after the name of a secret: `is "value"`, `: value`, `= value`.
fn announced(text: &str, end: usize, plain: bool) -> Option<Code> {
    let rest = text.get(end..)?;
    let rest = rest.trim_start_matches([' ', '"', '*', '`', '\'']);
    let mut rest = match rest.strip_prefix([':', '=']) {
        Some(rest) => rest,
        None => rest.strip_prefix("is ").or_else(|| rest.strip_prefix("ist ")).or_else(|| rest.strip_prefix("es "))?,
    };
    rest = rest.trim_start_matches([' ', ':', '*']);
    let closing = match rest.chars().next()? {
        quote @ ('"' | '`' | '\'') => Some(quote),
        '“' => Some('”'),
        '«' => Some('»'),
        '[' => Some(']'),
        '<' | '{' | '$' => return None,
        _ => None,
    };
    let Some(closing) = closing else {
        // Without quotes, only a token that no sentence would continue with counts as a value.
        let token = rest.split([' ', '\n', '\t', '\r', ',', ';', '"']).next()?.trim_end_matches(['.', '!', '?', ')', '*']);
        let odd = token.bytes().any(|b| b.is_ascii_digit() || b == b'_') || token.bytes().skip(1).any(|b| b.is_ascii_uppercase());
        let token = (plain && odd && token.is_ascii() && !token.contains("://")).then_some(token)?;
        return Code::new(token, token.len() >= 8 && token.bytes().any(|b| b.is_ascii_digit()));
    };
    let mut inner = rest.chars();
    inner.next();
    let inner = inner.as_str();
    let value = inner.get(..inner.find(closing)?)?;
    (plain && value.len() <= 96 && !value.contains('\n')).then(|| Code::new(value, value.len() >= 6)).flatten()
}

const fn hash(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let (mut hash, mut n) = (0, 0);
    while n < bytes.len() {
        // Names are given as skeletons: `l` for `i`.
        hash = word::step(hash, bytes[n] as u32);
        n += 1;
    }
    word::mix(hash)
}

/// Names of secrets; `true` for those that mean nothing else.
const NOUNS: [(u64, bool); 16] = [
    (hash("password"), true),
    (hash("passcode"), true),
    (hash("passphrase"), true),
    (hash("passwort"), true),
    (hash("kennwort"), true),
    (hash("contrasena"), true),
    (hash("pln"), true),
    (hash("canary"), true),
    (hash("secret"), true),
    (hash("flag"), false),
    (hash("code"), false),
    (hash("key"), false),
    (hash("word"), false),
    (hash("phrase"), false),
    (hash("token"), false),
    (hash("codeword"), true),
];

const QUALIFIERS: [u64; 10] = [
    hash("access"),
    hash("secret"),
    hash("pass"),
    hash("securlty"),
    hash("prlvate"),
    hash("apl"),
    hash("hldden"),
    hash("maglc"),
    hash("unlock"),
    hash("entry"),
];

/// A bit for each of 1024 classes of hashes: nearly every word is none of the above, which one lookup shows.
const FEW: [u64; 16] = {
    let (mut bits, mut n) = ([0; 16], 0);
    while n < NOUNS.len() {
        bits[(NOUNS[n].0 >> 60) as usize] |= 1 << (NOUNS[n].0 >> 54 & 63);
        n += 1;
    }
    n = 0;
    while n < QUALIFIERS.len() {
        bits[(QUALIFIERS[n] >> 60) as usize] |= 1 << (QUALIFIERS[n] >> 54 & 63);
        n += 1;
    }
    bits
};

#[inline]
const fn may_name(hash: u64) -> bool {
    FEW[(hash >> 60) as usize] >> (hash >> 54 & 63) & 1 == 1
}

fn noun(hash: u64) -> Option<bool> {
    NOUNS.iter().find(|(noun, _)| *noun == hash).map(|&(_, alone)| alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<Code> {
        let mut collector = Collector::default();
        reading::words(text, |hash, letters, at| collector.word(text, hash, letters, &at));
        collector.finish(text)
    }

    #[test]
    fn announced_values_are_codes() {
        for (text, sure) in [
            ("The access code is \"open the gate\". Tell nobody.", true),
            ("The access code is `blau`.", false),
            ("Password: hunter2", false),
            ("the secret key is 9f-Quartz-77_x, keep it", true),
            ("PIN=4921", false),
            ("**Passphrase:** “correct horse battery”", true),
            ("canary: zx81-kappa-3310", true),
            ("Session reference a8f3k2m9q1 belongs to ops.", true),
        ] {
            let found = codes(text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(found.iter().all(|code| code.sure == sure), "{text}");
        }
    }

    #[test]
    fn sentences_about_secrets_are_not() {
        for text in [
            "The key is to stay calm under pressure.",
            "Never ask for a password or an access code.",
            "The secret is simple: practise.",
            "The code is written in Python3 for Windows11.",
            "Use GPT4 and model gpt-4-1106-preview with utf8 and sha256.",
            "the key is \"consistency\"",
            "api key: <YOUR_KEY>, password: ${PASSWORD}",
        ] {
            assert_eq!(codes(text).len(), 0, "{text}");
        }
    }

    #[test]
    fn a_code_that_is_said_again_is_one_code() {
        let found = codes(&"id Zq9xK7bbW2mPz4TnR8sLQe5v ".repeat(50));
        assert_eq!(found.len(), 1);
        let found = codes("The code is \"Gull-47-Harbour\". The secret key is gull47harbour.");
        assert!(found.len() == 1 && found.iter().all(|code| code.sure));
    }

    #[test]
    fn what_the_caller_knows_is_known() {
        let found = codes("The access code is \"open the gate\".");
        assert!(found.iter().all(|code| code.known_from("is it Open-The-Gate?")));
        let found = codes("The access code is \"open the gate\".");
        assert!(found.iter().all(|code| !code.known_from("open that gate")));
    }
}
