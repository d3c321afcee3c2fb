//! The light reading of a text: full-width digits and letters become plain ones, invisible characters are dropped. Each
//! character is mapped by itself, so a text in pieces gives the same result.

/// A text in its light reading, with a map back to the raw text.
#[derive(Debug, Default)]
pub struct Light {
    text: String,
    /// Pairs of offsets, in the reading and in the raw text from `base` on, before and after every character that reads
    /// differently. In a text of nothing else they take more memory than the text, so they are 32-bit; no text of four
    /// gigabytes is accepted anywhere.
    places: Vec<(u32, u32)>,
    /// The raw offset from which `places` count.
    base: usize,
    raw: usize,
}

/// Whether the reading differs from the text.
pub fn differs(text: &str) -> bool {
    next_odd(text, 0).is_some()
}

/// First bytes of characters that read differently; most scripts have none.
const MAY: [bool; 256] = {
    let mut table = [false; 256];
    let firsts = [0xc2, 0xd9, 0xdb, 0xe0, 0xe2, 0xe3, 0xef, 0xf0];
    let mut n = 0;
    while n < firsts.len() {
        table[firsts[n]] = true;
        n += 1;
    }
    table
};

/// The next character that reads differently, with its offset.
fn next_odd(text: &str, mut from: usize) -> Option<(usize, char)> {
    let bytes = text.as_bytes();
    loop {
        let rest = bytes.get(from..)?;
        // Sixteen bytes at a time: nearly all text is ASCII.
        let plain = rest.chunks_exact(16).take_while(|chunk| chunk.is_ascii()).count() * 16;
        let rest = rest.get(plain..)?;
        let at = from + plain + rest.iter().position(|&byte| MAY[usize::from(byte)])?;
        let c = text.get(at..)?.chars().next()?;
        if light(c) != Some(c) {
            return Some((at, c));
        }
        from = at + c.len_utf8();
    }
}

/// How a character reads; `None` if it is invisible.
fn light(c: char) -> Option<char> {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        '\u{00ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' => {
            None
        }
        '\u{2010}'..='\u{2013}' => Some('-'),
        '\u{2007}' | '\u{202f}' | '\u{2009}' | '\u{3000}' => Some(' '),
        '\u{0660}'..='\u{0669}' => char::from_u32(u32::from(c) - 0x0660 + 0x30),
        '\u{06f0}'..='\u{06f9}' => char::from_u32(u32::from(c) - 0x06f0 + 0x30),
        '\u{0966}'..='\u{096f}' => char::from_u32(u32::from(c) - 0x0966 + 0x30),
        '\u{1d7ce}'..='\u{1d7ff}' => char::from_u32((u32::from(c) - 0x1d7ce) % 10 + 0x30),
        _ => Some(c),
    }
}

impl Light {
    /// Appends raw text.
    pub fn push(&mut self, text: &str) {
        let mut at = 0;
        while let Some((odd, c)) = next_odd(text, at) {
            self.plain(text.get(at..odd).unwrap_or_default());
            self.mark();
            self.text.extend(light(c));
            self.raw += c.len_utf8();
            self.mark();
            at = odd + c.len_utf8();
        }
        self.plain(text.get(at..).unwrap_or_default());
    }

    /// Records the current offsets, once where two such characters meet.
    fn mark(&mut self) {
        let place = (self.text.len() as u32, (self.raw - self.base) as u32);
        if self.places.last() != Some(&place) {
            self.places.push(place);
        }
    }

    /// The n-th recorded pair of offsets, counted from the beginning of both texts.
    fn place(&self, n: Option<usize>) -> (usize, usize) {
        n.and_then(|n| self.places.get(n)).map_or((0, self.base), |&(read, raw)| (read as usize, self.base + raw as usize))
    }

    fn plain(&mut self, text: &str) {
        self.text.push_str(text);
        self.raw += text.len();
    }

    /// The reading, except for what was forgotten.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Number of raw bytes appended so far.
    pub fn raw_len(&self) -> usize {
        self.raw
    }

    /// The raw offset of the character at `at` in the reading. Invisible characters before it are not included.
    pub fn start(&self, at: usize) -> usize {
        let known = self.places.partition_point(|(read, _)| *read as usize <= at);
        let (read, raw) = self.place(known.checked_sub(1));
        raw + (at - read)
    }

    /// The raw offset at which the reading up to `at` ends, without invisible characters behind it.
    pub fn end(&self, at: usize) -> usize {
        let known = self.places.partition_point(|(read, _)| (*read as usize) < at);
        match self.place(Some(known)) {
            (read, raw) if read == at && known < self.places.len() => raw,
            _ => {
                let (read, raw) = self.place(known.checked_sub(1));
                raw + (at - read)
            }
        }
    }

    /// Drops the first `n` bytes of the reading, and returns how many were dropped. Raw offsets stay absolute.
    pub fn forget(&mut self, mut n: usize) -> usize {
        n = n.min(self.text.len());
        while !self.text.is_char_boundary(n) {
            n -= 1;
        }
        let raw = self.start(n);
        self.text.drain(..n);
        let (read, passed) = (n as u32, (raw - self.base) as u32);
        self.places.retain(|place| place.0 > read);
        for place in &mut self.places {
            *place = (place.0 - read, place.1 - passed);
        }
        self.places.insert(0, (0, 0));
        self.base = raw;
        n
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_character_that_reads_differently_is_noticed() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            assert_eq!(differs(&c.to_string()), light(c) != Some(c), "{c:?}");
        }
    }

    proptest! {
        /// Each character of the reading maps back to the one it came from, also for a text in pieces and after forgetting.
        #[test]
        fn places_lead_back(text in "[a4４é\u{200b}\u{ad}입–]{0,24}", n in 0usize..20) {
            let mut reading = Light::default();
            text.chars().for_each(|c| reading.push(&c.to_string()));
            let mut read = String::new();
            let forgotten = reading.forget(n);
            for (at, c) in text.char_indices() {
                if let Some(plain) = light(c) {
                    let from = read.len();
                    read.push(plain);
                    if let (Some(from), end) = (from.checked_sub(forgotten), read.len().saturating_sub(forgotten)) {
                        prop_assert_eq!(reading.start(from)..reading.end(end), at..at + c.len_utf8());
                    }
                }
            }
            prop_assert_eq!(reading.text(), read.get(forgotten..).unwrap());
            prop_assert_eq!(reading.raw_len(), text.len());
        }
    }
}
