//! Messages in invisible characters.

use std::ops::Range;

use super::search::{Find, readable};
use super::view::Veil;

/// Fewest invisible characters for which a search is worthwhile.
pub const FEWEST: u32 = 3;
/// Fewest tag characters in a message.
const TAGS: usize = 3;
/// Fewest bytes in a message of variation selectors.
const BYTES: usize = 4;
/// Greatest distance of tag characters that belong together, in bytes.
const REACH: usize = 8;
/// Flags of regions are this emoji followed by tags.
const FLAG: char = '\u{1F3F4}';
/// Most tags of such a flag, including the closing one.
const REGION: usize = 8;

/// Finds invisible messages in a raw text.
pub fn find(raw: &str, found: &mut dyn FnMut(Find) -> bool) {
    let mut run = Run::default();
    let mut before = ' ';
    for (at, c) in raw.char_indices() {
        let end = at + c.len_utf8();
        let unseen = match u32::from(c) {
            code @ 0xE_0000..=0xE_007F => Some(Unseen::Tag((code & 0x7F) as u8)),
            code @ 0xFE00..=0xFE0F => Some(Unseen::Byte((code - 0xFE00) as u8)),
            code @ 0xE_0100..=0xE_01EF => Some(Unseen::Byte((code - 0xE_0100 + 16) as u8)),
            0x200B..=0x200F | 0x2060..=0x2064 | 0xFEFF | 0x00AD => Some(Unseen::Bit(c)),
            _ => None,
        };
        match unseen {
            Some(unseen) => {
                if run.range.is_empty() {
                    run.flag = before == FLAG;
                    run.range.start = at;
                }
                run.range.end = end;
                run.add(unseen);
            }
            None if run.range.is_empty() => {}
            None if at > run.range.end + REACH || !run.only_tags() => {
                if !run.finish(found) {
                    return;
                }
                run.clear();
            }
            None => {}
        }
        before = c;
    }
    run.finish(found);
}

enum Unseen {
    Tag(u8),
    Byte(u8),
    Bit(char),
}

/// Consecutive invisible characters; tags may have a few others in between.
#[derive(Default)]
struct Run {
    range: Range<usize>,
    flag: bool,
    tags: Vec<u8>,
    bytes: Vec<u8>,
    /// The first two kinds of zero-width characters, and their sequence as bits.
    sorts: (Option<char>, Option<char>),
    bits: Vec<bool>,
}

impl Run {
    /// Keeps the allocation for the next run.
    fn clear(&mut self) {
        self.range = 0..0;
        self.flag = false;
        self.tags.clear();
        self.bytes.clear();
        self.sorts = (None, None);
        self.bits.clear();
    }

    fn only_tags(&self) -> bool {
        self.bytes.is_empty() && self.bits.is_empty()
    }

    fn add(&mut self, unseen: Unseen) {
        match unseen {
            Unseen::Tag(byte) => self.tags.push(byte),
            Unseen::Byte(byte) => self.bytes.push(byte),
            Unseen::Bit(c) => match self.sorts {
                (None, _) => {
                    self.sorts.0 = Some(c);
                    self.bits.push(false);
                }
                (Some(first), _) if first == c => self.bits.push(false),
                (_, None) => {
                    self.sorts.1 = Some(c);
                    self.bits.push(true);
                }
                (_, Some(second)) if second == c => self.bits.push(true),
                // A third kind separates bytes.
                _ => {}
            },
        }
    }

    fn finish(&self, found: &mut dyn FnMut(Find) -> bool) -> bool {
        let region = self.flag && self.tags.len() <= REGION;
        if self.tags.len() >= TAGS && !region {
            let text: String = self.tags.iter().filter(|&&byte| (0x20..0x7F).contains(&byte)).map(|&byte| char::from(byte)).collect();
            if text.len() >= TAGS && !found(Find { veil: Veil::Tags, text, range: self.range.clone() }) {
                return false;
            }
        }
        let hidden = if self.bytes.len() >= BYTES { readable(&self.bytes) } else { None };
        let hidden = hidden.or_else(|| (self.bits.len() >= 8 * BYTES).then(|| self.in_bits()).flatten());
        hidden.is_none_or(|text| found(Find { veil: Veil::Unseen, text, range: self.range.clone() }))
    }

    fn in_bits(&self) -> Option<String> {
        let bytes = |one: bool| -> Vec<u8> {
            self.bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | u8::from(bit == one))).collect()
        };
        readable(&bytes(true)).or_else(|| readable(&bytes(false)))
    }
}
