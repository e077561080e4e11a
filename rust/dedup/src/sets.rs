//! Shingle sets, and how alike two of them are or can be.

use biollm_core::{Monitor, Result};

/// Bits of the parity sketch, a power of two; enough for sets of up to about a thousand shingles.
const PARITY_BITS: usize = 1024;
const PARITY_WORDS: usize = PARITY_BITS / 64;

/// Shingles compared between two looks at the monitor.
const CHECK_SHINGLES: usize = 1 << 20;

/// The distinct shingles of a document.
pub struct ShingleSet {
    /// Sorted.
    shingles: Vec<u64>,
    /// Bit b is the parity of the number of shingles whose hash ends in b. What two sets share cancels out, so
    /// the sketches of A and B differ in at most |A Δ B| bits.
    parity: [u64; PARITY_WORDS],
}

impl ShingleSet {
    /// Takes distinct, sorted shingles.
    pub fn new(shingles: Vec<u64>) -> Self {
        let mut parity = [0; PARITY_WORDS];
        for shingle in &shingles {
            let bit = *shingle as usize % PARITY_BITS;
            parity[bit / 64] ^= 1 << (bit % 64);
        }
        Self { shingles, parity }
    }

    /// The shingles, sorted.
    pub fn shingles(&self) -> &[u64] {
        &self.shingles
    }

    /// The memory it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(self.shingles.as_slice())
    }

    /// The most that `jaccard` can be, from the sizes and the sketches alone.
    pub fn most_jaccard(&self, other: &Self) -> f64 {
        let differing: u32 = self
            .parity
            .iter()
            .zip(&other.parity)
            .map(|(x, y)| (x ^ y).count_ones())
            .sum();
        let (a, b) = (self.shingles.len(), other.shingles.len());
        let common = ((a + b).saturating_sub(differing as usize) / 2).min(a).min(b);
        ratio(common, a + b)
    }

    /// |A ∩ B| / |A ∪ B|.
    pub fn jaccard(&self, other: &Self, monitor: &Monitor) -> Result<f64> {
        let mut rest = other.shingles.as_slice();
        let mut common = 0;
        for part in self.shingles.chunks(CHECK_SHINGLES) {
            monitor.check()?;
            let cut = part.last().map_or(0, |last| rest.partition_point(|y| y <= last));
            common += intersection(part, &rest[..cut]);
            rest = &rest[cut..];
        }
        Ok(ratio(common, self.shingles.len() + other.shingles.len()))
    }
}

/// The similarity of sets that share `common` of `total` = |A| + |B|. It rises with `common` also as computed, so a
/// bound on one is a bound on the other.
fn ratio(common: usize, total: usize) -> f64 {
    common as f64 / (total - common) as f64
}

/// The number of values in both sorted sets. Without branches: which set is ahead cannot be foretold.
fn intersection(a: &[u64], b: &[u64]) -> usize {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        common += usize::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;
    use biollm_core::hash::splitmix64;

    fn set(values: impl Iterator<Item = u64>) -> ShingleSet {
        let mut shingles: Vec<u64> = values.map(splitmix64).collect();
        shingles.sort_unstable();
        shingles.dedup();
        ShingleSet::new(shingles)
    }

    #[test]
    fn intersections_by_hand() {
        assert_eq!(intersection(&[1, 3, 5, 7], &[0, 3, 4, 7, 9]), 2);
        assert_eq!(intersection(&[], &[1]), 0);
        let (a, b): (Vec<u64>, Vec<u64>) = (
            (0..3000).map(|i| i * 2).collect(),
            (0..3000).map(|i| i * 3).collect(),
        );
        assert_eq!(intersection(&a, &b), 1000);
    }

    #[test]
    fn the_bound_holds_and_tells_small_sets_apart() {
        let monitor = Monitor::new();
        for size in [1, 2, 20, 200, 5000] {
            for shift in (0..=size).step_by((size as usize / 20).max(1)) {
                let (a, b) = (set(0..size), set(shift..shift + size));
                let (jaccard, most) = (a.jaccard(&b, &monitor).unwrap(), a.most_jaccard(&b));
                assert_eq!(jaccard, (size - shift) as f64 / (size + shift) as f64);
                assert!(most >= jaccard);
                if size <= 200 && jaccard < 0.7 {
                    assert!(most < 0.8, "{size} {shift}: {jaccard} {most}");
                }
            }
        }
        // Sizes alone: 10 of 100.
        assert!(set(0..10).most_jaccard(&set(0..100)) <= 0.1);
    }
}
