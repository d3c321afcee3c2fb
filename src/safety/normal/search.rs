//! The search for views: every kind of veil over the text, then every kind over what was found.

use std::ops::Range;

use super::fold::{Folded, fold};
use super::grain::{Stretches, grain};
use super::view::{Veil, View, Views};
use super::{codes, escapes, islands, leet, shifted, spaced, unseen};

/// Most views of a text.
const MOST: usize = 64;
/// Most bytes in all views of a text together, whatever its size.
const LARGEST: usize = 1024 * 1024;
/// Bytes that the views may have beyond the length of the text.
const SPARE: usize = 4096;

/// Something found under a veil.
#[derive(Debug)]
pub struct Find {
    pub veil: Veil,
    /// The decoded text.
    pub text: String,
    /// Its range in the text that was searched.
    pub range: Range<usize>,
}

/// Searches one stretch of a folded text. The callback returns whether there is room for more finds.
type Look = fn(&str, Range<usize>, &mut dyn FnMut(Find) -> bool);

/// The views of a text, under up to two veils.
pub fn views(raw: &str, folded: &Folded<'_>) -> Views {
    let mut search = Search { views: Views::default(), left: (raw.len() + SPARE).min(LARGEST) };
    search.look(raw, folded, None);
    let mut next = 0;
    let outer = search.views.found.len();
    while next < outer && !search.views.cut {
        let Some(view) = search.views.found.get(next) else { break };
        let (text, parent) = (view.cased.clone(), (view.veil, view.source.clone()));
        search.look(&text, &fold(&text), Some(parent));
        next += 1;
    }
    search.views
}

struct Search {
    views: Views,
    left: usize,
}

impl Search {
    /// Searches one text; `parent` is the veil under which it was found, and its range.
    fn look(&mut self, raw: &str, folded: &Folded<'_>, parent: Option<(Veil, Range<usize>)>) {
        let mut take = |find: Find, mapped: bool| {
            let place = if mapped { folded.original(find.range) } else { find.range };
            let (outer, source) = match &parent {
                Some((veil, source)) => (Some(*veil), source.clone()),
                None => (None, place),
            };
            self.add(find.veil, outer, &find.text, source)
        };
        let odd = folded.odd();
        if odd.tags + odd.selectors + odd.invisible >= unseen::FEWEST {
            unseen::find(raw, &mut |find| take(find, false));
        }
        islands::find(folded.cased(), &mut |find| take(find, true));
        escapes::find(folded.cased(), &mut |find| take(find, true));
        let text = folded.text();
        let grain = grain(text);
        let looks: [(&Stretches, Look); 7] = [
            (&grain.ragged, spaced::find),
            (&grain.leet, leet::find),
            (&grain.backward, shifted::backwards),
            (&grain.strange, shifted::shifted),
            (&grain.numeric, codes::find),
            (&grain.hyphened, spaced::hyphens),
            (&grain.dotted, codes::morse),
        ];
        for (stretches, look) in looks {
            let mut more = true;
            for range in stretches.ranges(text) {
                look(text, range, &mut |find| {
                    more = take(find, true);
                    more
                });
                if !more {
                    return;
                }
            }
        }
        spaced::lines(text, &mut |find| take(find, true));
    }

    /// Adds a view. Returns `false` once there is no room for more.
    fn add(&mut self, veil: Veil, outer: Option<Veil>, text: &str, source: Range<usize>) -> bool {
        let folded = fold(text);
        if self.views.found.len() >= MOST || folded.cased().len() > self.left {
            self.views.cut = true;
            return false;
        }
        self.left -= folded.cased().len();
        self.views.found.push(View { veil, outer, text: folded.text().to_owned(), cased: folded.cased().to_owned(), source });
        true
    }
}

/// Fewest characters of a decoded text.
const BRIEFEST: usize = 4;
/// From this many characters on, punctuation and digits may be half of the text.
const LONG: usize = 24;

/// Decoded bytes as text, if they read as such: mostly letters and spaces, and nothing invisible. A character truncated at
/// the end is dropped. UTF-16, as PowerShell writes it, is decoded, too.
pub fn readable(bytes: &[u8]) -> Option<String> {
    if bytes.len() >= 8
        && bytes.iter().take(32).skip(1).step_by(2).all(|&byte| byte == 0)
        && !bytes.iter().take(32).step_by(2).any(|&byte| byte == 0)
    {
        let wide: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]))
            .collect();
        return judge(&String::from_utf16(&wide).ok()?);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => judge(text),
        Err(error) if error.error_len().is_none() => judge(std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?),
        Err(_) => None,
    }
}

fn judge(text: &str) -> Option<String> {
    let (mut letters, mut others, mut all) = (0usize, 0usize, 0usize);
    for c in text.chars() {
        all += 1;
        if c.is_control() && !matches!(c, '\n' | '\t' | '\r') {
            return None;
        }
        if c.is_alphabetic() || c == ' ' {
            letters += 1;
        } else if !c.is_ascii() && !c.is_alphanumeric() {
            others += 1;
        }
    }
    // The longer the text, the less likely it looks like text by chance.
    let enough = if all >= LONG { letters * 2 >= all } else { letters * 3 >= all * 2 };
    (letters >= BRIEFEST && enough && others * 5 <= all).then(|| text.to_owned())
}
