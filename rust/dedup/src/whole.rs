//! Documents that are the same as a whole: of equal text, or of one URL.
//!
//! Keys (normal forms) are grouped by their xxh3-128. That hash is fast and spreads well, but it is not made to withstand
//! an adversary, so a row joins the first of its group only where their keys are equal byte for byte. Rows that are not
//! go through SipHash under a secret of this process, and are compared again; the result depends on no hash.

use crate::exact::{Hash128, first_equal};
use crate::keep::{Keep, representatives};
use crate::url::normalize_url;
use biollm_core::{Error, Monitor, Pool, Result, limits};
use biollm_text::{Normalization, Normalizer, Texts};
use std::hash::{BuildHasher, RandomState};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Rows hashed or compared by one task.
const GRAIN: usize = 512;

/// Bytes hashed or compared between two looks at the monitor.
const CHECK_BYTES: usize = 8 << 20;

/// Rows that share a key.
pub struct Copies {
    /// For each row the first row that has its key.
    pub cluster: Vec<i64>,
    /// For each row the row kept for it.
    pub representative: Vec<i64>,
    /// Rows whose key an earlier row has.
    pub copies: u64,
}

/// Clusters texts whose normal forms are equal. The result does not depend on the number of threads. Progress counts two
/// units a document: one for its hash, one for its comparison.
pub fn dedup_exact(
    texts: &Texts<'_>,
    normalization: Normalization,
    keep: Keep,
    pool: &Pool,
    monitor: &Monitor,
) -> Result<Copies> {
    let keys = NormalTexts { texts, normalization };
    copies(
        texts,
        first_rows(&keys, texts.len(), pool, monitor)?,
        keep,
        monitor,
    )
}

/// Clusters documents whose URLs are equal once normalised; one without an URL is alone. The rest is as for
/// [`dedup_exact`].
pub fn dedup_url(
    urls: &Texts<'_>,
    texts: &Texts<'_>,
    keep: Keep,
    pool: &Pool,
    monitor: &Monitor,
) -> Result<Copies> {
    if urls.len() != texts.len() {
        let message = format!("there are {} URLs for {} texts", urls.len(), texts.len());
        return Err(Error::input("url", message));
    }
    let first = first_rows(&Urls { urls }, urls.len(), pool, monitor)?;
    copies(texts, first, keep, monitor)
}

fn copies(texts: &Texts<'_>, first: Vec<u32>, keep: Keep, monitor: &Monitor) -> Result<Copies> {
    let mut cluster = limits::with_capacity(first.len(), "clusters")?;
    cluster.extend(first.iter().map(|&row| i64::from(row)));
    let copies = (0u32..).zip(&first).filter(|&(row, &first)| row != first).count() as u64;
    drop(first);
    let representative = representatives(texts, &cluster, keep, monitor)?;
    Ok(Copies {
        cluster,
        representative,
        copies,
    })
}

/// What rows are compared by.
pub trait Keys: Sync {
    /// What a task keeps from row to row.
    type Scratch: Default;

    /// The key of a row; `None` for one that is like no other.
    fn key<'a>(
        &'a self,
        row: usize,
        scratch: &'a mut Self::Scratch,
        monitor: &Monitor,
    ) -> Result<Option<&'a [u8]>>;

    /// What the key is made of. Where it is equal, so are the keys.
    fn source(&self, row: usize) -> &[u8];

    /// The first grouping.
    fn hash(key: &[u8], monitor: &Monitor) -> Result<Hash128> {
        let hash = if key.len() <= CHECK_BYTES {
            xxh3_128(key)
        } else {
            let mut hasher = Xxh3::new();
            for part in key.chunks(CHECK_BYTES) {
                monitor.check()?;
                hasher.update(part);
            }
            hasher.digest128()
        };
        Ok(((hash >> 64) as u64, hash as u64))
    }
}

struct NormalTexts<'a> {
    texts: &'a Texts<'a>,
    normalization: Normalization,
}

impl Keys for NormalTexts<'_> {
    type Scratch = Normalizer;

    fn key<'a>(
        &'a self,
        row: usize,
        scratch: &'a mut Normalizer,
        monitor: &Monitor,
    ) -> Result<Option<&'a [u8]>> {
        scratch
            .normalize(self.texts.get(row), self.normalization, monitor)
            .map(Some)
    }

    fn source(&self, row: usize) -> &[u8] {
        self.texts.get(row).as_bytes()
    }
}

struct Urls<'a> {
    urls: &'a Texts<'a>,
}

impl Keys for Urls<'_> {
    type Scratch = Vec<u8>;

    fn key<'a>(
        &'a self,
        row: usize,
        scratch: &'a mut Vec<u8>,
        monitor: &Monitor,
    ) -> Result<Option<&'a [u8]>> {
        let found = normalize_url(self.urls.get(row), scratch, monitor)?;
        Ok(found.then_some(scratch.as_slice()))
    }

    fn source(&self, row: usize) -> &[u8] {
        self.urls.get(row).as_bytes()
    }
}

/// For each row the first row of the same key.
pub fn first_rows<K: Keys>(keys: &K, n: usize, pool: &Pool, monitor: &Monitor) -> Result<Vec<u32>> {
    monitor.set_total(2 * n as u64);
    let hashes = pool.map_chunks(n, GRAIN, monitor, |rows| {
        let mut scratch = K::Scratch::default();
        let mut hashes: Vec<Hash128> = limits::with_capacity(rows.len(), "hashes of documents")?;
        monitor.advance(rows.len() as u64);
        for row in rows {
            monitor.check()?;
            let hash = match keys.key(row, &mut scratch, monitor)? {
                Some(key) => K::hash(key, monitor)?,
                // Apart from each other; should a key's hash fall on one, the comparison tells them apart.
                None => (row as u64, u64::MAX),
            };
            hashes.push(hash);
        }
        Ok(hashes)
    })?;
    let firsts = || hashes.iter().flatten().map(|hash| hash.0);
    let second = |row: u32| hashes[row as usize / GRAIN][row as usize % GRAIN].1;
    let mut first = first_equal(n, firsts, second, monitor)?;
    drop(hashes);
    let differing = pool.map_chunks(n, GRAIN, monitor, |rows| {
        let mut pair = Pair::<K>::default();
        let mut differing = Vec::new();
        monitor.advance(rows.len() as u64);
        for row in rows {
            let a = first[row];
            if a as usize != row && !pair.equal(keys, a as usize, row, monitor)? {
                limits::reserve(&mut differing, 1, "collisions")?;
                differing.push(row as u32);
            }
        }
        Ok(differing)
    })?;
    let mut collided = Vec::new();
    for rows in differing {
        limits::reserve(&mut collided, rows.len(), "collisions")?;
        collided.extend(rows);
    }
    settle(keys, &collided, &mut first, monitor)?;
    Ok(first)
}

/// Finds the first equal row of rows (rising) that only share a hash with another: equal ones are all among them.
fn settle<K: Keys>(keys: &K, rows: &[u32], first: &mut [u32], monitor: &Monitor) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let secret = RandomState::new();
    let mut scratch = K::Scratch::default();
    let mut hashed = limits::with_capacity(rows.len(), "collisions")?;
    for &row in rows {
        monitor.check()?;
        first[row as usize] = row;
        if let Some(key) = keys.key(row as usize, &mut scratch, monitor)? {
            hashed.push((secret.hash_one(key), row));
        }
    }
    hashed.sort_unstable();
    let mut pair = Pair::<K>::default();
    for group in hashed.chunk_by(|x, y| x.0 == y.0) {
        let mut group: Vec<u32> = group.iter().map(|&(_, row)| row).collect();
        while let Some((&a, others)) = group.split_first() {
            let mut rest = Vec::new();
            for &row in others {
                if pair.equal(keys, a as usize, row as usize, monitor)? {
                    first[row as usize] = a;
                } else {
                    rest.push(row);
                }
            }
            group = rest;
        }
    }
    Ok(())
}

/// Compares the keys of two rows.
struct Pair<K: Keys> {
    a: K::Scratch,
    b: K::Scratch,
}

impl<K: Keys> Default for Pair<K> {
    fn default() -> Self {
        Self {
            a: K::Scratch::default(),
            b: K::Scratch::default(),
        }
    }
}

impl<K: Keys> Pair<K> {
    fn equal(&mut self, keys: &K, a: usize, b: usize, monitor: &Monitor) -> Result<bool> {
        monitor.check()?;
        // Rows without a key never come here with each other: they have hashes of their own.
        if equal_bytes(keys.source(a), keys.source(b), monitor)? {
            return Ok(true);
        }
        match (
            keys.key(a, &mut self.a, monitor)?,
            keys.key(b, &mut self.b, monitor)?,
        ) {
            (Some(a), Some(b)) => equal_bytes(a, b, monitor),
            _ => Ok(false),
        }
    }
}

fn equal_bytes(a: &[u8], b: &[u8], monitor: &Monitor) -> Result<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (a, b) in a.chunks(CHECK_BYTES).zip(b.chunks(CHECK_BYTES)) {
        monitor.check()?;
        if a != b {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const NONE: Normalization = Normalization {
        nfc: false,
        case: false,
        space: false,
    };
    const ALL: Normalization = Normalization {
        nfc: true,
        case: true,
        space: true,
    };

    fn with_texts<T>(rows: &[String], call: impl FnOnce(&Texts<'_>) -> T) -> T {
        let (mut offsets, mut data) = (vec![0i64], Vec::new());
        for row in rows {
            data.extend_from_slice(row.as_bytes());
            offsets.push(data.len() as i64);
        }
        let pool = Pool::new(Some(2)).unwrap();
        call(&Texts::new([(&offsets[..], &data[..])], 1 << 30, &pool, &Monitor::new()).unwrap())
    }

    fn exact(rows: &[String], normalization: Normalization, keep: Keep, threads: usize) -> Copies {
        with_texts(rows, |texts| {
            let pool = Pool::new(Some(threads)).unwrap();
            dedup_exact(texts, normalization, keep, &pool, &Monitor::new()).unwrap()
        })
    }

    #[test]
    fn clusters_are_those_of_a_map() {
        let rows: Vec<String> = (0..5000u64)
            .map(|i| "ab ".repeat((biollm_core::hash::splitmix64(i) % 700) as usize))
            .collect();
        let mut map = HashMap::new();
        let want: Vec<i64> = rows
            .iter()
            .zip(0..)
            .map(|(row, i)| *map.entry(row).or_insert(i))
            .collect();
        for threads in [1, 2, 5] {
            let found = exact(&rows, NONE, Keep::First, threads);
            assert_eq!(found.cluster, want);
            assert_eq!(found.representative, want);
            assert_eq!(found.copies as usize, rows.len() - map.len());
        }
        assert!(exact(&[], ALL, Keep::Longest, 1).cluster.is_empty());
    }

    #[test]
    fn normal_forms_are_compared_and_lengths_decide() {
        let rows: Vec<String> = ["Á b", "a\u{301}  B", "á b", "á c", ""].map(String::from).into();
        for (keep, kept) in [(Keep::First, 0), (Keep::Longest, 1), (Keep::Shortest, 0)] {
            let found = exact(&rows, ALL, keep, 1);
            assert_eq!(found.cluster, [0, 0, 0, 3, 4]);
            assert_eq!(found.representative, [kept, kept, kept, 3, 4]);
        }
        assert_eq!(exact(&rows, NONE, Keep::First, 1).cluster, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn documents_without_an_url_are_alone() {
        let urls: Vec<String> = ["", "http://a.org/", " ", "", "https://www.a.org#x"]
            .map(String::from)
            .into();
        with_texts(&urls, |urls| {
            let pool = Pool::new(Some(1)).unwrap();
            let found = dedup_url(urls, urls, Keep::Longest, &pool, &Monitor::new()).unwrap();
            assert_eq!(found.cluster, [0, 1, 2, 3, 1]);
            assert_eq!(found.representative, [0, 4, 2, 3, 4]);
            let fewer = ["x".to_string()];
            assert!(with_texts(&fewer, |texts| {
                dedup_url(urls, texts, Keep::First, &pool, &Monitor::new()).is_err()
            }));
        });
    }

    /// Keys whose hashes all collide, as an adversary might bring about.
    struct Colliding<'a>(&'a [Option<&'a str>]);

    impl Keys for Colliding<'_> {
        type Scratch = ();

        fn key<'a>(&'a self, row: usize, _: &'a mut (), _: &Monitor) -> Result<Option<&'a [u8]>> {
            Ok(self.0[row].map(str::as_bytes))
        }

        fn source(&self, row: usize) -> &[u8] {
            self.0[row].unwrap_or_default().as_bytes()
        }

        fn hash(_: &[u8], _: &Monitor) -> Result<Hash128> {
            Ok((4, u64::MAX)) // also that of the row 4, which has no key
        }
    }

    #[test]
    fn colliding_hashes_remove_nothing() {
        let rows = [
            Some("a"),
            Some("b"),
            Some("a"),
            Some("c"),
            None,
            Some("b"),
            None,
            Some("c"),
            Some("d"),
            Some(""),
        ];
        let pool = Pool::new(Some(2)).unwrap();
        let first = first_rows(&Colliding(&rows), rows.len(), &pool, &Monitor::new()).unwrap();
        assert_eq!(first, [0, 1, 0, 3, 4, 1, 6, 3, 8, 9]);
        let rows: Vec<String> = (0..20_000).map(|i| format!("{}", i % 15_000)).collect();
        let rows: Vec<Option<&str>> = rows.iter().map(|row| Some(row.as_str())).collect();
        let first = first_rows(&Colliding(&rows), rows.len(), &pool, &Monitor::new()).unwrap();
        assert!(first.iter().zip(0..).all(|(&a, row)| a == row % 15_000));
    }

    #[test]
    fn a_long_document_hashes_as_a_short_one() {
        let long = vec![b'x'; CHECK_BYTES + 1];
        let hash = xxh3_128(&long);
        assert_eq!(
            NormalTexts::hash(&long, &Monitor::new()).unwrap(),
            ((hash >> 64) as u64, hash as u64)
        );
    }
}
