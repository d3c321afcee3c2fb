//! A small set of hashes that is quick to fill: it is made for one request and dropped.

/// Open addressing over 32-bit tags; the slot and the tag come from different bits of the hash.
#[derive(Debug, Clone, Default)]
pub struct Table {
    slots: Vec<u32>,
    /// A bit for each of eight times as many positions: one lookup shows that a hash is absent.
    bits: Vec<u64>,
    shift: u32,
    len: usize,
}

impl Table {
    /// A table with room for this many hashes.
    pub fn for_up_to(hashes: usize) -> Self {
        let size = (hashes * 2).next_power_of_two().max(64);
        Self { slots: vec![0; size], bits: vec![0; size / 8], shift: 64 - size.trailing_zeros(), len: 0 }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of slots: results of [`Self::find`] are below.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// Adds a hash. Ignored if the table is full.
    #[inline]
    pub fn insert(&mut self, hash: u64) {
        if self.len * 4 >= self.slots.len() * 3 {
            return;
        }
        let tag = hash as u32 | 1;
        let mask = self.slots.len() - 1;
        let mut at = (hash >> self.shift) as usize & mask;
        while let Some(slot) = self.slots.get_mut(at) {
            if *slot == tag {
                return;
            }
            if *slot == 0 {
                *slot = tag;
                self.len += 1;
                let (word, bit) = self.bit(hash);
                if let Some(word) = self.bits.get_mut(word) {
                    *word |= bit;
                }
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// Whether a hash may be present; no false negatives.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        let (word, bit) = self.bit(hash);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }

    #[inline]
    fn bit(&self, hash: u64) -> (usize, u64) {
        // Uses bits of the hash that are independent of its slot.
        ((hash as usize >> 6) & self.bits.len().wrapping_sub(1), 1 << (hash & 63))
    }

    /// The slot of a hash, if present.
    #[inline]
    pub fn find(&self, hash: u64) -> Option<usize> {
        let tag = hash as u32 | 1;
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash.checked_shr(self.shift).unwrap_or(0) as usize & mask;
        while let Some(&slot) = self.slots.get(at) {
            if slot == tag {
                return Some(at);
            }
            if slot == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Whether a hash is present.
    #[inline]
    pub fn contains(&self, hash: u64) -> bool {
        self.find(hash).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::word::mix;
    use super::*;

    #[test]
    fn it_holds_what_was_put_in_and_nothing_else() {
        let mut table = Table::for_up_to(1000);
        assert!(table.is_empty() && !Table::default().contains(7));
        (0..1000).for_each(|n| table.insert(mix(n)));
        assert!((0..1000).all(|n| table.contains(mix(n))));
        assert_eq!((1000..101_000).filter(|&n| table.contains(mix(n))).count(), 0);
        let mut places: Vec<_> = (0..1000).filter_map(|n| table.find(mix(n))).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 1000);
        assert!(places.iter().all(|&at| at < table.places()));
    }

    #[test]
    fn a_full_one_takes_no_more_and_still_answers() {
        let mut table = Table::for_up_to(1);
        (0..10_000).for_each(|n| table.insert(mix(n)));
        assert!((0..10_000).filter(|&n| table.contains(mix(n))).count() >= 40);
        assert!(!table.contains(mix(20_000)));
    }
}
