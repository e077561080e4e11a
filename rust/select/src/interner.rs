//! Strings of one document as dense numbers: equal strings, equal numbers, in the order of first occurrence.

use biollm_core::{Result, limits};
use std::hash::{BuildHasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Slots of an empty table; doubled when half of them are taken.
const FIRST_SLOTS: usize = 256;

/// A hash table that is cleared in time that depends on what it held last, not on the most it ever held.
///
/// Numbers depend on the strings alone. The seed is drawn for each table, so that no document can be written to
/// make its strings collide.
pub struct Interner<'a> {
    seed: u64,
    /// Number + 1 of the string in each slot, 0 for none. Only the first `slots_in_use` are looked at.
    slots: Vec<u32>,
    slots_in_use: usize,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    hash: u64,
    text: &'a str,
}

impl<'a> Interner<'a> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            seed: RandomState::new().hash_one(0),
            slots: Vec::new(),
            slots_in_use: 0,
            entries: Vec::new(),
        }
    }

    /// Forgets all strings.
    pub fn clear(&mut self) -> Result<()> {
        self.entries.clear();
        if self.slots.is_empty() {
            self.slots = limits::filled(FIRST_SLOTS, 0, "table of words")?;
        }
        self.slots[..self.slots_in_use].fill(0);
        self.slots_in_use = FIRST_SLOTS;
        Ok(())
    }

    /// The number of distinct strings since [`Interner::clear`].
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of `text`; equal to the previous [`Interner::len`] if it is new.
    #[inline]
    pub fn intern(&mut self, text: &'a str) -> Result<u32> {
        let hash = xxh3_64_with_seed(text.as_bytes(), self.seed);
        let mask = self.slots_in_use - 1;
        let mut slot = hash as usize & mask;
        loop {
            match self.slots[slot] {
                0 => break,
                number => {
                    let entry = &self.entries[number as usize - 1];
                    if entry.hash == hash && entry.text == text {
                        return Ok(number - 1);
                    }
                }
            }
            slot = (slot + 1) & mask;
        }
        // A document is shorter than 2^31 bytes, so there are fewer strings than that.
        let number = self.entries.len() as u32;
        if self.entries.len() == self.entries.capacity() {
            limits::reserve(&mut self.entries, 1, "distinct words of a document")?;
        }
        self.entries.push(Entry { hash, text });
        self.slots[slot] = number + 1;
        if self.entries.len() * 2 > self.slots_in_use {
            self.grow()?;
        }
        Ok(number)
    }

    fn grow(&mut self) -> Result<()> {
        let wider = self.slots_in_use * 2;
        if self.slots.len() < wider {
            let missing = wider - self.slots.len();
            limits::reserve(&mut self.slots, missing, "table of words")?;
            self.slots.resize(wider, 0);
        }
        self.slots[..self.slots_in_use].fill(0);
        self.slots_in_use = wider;
        let mask = wider - 1;
        for (number, entry) in (1u32..).zip(&self.entries) {
            let mut slot = entry.hash as usize & mask;
            while self.slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = number;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_in_order_and_reused() {
        let texts: Vec<String> = (0..5000).map(|i| format!("w{}", i % 2500)).collect();
        let mut interner = Interner::new();
        for _ in 0..3 {
            interner.clear().unwrap();
            for (i, text) in texts.iter().enumerate() {
                assert_eq!(interner.intern(text).unwrap() as usize, i % 2500);
            }
            assert_eq!(interner.len(), 2500);
            interner.clear().unwrap();
            assert_eq!(interner.intern("w7").unwrap(), 0);
        }
    }

    #[test]
    fn strings_do_not_pile_up() {
        // Looking a string up costs its distance from the slot its hash names; the table is at most half full, so
        // the mean stays near a half (Knuth, volume 3, 6.4: linear probing).
        let texts: Vec<String> = (0..300_000).map(|i| format!("{i:b}")).collect();
        let mut interner = Interner::new();
        interner.clear().unwrap();
        for text in &texts {
            interner.intern(text).unwrap();
        }
        let mask = interner.slots_in_use - 1;
        let taken = (0..interner.slots_in_use).filter(|&slot| interner.slots[slot] > 0);
        let distances = taken.map(|slot| {
            let home = interner.entries[interner.slots[slot] as usize - 1].hash as usize & mask;
            slot.wrapping_sub(home) & mask
        });
        assert!(distances.sum::<usize>() < texts.len());
    }
}
