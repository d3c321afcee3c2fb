//! Masks and restores whole bodies: every string that the wire walk finds, except for protocol vocabulary.

use super::json::Edits;
use super::mask::Masking;
use super::restore::Restoring;
use super::token;
use crate::plugin::prelude::*;
use wire::{Kind, Text};

/// The body is neither JSON nor text, or an edit did not fit: it must not pass as if it had been scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Which strings are scanned.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Whether names, descriptions and schemas of tools are scanned.
    pub tool_definitions: bool,
}

impl Reach {
    /// Whether texts of this kind are scanned.
    pub fn takes(self, kind: Kind) -> bool {
        match kind {
            Kind::Structural => false,
            Kind::ToolDefinition => self.tool_definitions,
            _ => true,
        }
    }
}

/// The raw content of a string from the walk.
pub fn raw<'a>(body: &'a str, text: &Text<'_>) -> Result<&'a str, Unreadable> {
    body.get(text.span.clone()).ok_or(Unreadable)
}

/// The edits that mask every find; empty if there are none.
pub fn mask(body: &[u8], json: bool, reach: Reach, masking: &mut Masking) -> Result<Edits, Unreadable> {
    if !json {
        return Ok(masking.finds_of(std::str::from_utf8(body).map_err(|_| Unreadable)?));
    }
    edit(body, reach, |text, edits| {
        masking.string(&text.text, text.span.start, text.kind == Kind::ToolArguments, edits);
    })
}

/// The body with every known token restored; `None` if there is none.
pub fn restore(body: &[u8], json: bool, restoring: &mut Restoring) -> Result<Option<Vec<u8>>, Unreadable> {
    if token::opens(body, 0).is_none() {
        return Ok(None);
    }
    if !json {
        let text = std::str::from_utf8(body).map_err(|_| Unreadable)?;
        return Ok(restoring.plain(text, false).map(String::into_bytes));
    }
    let text = std::str::from_utf8(body).map_err(|_| Unreadable)?;
    if let Some(edits) = restoring.directly(text) {
        return patched(body, &edits);
    }
    let edits = edit(body, Reach { tool_definitions: true }, |text, edits| {
        if token::opens(text.text.as_bytes(), 0).is_some() {
            restoring.string(&text.text, text.span.start, text.kind == Kind::ToolArguments, edits);
        }
    })?;
    patched(body, &edits)
}

/// The body after the edits; `None` without edits.
pub fn patched(body: &[u8], edits: &Edits) -> Result<Option<Vec<u8>>, Unreadable> {
    if edits.is_empty() { Ok(None) } else { wire::patch(body, edits).map(Some).ok_or(Unreadable) }
}

fn edit(body: &[u8], reach: Reach, mut each: impl FnMut(&Text<'_>, &mut Edits)) -> Result<Edits, Unreadable> {
    let mut edits = Edits::new();
    let walked = wire::raw_texts(body, &mut |text: Text<'_>| {
        if reach.takes(text.kind) {
            each(&text, &mut edits);
        }
    });
    walked.map_err(|_| Unreadable)?;
    edits.sort_by_key(|(range, _)| range.start);
    Ok(edits)
}
