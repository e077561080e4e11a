//! Candidates put to the proof: the exact Jaccard similarity of two documents' shingle sets.

use crate::fuzzy::Pair;
use crate::sets::ShingleSet;
use crate::shingles::Shingling;
use crate::signatures::Signatures;
use crate::union_find::UnionFind;
use biollm_core::{Monitor, Result, limits};
use biollm_text::Texts;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bins of the histogram of similarities, each 1 / BINS wide.
pub const BINS: usize = 20;

/// Bytes of shingle sets kept for later buckets, in all.
const CACHE_BYTES: usize = 32 << 20;

/// Bytes of shingle sets that a thread holds for its bucket.
const HELD_BYTES: usize = 32 << 20;

/// Locks of the cache, so that threads seldom wait for each other.
const SHARDS: usize = 16;

/// What the verification of some buckets found.
#[derive(Default)]
pub struct Findings {
    /// The pairs at or above the threshold.
    pub pairs: Vec<Pair>,
    /// The pairs whose similarity was computed, by it.
    pub histogram: [u64; BINS],
}

/// Verifies the candidates of buckets.
pub struct Verifier<'a> {
    texts: &'a Texts<'a>,
    shingling: Shingling,
    threshold: f64,
    monitor: &'a Monitor,
    cache: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    sets: HashMap<u32, Arc<ShingleSet>>,
    bytes: usize,
}

impl<'a> Verifier<'a> {
    /// For pairs of rows of `texts` with a similarity of `threshold` or more.
    pub fn new(texts: &'a Texts<'a>, shingling: Shingling, threshold: f64, monitor: &'a Monitor) -> Self {
        let cache = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self {
            texts,
            shingling,
            threshold,
            monitor,
            cache,
        }
    }

    /// Verifies the pairs of one bucket: rows (rising) that share a key in `band`. Left out are pairs whose bound
    /// is below the threshold, pairs that an earlier band has verified, and pairs already in one cluster, by
    /// `clusters` or by pairs found here. What is found depends on `clusters` and the bucket alone.
    ///
    /// The rows are held by component, so that a bucket whose rows are all joined soon costs one comparison a
    /// row, and joined rows are not gone over again.
    pub fn bucket(
        &self,
        rows: &[u32],
        band: usize,
        signatures: &Signatures<'_>,
        clusters: &UnionFind,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut components = Components::new(rows, clusters)?;
        let mut held = Held {
            verifier: self,
            rows,
            sets: Vec::new(),
            bytes: 0,
        };
        for i in 0..rows.len() {
            if components.active.len() == 1 {
                break;
            }
            let mut own = components.label[i];
            let first = own;
            let mut set = None;
            let mut apart = limits::with_capacity(components.active.len(), "components of a bucket")?;
            for other in std::mem::take(&mut components.active) {
                if other == first {
                    continue;
                }
                let mut joined = false;
                for &j in components.members[other as usize]
                    .iter()
                    .filter(|&&j| j as usize > i)
                {
                    self.monitor.check()?;
                    let (a, b) = (rows[i], rows[j as usize]);
                    let mine = match &set {
                        Some(mine) => Arc::clone(mine),
                        None => Arc::clone(set.insert(held.set(i)?)),
                    };
                    let other = held.set(j as usize)?;
                    if mine.most_jaccard(&other) < self.threshold || signatures.share_before(a, b, band) {
                        continue;
                    }
                    let jaccard = mine.jaccard(&other, self.monitor)?;
                    findings.histogram[((jaccard * BINS as f64) as usize).min(BINS - 1)] += 1;
                    if jaccard >= self.threshold {
                        limits::reserve(&mut findings.pairs, 1, "pairs")?;
                        findings.pairs.push(Pair { a, b, jaccard });
                        joined = true;
                        break;
                    }
                }
                if joined {
                    own = components.join(own, other)?;
                } else {
                    apart.push(other);
                }
            }
            apart.push(own);
            components.active = apart;
        }
        Ok(())
    }

    /// The shingle set of a row, from the cache where it is there.
    pub fn set(&self, row: u32) -> Result<Arc<ShingleSet>> {
        let shard = &self.cache[row as usize % SHARDS];
        if let Some(set) = shard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sets
            .get(&row)
        {
            return Ok(Arc::clone(set));
        }
        let shingles = self.shingling.set(self.texts.get(row as usize), self.monitor)?;
        let set = Arc::new(ShingleSet::new(shingles));
        if set.bytes() <= CACHE_BYTES / SHARDS {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if shard.bytes + set.bytes() > CACHE_BYTES / SHARDS {
                *shard = Shard::default();
            }
            if shard.sets.insert(row, Arc::clone(&set)).is_none() {
                shard.bytes += set.bytes();
            }
        }
        Ok(set)
    }
}

/// The sets of one bucket's rows, held while it is verified as far as `HELD_BYTES` go: a large bucket asks for
/// each of them many times.
struct Held<'a> {
    verifier: &'a Verifier<'a>,
    rows: &'a [u32],
    sets: Vec<Option<Arc<ShingleSet>>>,
    bytes: usize,
}

impl Held<'_> {
    /// The set of the row in this place of the bucket.
    fn set(&mut self, place: usize) -> Result<Arc<ShingleSet>> {
        if let Some(Some(set)) = self.sets.get(place) {
            return Ok(Arc::clone(set));
        }
        let set = self.verifier.set(self.rows[place])?;
        if self.bytes + set.bytes() <= HELD_BYTES {
            if self.sets.is_empty() {
                self.sets = limits::filled(self.rows.len(), None, "sets of a bucket")?;
            }
            self.bytes += set.bytes();
            self.sets[place] = Some(Arc::clone(&set));
        }
        Ok(set)
    }
}

/// The rows of a bucket by what they are joined to. Rows are meant by their place in the bucket.
struct Components {
    /// The component of each row.
    label: Vec<u32>,
    /// The rows of each component.
    members: Vec<Vec<u32>>,
    /// The components that have rows.
    active: Vec<u32>,
}

impl Components {
    fn new(rows: &[u32], clusters: &UnionFind) -> Result<Self> {
        let mut roots = limits::with_capacity(rows.len(), "components of a bucket")?;
        roots.extend(rows.iter().zip(0u32..).map(|(&row, i)| (clusters.find(row), i)));
        roots.sort_unstable();
        let mut label = limits::filled(rows.len(), 0u32, "components of a bucket")?;
        let mut members = Vec::new();
        for component in roots.chunk_by(|x, y| x.0 == y.0) {
            for &(_, i) in component {
                label[i as usize] = members.len() as u32;
            }
            members.push(component.iter().map(|&(_, i)| i).collect());
        }
        let active = (0..members.len() as u32).collect();
        Ok(Self {
            label,
            members,
            active,
        })
    }

    /// Joins two components, the smaller into the larger; gives the one that remains.
    fn join(&mut self, a: u32, b: u32) -> Result<u32> {
        let a_is_larger = self.members[a as usize].len() >= self.members[b as usize].len();
        let (large, small) = if a_is_larger { (a, b) } else { (b, a) };
        let moved = std::mem::take(&mut self.members[small as usize]);
        for &i in &moved {
            self.label[i as usize] = large;
        }
        let members = &mut self.members[large as usize];
        limits::reserve(members, moved.len(), "components of a bucket")?;
        members.extend(moved);
        Ok(large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use biollm_core::Pool;

    /// Texts of one column, with data that outlives the test.
    fn texts(rows: &[&str]) -> Texts<'static> {
        let mut offsets = vec![0i64];
        let mut data = Vec::new();
        for row in rows {
            data.extend_from_slice(row.as_bytes());
            offsets.push(data.len() as i64);
        }
        let part: (&'static [i64], &'static [u8]) = (offsets.leak(), data.leak());
        Texts::new([part], 1 << 20, &Pool::new(Some(1)).unwrap(), &Monitor::new()).unwrap()
    }

    #[test]
    fn a_bucket_is_joined_by_exact_similarity() {
        // Word sets: J(0,1) = 3/5, J(0,2) = 0, J(1,3) = 3/5, J(0,3) = 2/6, J(2,4) = 1.
        let texts = texts(&["a b c d", "b c d e", "x y z", "c d e f", "z x y"]);
        let shingling = Shingling::new(crate::Unit::Word, 1).unwrap();
        let monitor = Monitor::new();
        let verifier = Verifier::new(&texts, shingling, 0.6, &monitor);
        let values = [0; 5 * 4];
        let keys = Signatures::new([&values[..]], 5, 1).unwrap();
        let clusters = UnionFind::new(5).unwrap();
        let mut findings = Findings::default();
        verifier
            .bucket(&[0, 1, 2, 3, 4], 0, &keys, &clusters, &mut findings)
            .unwrap();
        let pairs: Vec<_> = findings.pairs.iter().map(|p| (p.a, p.b, p.jaccard)).collect();
        assert_eq!(pairs, [(0, 1, 0.6), (1, 3, 0.6), (2, 4, 1.0)]);
        // The others are known to be below the threshold without a comparison.
        assert_eq!(findings.histogram.iter().sum::<u64>(), 3);

        // What is in one cluster already is not verified again.
        let mut clusters = UnionFind::new(5).unwrap();
        [(0, 1), (1, 3), (3, 2), (2, 4)]
            .iter()
            .for_each(|&(a, b)| clusters.union(a, b));
        let mut findings = Findings::default();
        verifier
            .bucket(&[0, 1, 2, 3, 4], 0, &keys, &clusters, &mut findings)
            .unwrap();
        assert!(findings.pairs.is_empty() && findings.histogram == [0; BINS]);
    }

    #[test]
    fn a_pair_is_verified_in_its_first_band_only() {
        let texts = texts(&["a b c d", "b c d e"]);
        let monitor = Monitor::new();
        let verifier = Verifier::new(
            &texts,
            Shingling::new(crate::Unit::Word, 1).unwrap(),
            0.6,
            &monitor,
        );
        let values = [0; 2 * 5];
        let keys = Signatures::new([&values[..]], 2, 2).unwrap();
        let clusters = UnionFind::new(2).unwrap();
        let mut findings = Findings::default();
        verifier
            .bucket(&[0, 1], 1, &keys, &clusters, &mut findings)
            .unwrap();
        assert!(findings.pairs.is_empty());
        verifier
            .bucket(&[0, 1], 0, &keys, &clusters, &mut findings)
            .unwrap();
        assert_eq!(findings.pairs.len(), 1);
    }
}
