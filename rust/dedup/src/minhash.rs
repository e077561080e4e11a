//! MinHash signatures by classic permutations, folded into band keys at once.
//!
//! Permutation p maps the upper 32 bits x of a shingle's hash to `x·a + b mod 2³²` (a odd: a bijection). The
//! shingle hashes are well mixed already, so these linear permutations behave as random ones do: the rate at
//! which they detect pairs is compared with the calculated one in `tests/deduplication`.

use biollm_core::hash::splitmix64;
use biollm_core::{Error, Result, limits};

/// Most permutations a caller may ask for.
pub const MAX_PERMUTATIONS: usize = 4096;

/// Permutations held in registers at a time; the tables are padded to a multiple.
const LANES: usize = 32;

/// The permutations and how their minima are cut into bands.
pub struct MinHash {
    multipliers: Vec<u32>,
    increments: Vec<u32>,
    bands: usize,
    rows: usize,
    update: Update,
}

/// Lowers a signature: (signature, multipliers, increments, shingles).
type Update = fn(&mut [u32], &[u32], &[u32], &[u64]);

impl MinHash {
    /// `num_perm` permutations drawn from `seed`, in `bands` bands of equal size.
    pub fn new(num_perm: usize, bands: usize, seed: u64) -> Result<Self> {
        if num_perm == 0 {
            return Err(Error::input("num_perm", "num_perm is 0: give 1 or more"));
        }
        if num_perm > MAX_PERMUTATIONS {
            return Err(Error::limit(
                "num_perm",
                num_perm as u64,
                MAX_PERMUTATIONS as u64,
                "give fewer",
            ));
        }
        if bands == 0 || bands > num_perm || !num_perm.is_multiple_of(bands) {
            let message =
                format!("bands = {bands} does not divide num_perm = {num_perm} into bands of equal size");
            return Err(Error::input("bands", message));
        }
        let padded = num_perm.next_multiple_of(LANES);
        let mut multipliers = limits::filled(padded, 1u32, "permutations")?;
        let mut increments = limits::filled(padded, 0u32, "permutations")?;
        let mut state = splitmix64(seed);
        for p in 0..num_perm {
            state = splitmix64(state);
            multipliers[p] = state as u32 | 1;
            increments[p] = (state >> 32) as u32;
        }
        Ok(Self {
            multipliers,
            increments,
            bands,
            rows: num_perm / bands,
            update: best_update(),
        })
    }

    /// The number of bands.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// A signature to begin a document with: the minima of no shingles.
    pub fn signature(&self) -> Result<Vec<u32>> {
        limits::filled(self.multipliers.len(), u32::MAX, "signature")
    }

    /// Lowers the minima by these shingles.
    #[inline]
    pub fn update(&self, signature: &mut [u32], shingles: &[u64]) {
        (self.update)(signature, &self.multipliers, &self.increments, shingles);
    }

    /// The key of one band of a signature.
    #[inline]
    pub fn band_key(&self, signature: &[u32], band: usize) -> u64 {
        signature[band * self.rows..(band + 1) * self.rows]
            .chunks(2)
            .fold(0, |key, pair| {
                let high = pair.get(1).map_or(0, |&minimum| u64::from(minimum));
                splitmix64(key ^ (u64::from(pair[0]) | high << 32))
            })
    }
}

/// One loop, compiled for each instruction set: integers only, so every version gives the same minima.
#[inline(always)]
fn update(signature: &mut [u32], multipliers: &[u32], increments: &[u32], shingles: &[u64]) {
    let tables = multipliers
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(increments.as_chunks::<LANES>().0);
    for (minima, (a, b)) in signature.as_chunks_mut::<LANES>().0.iter_mut().zip(tables) {
        let mut lowest = *minima;
        for shingle in shingles {
            let x = (shingle >> 32) as u32;
            for lane in 0..LANES {
                lowest[lane] = lowest[lane].min(x.wrapping_mul(a[lane]).wrapping_add(b[lane]));
            }
        }
        *minima = lowest;
    }
}

fn update_portable(signature: &mut [u32], multipliers: &[u32], increments: &[u32], shingles: &[u64]) {
    update(signature, multipliers, increments, shingles);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn update_avx2(signature: &mut [u32], multipliers: &[u32], increments: &[u32], shingles: &[u64]) {
    update(signature, multipliers, increments, shingles);
}

fn best_update() -> Update {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2 (just asked).
        return |s, a, b, x| unsafe { update_avx2(s, a, b, x) };
    }
    update_portable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_minimum_of_each_permutation() {
        for num_perm in [1, 7, 32, 256] {
            let minhash = MinHash::new(num_perm, 1, 3).unwrap();
            let shingles: Vec<u64> = (0..700).map(splitmix64).collect();
            let mut signature = minhash.signature().unwrap();
            minhash.update(&mut signature, &shingles[..300]);
            minhash.update(&mut signature, &shingles[300..]);
            let mut portable = minhash.signature().unwrap();
            update_portable(
                &mut portable,
                &minhash.multipliers,
                &minhash.increments,
                &shingles,
            );
            assert_eq!(signature, portable);
            for (p, &minimum) in signature[..num_perm].iter().enumerate() {
                let (a, b) = (minhash.multipliers[p], minhash.increments[p]);
                let permuted = shingles
                    .iter()
                    .map(|s| ((s >> 32) as u32).wrapping_mul(a).wrapping_add(b));
                assert_eq!(Some(minimum), permuted.min());
            }
        }
    }

    #[test]
    fn minima_agree_as_often_as_the_sets_overlap() {
        // J = 0.8: the share of equal minima has a standard deviation of sqrt(0.8·0.2/4096) = 0.00625.
        let minhash = MinHash::new(4096, 1, 0).unwrap();
        let signature = |from: u64, to: u64| {
            let mut signature = minhash.signature().unwrap();
            minhash.update(&mut signature, &(from..to).map(splitmix64).collect::<Vec<_>>());
            signature
        };
        let (a, b) = (signature(0, 900), signature(100, 1000));
        let equal = a.iter().zip(&b).filter(|(x, y)| x == y).count() as f64 / 4096.0;
        assert!((equal - 0.8).abs() < 0.025, "{equal}");
    }

    #[test]
    fn keys_depend_on_every_row() {
        for rows in [1, 2, 3, 8] {
            let minhash = MinHash::new(rows * 2, 2, 0).unwrap();
            let signature: Vec<u32> = (0..rows as u32 * 2).collect();
            let keys = [minhash.band_key(&signature, 0), minhash.band_key(&signature, 1)];
            assert_ne!(keys[0], keys[1]);
            for row in 0..rows {
                let mut other = signature.clone();
                other[row] += 1;
                assert_ne!(minhash.band_key(&other, 0), keys[0]);
                assert_eq!(minhash.band_key(&other, 1), keys[1]);
            }
        }
    }

    #[test]
    fn arguments_are_checked() {
        assert!(matches!(MinHash::new(0, 1, 0), Err(Error::Input { .. })));
        assert!(matches!(MinHash::new(1 << 40, 1, 0), Err(Error::Limit { .. })));
        for bands in [0, 3, 257, usize::MAX] {
            assert!(
                matches!(MinHash::new(256, bands, 0), Err(Error::Input { .. })),
                "{bands}"
            );
        }
    }
}
