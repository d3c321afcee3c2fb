//! Bytes that wait for a writer, on sheets of one size.
//!
//! One long buffer would grow by copying whenever its writer comes late, and the allocator would fetch and return whole
//! pages of memory for it all the time; sheets are filled, emptied and filled again.

/// Length of a sheet [bytes]; what is longer gets a sheet of its own.
const SHEET: usize = 64 * 1024;
/// Empty sheets that are kept.
const KEPT: usize = 16;

/// Filled sheets, in order, and empty ones.
#[derive(Debug, Default)]
pub struct Sheets {
    filled: Vec<Vec<u8>>,
    empty: Vec<Vec<u8>>,
    length: usize,
}

impl Sheets {
    /// Bytes on all sheets together.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Writes parts one behind the other on one sheet, so that whoever reads the sheet finds them whole.
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

    /// Empties all sheets.
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
