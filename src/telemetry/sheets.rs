//! A byte queue for a writer thread, made of sheets of one size.
//!
//! One long buffer would be copied to grow whenever the writer comes late, and the allocator would keep fetching and
//! returning memory for it; sheets are filled, emptied and reused.

/// Capacity of a sheet in bytes; a longer record gets a sheet of its own.
const SHEET: usize = 64 * 1024;
/// Most empty sheets that are kept for reuse.
const KEPT: usize = 16;

/// Filled sheets in order, and empty ones for reuse.
#[derive(Debug, Default)]
pub struct Sheets {
    filled: Vec<Vec<u8>>,
    empty: Vec<Vec<u8>>,
    length: usize,
}

impl Sheets {
    /// Number of bytes on all sheets.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends parts to the last sheet if all of them fit, otherwise to a new one: a record is never split over two sheets.
    pub fn append(&mut self, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum();
        if self.filled.last().is_none_or(|sheet| sheet.capacity() - sheet.len() < length) {
            let sheet = self.empty.pop().filter(|sheet| sheet.capacity() >= length);
            self.filled.push(sheet.unwrap_or_else(|| Vec::with_capacity(length.max(SHEET))));
        }
        if let Some(sheet) = self.filled.last_mut() {
            for part in parts {
                sheet.extend_from_slice(part);
            }
            self.length += length;
        }
    }

    /// The filled sheets, oldest first.
    pub fn filled(&self) -> &[Vec<u8>] {
        &self.filled
    }

    /// Removes all bytes, and keeps sheets for reuse.
    pub fn clear(&mut self) {
        self.length = 0;
        for mut sheet in self.filled.drain(..) {
            if self.empty.len() < KEPT && sheet.capacity() == SHEET {
                sheet.clear();
                self.empty.push(sheet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_together_in_order_and_sheets_are_used_again() {
        let mut sheets = Sheets::default();
        let long = vec![b'l'; SHEET + 1];
        for round in 0..3 {
            let mut expected = Vec::new();
            for at in 0..4000_u32 {
                let (head, body) = (at.to_le_bytes(), vec![at as u8; at as usize % 100]);
                sheets.append(&[&head, &body]);
                expected.extend_from_slice(&head);
                expected.extend_from_slice(&body);
            }
            sheets.append(&[&long]);
            expected.extend_from_slice(&long);
            assert_eq!(sheets.filled().concat(), expected, "round {round}");
            assert_eq!(sheets.len(), expected.len());
            assert!(sheets.filled().iter().all(|sheet| sheet.capacity() == SHEET || sheet.len() == long.len()));
            sheets.clear();
            assert!(sheets.is_empty() && sheets.filled().is_empty());
            assert_eq!(sheets.empty.len(), expected.len() / SHEET);
        }
    }
}
