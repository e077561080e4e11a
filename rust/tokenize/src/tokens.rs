//! The vocabulary: id → bytes, and bytes → id.

use biollm_core::{Error, Result, limits};
use xxhash_rust::xxh3::xxh3_64;

/// One more than the largest id. Published vocabularies have up to about 260,000 ids.
pub const MAX_VOCAB: usize = 1 << 21;

/// Longest token in bytes. A long token costs its length at each of its splits while a `.tiktoken` file is read.
pub const MAX_TOKEN_BYTES: usize = 1 << 14;

const EMPTY: u32 = u32::MAX;

/// Tokens as bytes under their ids. Ids may have gaps; a gap has no bytes.
#[derive(Clone, Default)]
pub struct Tokens {
    bytes: Vec<u8>,
    /// Where id i begins in `bytes`, and the end.
    starts: Vec<u32>,
    /// Open addressing by hash of the bytes; a power of two of places, at most half of them taken.
    places: Vec<u32>,
}

impl Tokens {
    /// From (id, bytes) in any order. Every complaint names the token.
    pub fn new(mut entries: Vec<(u32, Vec<u8>)>) -> Result<Self> {
        entries.sort_unstable();
        let size = entries.last().map_or(0, |last| last.0 as usize + 1);
        if size > MAX_VOCAB {
            let hint = "ids this large are not supported";
            return Err(Error::limit(
                "ids of the vocabulary",
                size as u64,
                MAX_VOCAB as u64,
                hint,
            ));
        }
        let total: usize = entries.iter().map(|e| e.1.len()).sum();
        if total > u32::MAX as usize {
            return Err(Error::limit(
                "bytes of all tokens",
                total as u64,
                u64::from(u32::MAX),
                "too large a file",
            ));
        }
        let mut tokens = Self {
            bytes: limits::with_capacity(total, "bytes of tokens")?,
            starts: limits::with_capacity(size + 1, "offsets of tokens")?,
            places: limits::filled(
                (entries.len() * 2).next_power_of_two().max(2),
                EMPTY,
                "table of tokens",
            )?,
        };
        for (id, bytes) in &entries {
            let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
            if bytes.is_empty() || bytes.len() > MAX_TOKEN_BYTES {
                let message = format!("token {id} has {} bytes, not 1..{MAX_TOKEN_BYTES}", bytes.len());
                return Err(Error::format_field("vocab", message));
            }
            // The end of the token before, and of the gap between.
            let end = tokens.bytes.len() as u32;
            if tokens.starts.len() > *id as usize {
                let message = format!("id {id} is given twice, the second time to token {:?}", shown());
                return Err(Error::format_field("vocab", message));
            }
            tokens.starts.resize(*id as usize + 1, end);
            if tokens.id(bytes).is_some() {
                return Err(Error::format_field(
                    "vocab",
                    format!("token {:?} is given twice", shown()),
                ));
            }
            tokens.bytes.extend_from_slice(bytes);
            tokens.place(*id, bytes);
        }
        tokens.starts.push(tokens.bytes.len() as u32);
        Ok(tokens)
    }

    fn place(&mut self, id: u32, bytes: &[u8]) {
        let mask = self.places.len() - 1;
        let mut at = xxh3_64(bytes) as usize & mask;
        while self.places[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.places[at] = id;
    }

    /// One more than the largest id.
    pub fn size(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// The bytes of a token; `None` where no token has this id.
    pub fn get(&self, id: u32) -> Option<&[u8]> {
        let start = *self.starts.get(id as usize)? as usize;
        // While the table is built, the last token ends where the bytes do.
        let end = self
            .starts
            .get(id as usize + 1)
            .map_or(self.bytes.len(), |&e| e as usize);
        (end > start).then(|| &self.bytes[start..end])
    }

    /// The id of a token.
    #[inline]
    pub fn id(&self, bytes: &[u8]) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let mask = self.places.len() - 1;
        let mut at = xxh3_64(bytes) as usize & mask;
        loop {
            match self.places[at] {
                EMPTY => return None,
                id if self.get(id) == Some(bytes) => return Some(id),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// All (id, bytes) in order of ids.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        (0..self.size() as u32).filter_map(|id| self.get(id).map(|bytes| (id, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_with_gaps() {
        let t = Tokens::new(vec![(5, b"abc".to_vec()), (1, b"a".to_vec()), (2, b"b".to_vec())]).unwrap();
        assert_eq!(t.size(), 6);
        assert_eq!(
            (t.get(0), t.get(1), t.get(5), t.get(6)),
            (None, Some(&b"a"[..]), Some(&b"abc"[..]), None)
        );
        assert_eq!((t.id(b"b"), t.id(b"abc"), t.id(b"x")), (Some(2), Some(5), None));
        assert_eq!(t.iter().map(|e| e.0).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(Tokens::new(vec![]).unwrap().size(), 0);
    }

    #[test]
    fn twice_empty_or_large_is_an_error() {
        for bad in [
            vec![(1, b"a".to_vec()), (1, b"b".to_vec())],
            vec![(1, b"a".to_vec()), (2, b"a".to_vec())],
            vec![(1, vec![])],
            vec![(1, vec![0; MAX_TOKEN_BYTES + 1])],
        ] {
            assert!(matches!(Tokens::new(bad), Err(Error::Format { .. })));
        }
        assert!(matches!(
            Tokens::new(vec![(u32::MAX - 1, b"a".to_vec())]),
            Err(Error::Limit { .. })
        ));
    }
}
