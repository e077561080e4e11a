//! Words seen in one call, with their ids: natural text repeats few words often. Bounded: a slot holds one word and
//! the next of its place replaces it. Nothing outlives the call.

use biollm_core::Result;
use std::sync::{Mutex, PoisonError};

/// Longest word kept, in bytes: 31 and their number fill four 64-bit numbers.
const MAX_WORD_BYTES: usize = 31;
/// Most ids of a word kept.
const MAX_IDS: usize = 7;
/// 1 MiB: fits a core's second-level cache.
const SLOTS_LOG: u32 = 14;

/// A cache line: the word padded with zeros, its length in the last byte; then the number of ids, and the ids.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Slot {
    word: [u64; 4],
    count: u32,
    ids: [u32; MAX_IDS],
}

/// The words of one worker.
pub struct WordCache {
    slots: Vec<Slot>,
}

/// Where a word belongs in the cache.
pub struct Place {
    word: [u64; 4],
    slot: usize,
}

impl WordCache {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let empty = Slot {
            word: [0; 4],
            count: 0,
            ids: [0; MAX_IDS],
        };
        Ok(Self {
            slots: biollm_core::limits::filled(1 << SLOTS_LOG, empty, "word cache")?,
        })
    }

    /// The place of a word; `None` if it is too long to keep.
    #[inline]
    pub fn place(&self, word: &[u8]) -> Option<Place> {
        if word.len() > MAX_WORD_BYTES {
            return None;
        }
        let mut padded = [0u8; 32];
        padded[..word.len()].copy_from_slice(word);
        padded[31] = word.len() as u8;
        let mut key = [0u64; 4];
        for (part, bytes) in key.iter_mut().zip(padded.chunks_exact(8)) {
            *part = bytes
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u64::from(byte));
        }
        // Odd constants of the golden ratio and its kin; the top bits of a product are the well mixed ones.
        let mixed = key[0].wrapping_mul(0x9E37_79B9_7F4A_7C15)
            ^ key[1].wrapping_mul(0xC2B2_AE3D_27D4_EB4F)
            ^ key[2].wrapping_mul(0x1656_67B1_9E37_79F9)
            ^ key[3].wrapping_mul(0x27D4_EB2F_1656_67C5);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Some(Place {
            word: key,
            slot: (mixed >> (64 - SLOTS_LOG)) as usize,
        })
    }

    /// The ids of the word at its place, if it is there.
    #[inline]
    pub fn get(&self, place: &Place) -> Option<&[u32]> {
        let slot = &self.slots[place.slot];
        (slot.word == place.word).then(|| &slot.ids[..slot.count as usize])
    }

    /// Keeps a word's ids, if they are few.
    #[inline]
    pub fn put(&mut self, place: &Place, ids: &[u32]) {
        if ids.len() <= MAX_IDS {
            let slot = &mut self.slots[place.slot];
            slot.word = place.word;
            slot.count = ids.len() as u32;
            slot.ids[..ids.len()].copy_from_slice(ids);
        }
    }
}

/// State that workers of one call take for a chunk and hand back: never more than there are workers.
pub struct Shelf<T>(Mutex<Vec<T>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Shelf<T> {
    /// One that lies there, or a new one.
    pub fn take(&self, new: impl FnOnce() -> Result<T>) -> Result<T> {
        let lying = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        lying.map_or_else(new, Ok)
    }

    /// Hands it back.
    pub fn put(&self, item: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_and_nothing_else() {
        let mut cache = WordCache::new().unwrap();
        let place = |cache: &WordCache, word: &str| cache.place(word.as_bytes()).unwrap();
        let word = place(&cache, " cell");
        assert!(cache.get(&word).is_none());
        cache.put(&word, &[7, 8]);
        assert_eq!(cache.get(&place(&cache, " cell")), Some(&[7, 8][..]));
        assert!(cache.get(&place(&cache, " cell\0")).is_none());
        cache.put(&place(&cache, "x"), &[0; 8]);
        assert!(cache.get(&place(&cache, "x")).is_none());
        assert!(cache.place(&[b'a'; 32]).is_none());
        assert!(cache.place(&[b'a'; 31]).is_some());
    }
}
