//! Documents with the same shingles, found by 128-bit hashes before any band is looked at, so that a bucket never
//! holds the same set twice and many copies of one document cost no more than as many others.

use crate::groups::Groups;
use biollm_core::hash::splitmix64;
use biollm_core::{Monitor, Result, limits};

/// The hash of a sequence of shingles, in two lanes of 64 bits.
#[derive(Clone, Copy, Default)]
pub struct SequenceHash {
    polynomial: u64,
    rotation: u64,
    length: u64,
}

/// A finished [`SequenceHash`].
pub type Hash128 = (u64, u64);

impl SequenceHash {
    /// Takes the next shingles.
    #[inline]
    pub fn update(&mut self, shingles: &[u64]) {
        for &shingle in shingles {
            self.polynomial = self
                .polynomial
                .wrapping_mul(0xD134_2543_DE82_EF95)
                .wrapping_add(shingle);
            self.rotation = (self.rotation.rotate_left(5) ^ shingle).wrapping_mul(0x517C_C1B7_2722_0A95);
        }
        self.length = self.length.wrapping_add(shingles.len() as u64);
    }

    /// The hash of what was taken.
    pub fn finish(self) -> Hash128 {
        (
            splitmix64(self.polynomial.wrapping_add(self.length)),
            splitmix64(self.rotation ^ self.length),
        )
    }
}

/// For each of n rows the smallest row whose hash is the same: `firsts` gives the first lanes of all hashes in row
/// order, `second` the second lane of a row's.
pub fn first_equal<I: Iterator<Item = u64>>(
    n: usize,
    firsts: impl Fn() -> I,
    second: impl Fn(u32) -> u64,
    monitor: &Monitor,
) -> Result<Vec<u32>> {
    let mut first = limits::with_capacity(n, "copies")?;
    first.extend(0..n as u32);
    let groups = Groups::new(n, || firsts().zip(0u32..), monitor)?;
    for i in 0..groups.len() {
        monitor.check()?;
        let rows = groups.get(i);
        // The second lanes are equal but for a collision of the first: then the rest of the group is gone over.
        let mut rest = Vec::new();
        split(rows, &second, &mut first, &mut rest)?;
        while !rest.is_empty() {
            let rows = std::mem::take(&mut rest);
            split(&rows, &second, &mut first, &mut rest)?;
        }
    }
    Ok(first)
}

/// Gives the rows that equal the group's first one to it, and puts the others into `rest`.
fn split(rows: &[u32], second: impl Fn(u32) -> u64, first: &mut [u32], rest: &mut Vec<u32>) -> Result<()> {
    for &row in rows {
        if second(row) == second(rows[0]) {
            first[row as usize] = rows[0];
        } else {
            limits::reserve(rest, 1, "copies")?;
            rest.push(row);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sequences_find_their_first_row() {
        let first = |hashes: &[Hash128]| {
            let firsts = || hashes.iter().map(|hash| hash.0);
            first_equal(
                hashes.len(),
                firsts,
                |row| hashes[row as usize].1,
                &Monitor::new(),
            )
            .unwrap()
        };
        let hashes = [(1, 1), (2, 2), (1, 1), (1, 5), (2, 2), (1, 5), (1, 1)];
        assert_eq!(first(&hashes), [0, 1, 0, 3, 1, 3, 0]);
        assert!(first(&[]).is_empty());
    }

    #[test]
    fn blocks_do_not_matter_order_does() {
        let hash = |parts: &[&[u64]]| {
            let mut hash = SequenceHash::default();
            parts.iter().for_each(|part| hash.update(part));
            hash.finish()
        };
        assert_eq!(hash(&[&[1, 2], &[3]]), hash(&[&[1], &[2, 3]]));
        for other in [&[1, 3, 2][..], &[1, 2], &[0, 1, 2, 3], &[1, 2, 3, 0], &[]] {
            assert_ne!(hash(&[other]), hash(&[&[1, 2, 3]]));
        }
    }
}
