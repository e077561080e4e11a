//! What one pass over the texts gives of each document: its band keys, the hash of its sequence of shingles and the
//! hash of its signature. It may be made in parts, and kept.

use crate::exact::{Hash128, SequenceHash};
use crate::groups::Groups;
use crate::minhash::MinHash;
use crate::shingles::Shingling;
use biollm_core::hash::splitmix64;
use biollm_core::{Error, Monitor, Pool, Result, limits};
use biollm_text::Texts;
use std::ops::Range;

/// Documents signed by one task, and in every chunk but the last.
pub const GRAIN: usize = 128;

/// 64-bit values a document has beside its band keys.
const BESIDE_KEYS: usize = 3;

/// The values that a document takes.
pub fn width(bands: usize) -> usize {
    bands + BESIDE_KEYS
}

/// Signs the documents of `rows`, the first of them at a multiple of [`GRAIN`]. Gives chunks of [`GRAIN`] rows, each
/// with the keys of band 0, then those of the next bands, the two lanes of the hashes of sequences, and the hashes of
/// signatures. Progress counts a unit a document.
pub fn sign(
    texts: &Texts<'_>,
    rows: Range<usize>,
    shingling: Shingling,
    minhash: &MinHash,
    pool: &Pool,
    monitor: &Monitor,
) -> Result<Vec<Vec<u64>>> {
    let bands = minhash.bands();
    pool.map_chunks(rows.len(), GRAIN, monitor, |range| {
        let count = range.len();
        let mut chunk = limits::filled(count * width(bands), 0u64, "signatures")?;
        let mut minima = minhash.signature()?;
        for place in 0..count {
            minima.fill(u32::MAX);
            let mut sequence = SequenceHash::default();
            let text = texts.get(rows.start + range.start + place);
            shingling.visit(text, monitor, |shingles| {
                sequence.update(shingles);
                minhash.update(&mut minima, shingles);
                Ok(())
            })?;
            let mut signature = 0;
            for band in 0..bands {
                let key = minhash.band_key(&minima, band);
                signature = splitmix64(signature ^ key);
                chunk[band * count + place] = key;
            }
            let sequence = sequence.finish();
            for (i, value) in [sequence.0, sequence.1, signature].into_iter().enumerate() {
                chunk[(bands + i) * count + place] = value;
            }
        }
        monitor.advance(count as u64);
        Ok(chunk)
    })
}

/// The signatures of all documents, in the chunks they were made in.
pub struct Signatures<'a> {
    chunks: Vec<&'a [u64]>,
    rows: usize,
    bands: usize,
}

impl<'a> Signatures<'a> {
    /// `parts` hold whole chunks of [`sign`], one behind the other: only the last part may end with a shorter chunk,
    /// that of the last rows.
    pub fn new(parts: impl IntoIterator<Item = &'a [u64]>, rows: usize, bands: usize) -> Result<Self> {
        let mut chunks = limits::with_capacity(rows.div_ceil(GRAIN), "signatures")?;
        for part in parts {
            for chunk in part.chunks(GRAIN * width(bands)) {
                limits::reserve(&mut chunks, 1, "signatures")?;
                chunks.push(chunk);
            }
        }
        let fits = |(k, chunk): (usize, &&[u64])| {
            let left = rows.saturating_sub(k * GRAIN);
            left > 0 && chunk.len() == left.min(GRAIN) * width(bands)
        };
        if chunks.len() != rows.div_ceil(GRAIN) || !chunks.iter().enumerate().all(fits) {
            return Err(Error::Internal("signatures of other rows".into()));
        }
        Ok(Self { chunks, rows, bands })
    }

    /// The number of bands.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// One column of a chunk.
    fn chunk(&self, chunk: usize, column: usize) -> &[u64] {
        let rows = GRAIN.min(self.rows - chunk * GRAIN);
        &self.chunks[chunk][column * rows..(column + 1) * rows]
    }

    fn value(&self, row: u32, column: usize) -> u64 {
        let row = row as usize;
        self.chunk(row / GRAIN, column)[row % GRAIN]
    }

    fn column(&self, column: usize) -> impl Iterator<Item = u64> {
        (0..self.chunks.len())
            .flat_map(move |chunk| self.chunk(chunk, column))
            .copied()
    }

    /// The first lanes of the hashes of sequences, in row order.
    pub fn first_lanes(&self) -> impl Iterator<Item = u64> {
        self.column(self.bands)
    }

    /// The hash of a document's sequence of shingles.
    pub fn sequence(&self, row: u32) -> Hash128 {
        (self.value(row, self.bands), self.value(row, self.bands + 1))
    }

    /// The hashes of the documents' signatures, in row order.
    pub fn signatures(&self) -> impl Iterator<Item = u64> {
        self.column(self.bands + 2)
    }

    /// Whether two rows share a key in a band before `band`: then they have been candidates already.
    pub fn share_before(&self, a: u32, b: u32, band: usize) -> bool {
        (0..band).any(|earlier| self.value(a, earlier) == self.value(b, earlier))
    }

    /// The rows that share a key in this band, among those that `takes_part` says.
    pub fn groups(&self, band: usize, takes_part: impl Fn(u32) -> bool, monitor: &Monitor) -> Result<Groups> {
        let entries = || {
            let rows = self.column(band).zip(0u32..);
            rows.filter(|&(_, row)| takes_part(row))
        };
        Groups::new(self.rows, entries, monitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose keys are row / 2 and row % 2 in two bands; sequences (row, 7), signatures row * 10.
    fn chunk(from: u64, count: u64) -> Vec<u64> {
        let columns: [fn(u64) -> u64; 5] = [|r| r / 2, |r| r % 2, |r| r, |_| 7, |r| r * 10];
        let rows = from..from + count;
        columns
            .iter()
            .flat_map(|column| rows.clone().map(column))
            .collect()
    }

    #[test]
    fn bands_of_chunks() {
        let (first, rest) = (chunk(0, 128), chunk(128, 5));
        let whole: Vec<u64> = [first.clone(), rest.clone()].concat();
        for parts in [
            vec![&whole[..]],
            vec![&first[..], &rest[..]],
            vec![&first[..], &[], &rest[..]],
        ] {
            let signatures = Signatures::new(parts, 133, 2).unwrap();
            assert_eq!((signatures.rows(), signatures.bands()), (133, 2));
            let groups = signatures.groups(0, |_| true, &Monitor::new()).unwrap();
            let mut pairs: Vec<_> = (0..groups.len()).map(|i| groups.get(i).to_vec()).collect();
            pairs.sort();
            assert_eq!(pairs, (0..66).map(|i| vec![2 * i, 2 * i + 1]).collect::<Vec<_>>());
            let even = signatures.groups(1, |row| row > 129, &Monitor::new()).unwrap();
            assert_eq!((even.len(), even.get(0)), (1, &[130, 132][..]));
            assert!(signatures.share_before(130, 131, 1) && !signatures.share_before(130, 132, 1));
            assert!(signatures.share_before(130, 132, 2) && !signatures.share_before(130, 131, 0));
            assert_eq!(signatures.sequence(131), (131, 7));
            assert_eq!(signatures.signatures().nth(129), Some(1290));
            assert!(signatures.first_lanes().eq(0..133));
        }
    }

    #[test]
    fn other_rows_are_refused() {
        let (first, rest) = (chunk(0, 128), chunk(128, 5));
        for (parts, rows) in [
            (vec![&first[..]], 133),
            (vec![&first[..]], 127),
            (vec![&first[..]], 0),
            (vec![&rest[..], &first[..]], 133),
            (vec![&first[..], &rest[..24]], 133),
            (vec![&first[..], &first[..]], 133),
            (vec![], 1),
        ] {
            assert!(Signatures::new(parts, rows, 2).is_err(), "{rows}");
        }
        assert!(Signatures::new([], 0, 2).is_ok());
    }
}
