//! Fuzzy deduplication of a column of texts.

use crate::exact::{SequenceHash, first_equal};
use crate::groups::Groups;
use crate::keep::{Keep, representatives};
use crate::minhash::MinHash;
use crate::shingles::Shingling;
use crate::signatures::{self, GRAIN, Signatures, sign};
use crate::union_find::UnionFind;
use crate::verify::{BINS, Findings, Verifier};
use biollm_core::{Error, Monitor, Pool, Result, limits};
use biollm_text::Texts;

/// Buckets verified by one task.
const VERIFY_GRAIN: usize = 32;

/// What decides the clusters.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How documents become sets.
    pub shingling: Shingling,
    /// The least Jaccard similarity of duplicates, in (0, 1].
    pub threshold: f64,
    /// MinHash permutations.
    pub num_perm: usize,
    /// Bands of `num_perm / bands` rows.
    pub bands: usize,
    /// Draws the permutations.
    pub seed: u64,
    /// Which document of a cluster is kept.
    pub keep: Keep,
}

/// Two rows, a < b, and the exact Jaccard similarity of their shingle sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The smaller row.
    pub a: u32,
    /// The larger row.
    pub b: u32,
    /// At or above the threshold.
    pub jaccard: f64,
}

/// The clusters of n rows.
pub struct Clusters {
    /// For each row the smallest row of its cluster.
    pub cluster: Vec<i64>,
    /// For each row the row kept for it.
    pub representative: Vec<i64>,
    /// The pairs that made the clusters, by (a, b): each copy with the first row of its set (similarity 1), and
    /// the candidates found at or above the threshold. Pairs whose rows were in one cluster already when their
    /// turn came were not verified and are not here.
    pub pairs: Vec<Pair>,
    /// Rows whose shingle set an earlier row has.
    pub copies: u64,
    /// Candidates by similarity, in bins of 1 / 20. Copies are not among them, nor candidates that a bound shows
    /// to be below the threshold: their similarity is not computed.
    pub histogram: [u64; BINS],
}

/// Signs all documents, for [`dedup_fuzzy`] to go on from: what it makes of its texts first, and may be given. Progress
/// counts a unit a document.
pub fn dedup_signatures(
    texts: &Texts<'_>,
    shingling: Shingling,
    minhash: &MinHash,
    pool: &Pool,
    monitor: &Monitor,
) -> Result<Vec<u64>> {
    monitor.set_total(texts.len() as u64);
    let chunks = sign(texts, 0..texts.len(), shingling, minhash, pool, monitor)?;
    let values = texts.len() * signatures::width(minhash.bands());
    let mut joined = limits::with_capacity(values, "signatures")?;
    chunks.iter().for_each(|chunk| joined.extend_from_slice(chunk));
    Ok(joined)
}

/// Clusters the rows whose shingle sets are similar: the connected components of the graph whose edges are the
/// pairs that share a band key and have a Jaccard similarity of at least the threshold. The result does not
/// depend on the number of threads. Progress counts two units a document: one for its signature, one spread
/// over the verification of candidates.
///
/// `signed` are the signatures of the first rows where they are there already, of [`dedup_signatures`] with the same
/// options on a multiple of 128 rows each.
pub fn dedup_fuzzy(
    texts: &Texts<'_>,
    signed: &[&[u64]],
    options: &Options,
    pool: &Pool,
    monitor: &Monitor,
) -> Result<Clusters> {
    let threshold = options.threshold;
    if !(threshold > 0.0 && threshold <= 1.0) {
        let message = format!("threshold is {threshold}: give more than 0 and at most 1");
        return Err(Error::input("threshold", message));
    }
    let minhash = MinHash::new(options.num_perm, options.bands, options.seed)?;
    let n = texts.len();
    monitor.set_total(2 * n as u64);

    let done = rows_signed(signed, n, options.bands)?;
    monitor.advance(done as u64);
    let rest = sign(texts, done..n, options.shingling, &minhash, pool, monitor)?;
    let parts = signed.iter().copied().chain(rest.iter().map(Vec::as_slice));
    let signatures = Signatures::new(parts, n, options.bands)?;
    let verifier = Verifier::new(texts, options.shingling, threshold, monitor);
    let second = |row| signatures.sequence(row).1;
    let mut first = first_equal(n, || signatures.first_lanes(), second, monitor)?;
    merge_equal_sets(&mut first, &signatures, &verifier, pool, monitor)?;
    let mut clusters = UnionFind::new(n)?;
    let mut pairs = Vec::new();
    for (b, &a) in (0u32..).zip(&first).filter(|&(b, &a)| a != b) {
        limits::reserve(&mut pairs, 1, "pairs")?;
        pairs.push(Pair { a, b, jaccard: 1.0 });
        clusters.union(a, b);
    }
    let copies = pairs.len() as u64;
    let takes_part = |row: u32| first[row as usize] == row;
    let buckets: Vec<Groups> = pool.map_chunks(signatures.bands(), 1, monitor, |range| {
        signatures.groups(range.start, takes_part, monitor)
    })?;
    let histogram = verify(
        &signatures,
        buckets,
        &verifier,
        &mut clusters,
        &mut pairs,
        pool,
        monitor,
    )?;
    pairs.sort_unstable_by_key(|pair| (pair.a, pair.b));
    clusters.flatten();
    let (cluster, representative) = name_clusters(texts, &clusters, options.keep, monitor)?;
    Ok(Clusters {
        cluster,
        representative,
        pairs,
        copies,
        histogram,
    })
}

/// The rows whose signatures are there already.
fn rows_signed(signed: &[&[u64]], n: usize, bands: usize) -> Result<usize> {
    let width = signatures::width(bands);
    let mut rows = 0;
    for part in signed {
        if !part.len().is_multiple_of(GRAIN * width) {
            let message = format!("signatures are of a multiple of {GRAIN} rows, {width} values a row");
            return Err(Error::input("signatures", message));
        }
        rows += part.len() / width;
    }
    if rows > n {
        let message = format!("there are signatures of {rows} rows, but {n} texts");
        return Err(Error::input("signatures", message));
    }
    Ok(rows)
}

/// Gives rows of another sequence but the same set of shingles to the first of them. Equal sets have equal
/// signatures, so only rows that share a signature have their sets built, and each once.
fn merge_equal_sets(
    first: &mut [u32],
    signatures: &Signatures<'_>,
    verifier: &Verifier<'_>,
    pool: &Pool,
    monitor: &Monitor,
) -> Result<()> {
    let entries = || {
        let rows = signatures.signatures().zip(0u32..);
        rows.filter(|&(_, row)| first[row as usize] == row)
    };
    let mut rows = Groups::new(first.len(), entries, monitor)?.into_rows();
    rows.sort_unstable();
    let sets = pool.map_chunks(rows.len(), GRAIN, monitor, |range| {
        let mut hashes = limits::with_capacity(range.len(), "hashes of sets")?;
        for &row in &rows[range] {
            let mut hash = SequenceHash::default();
            hash.update(verifier.set(row)?.shingles());
            hashes.push(hash.finish());
        }
        Ok(hashes)
    })?;
    let firsts = || sets.iter().flatten().map(|hash| hash.0);
    let second = |i: u32| sets[i as usize / GRAIN][i as usize % GRAIN].1;
    for (i, &same) in first_equal(rows.len(), firsts, second, monitor)?
        .iter()
        .enumerate()
    {
        first[rows[i] as usize] = rows[same as usize];
    }
    Ok(())
}

/// Verifies the candidates band by band and joins those that pass. Within a band the buckets share no rows and
/// see the clusters as the bands before have left them, so they can be verified in any order.
fn verify(
    signatures: &Signatures<'_>,
    buckets: Vec<Groups>,
    verifier: &Verifier<'_>,
    clusters: &mut UnionFind,
    pairs: &mut Vec<Pair>,
    pool: &Pool,
    monitor: &Monitor,
) -> Result<[u64; BINS]> {
    let (n, bands) = (signatures.rows() as u64, signatures.bands() as u64);
    let mut histogram = [0u64; BINS];
    for (band, buckets) in buckets.into_iter().enumerate() {
        clusters.flatten();
        let frozen = &*clusters;
        let found = pool.map_chunks(buckets.len(), VERIFY_GRAIN, monitor, |range| {
            let mut findings = Findings::default();
            for i in range {
                verifier.bucket(buckets.get(i), band, signatures, frozen, &mut findings)?;
            }
            Ok(findings)
        })?;
        for findings in found {
            limits::reserve(pairs, findings.pairs.len(), "pairs")?;
            for pair in findings.pairs {
                clusters.union(pair.a, pair.b);
                pairs.push(pair);
            }
            histogram
                .iter_mut()
                .zip(findings.histogram)
                .for_each(|(sum, count)| *sum += count);
        }
        let band = band as u64;
        monitor.advance(n * (band + 1) / bands - n * band / bands);
    }
    Ok(histogram)
}

/// The smallest row of each row's cluster, and the row kept for it.
fn name_clusters(
    texts: &Texts<'_>,
    clusters: &UnionFind,
    keep: Keep,
    monitor: &Monitor,
) -> Result<(Vec<i64>, Vec<i64>)> {
    let n = texts.len();
    let mut cluster = limits::with_capacity(n, "clusters")?;
    cluster.extend((0..n as u32).map(|row| i64::from(clusters.find(row))));
    let representative = representatives(texts, &cluster, keep, monitor)?;
    Ok((cluster, representative))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unit;
    use biollm_core::hash::splitmix64;

    fn options(threshold: f64) -> Options {
        let shingling = Shingling::new(Unit::Word, 2).unwrap();
        Options {
            shingling,
            threshold,
            num_perm: 128,
            bands: 64,
            seed: 0,
            keep: Keep::First,
        }
    }

    fn with_texts<T>(rows: &[String], threads: usize, call: impl FnOnce(&Texts<'_>, &Pool) -> T) -> T {
        let (mut offsets, mut data) = (vec![0i64], Vec::new());
        for row in rows {
            data.extend_from_slice(row.as_bytes());
            offsets.push(data.len() as i64);
        }
        let pool = Pool::new(Some(threads)).unwrap();
        let texts = Texts::new([(&offsets[..], &data[..])], 1 << 20, &pool, &Monitor::new()).unwrap();
        call(&texts, &pool)
    }

    fn dedup(rows: &[String], options: &Options, threads: usize) -> Result<Clusters> {
        with_texts(rows, threads, |texts, pool| {
            dedup_fuzzy(texts, &[], options, pool, &Monitor::new())
        })
    }

    /// Families of texts of 30 words over a small vocabulary, with 0 to 5 words changed.
    fn corpus(n: u64) -> Vec<String> {
        let word = |x: u64| format!("w{}", splitmix64(x) % 500);
        (0..n)
            .map(|i| {
                let family = splitmix64(i) % (n / 4);
                let mut words: Vec<String> = (0..30).map(|k| word(family * 1000 + k)).collect();
                for edit in 0..splitmix64(i + 77) % 6 {
                    words[(splitmix64(i * 31 + edit) % 30) as usize] = word(i * 7919 + edit);
                }
                words.join(" ")
            })
            .collect()
    }

    #[test]
    fn clusters_are_those_of_all_pairs() {
        let rows = corpus(400);
        let options = options(0.6);
        let sets: Vec<Vec<u64>> = rows
            .iter()
            .map(|r| options.shingling.set(r, &Monitor::new()).unwrap())
            .collect();
        let jaccard = |a: usize, b: usize| {
            let common = sets[a]
                .iter()
                .filter(|s| sets[b].binary_search(s).is_ok())
                .count();
            common as f64 / (sets[a].len() + sets[b].len() - common) as f64
        };
        let mut truth = UnionFind::new(rows.len()).unwrap();
        for a in 0..rows.len() {
            for b in a + 1..rows.len() {
                if jaccard(a, b) >= 0.6 {
                    truth.union(a as u32, b as u32);
                }
            }
        }
        let want: Vec<i64> = (0..rows.len() as u32).map(|r| i64::from(truth.find(r))).collect();
        let got = dedup(&rows, &options, 1).unwrap();
        // 64 bands of 2 rows miss a pair of J = 0.6 with a probability of 0.64^64 = 4e-13.
        assert_eq!(got.cluster, want);
        assert_eq!(got.representative, got.cluster);
        for pair in &got.pairs {
            assert!(pair.a < pair.b && pair.jaccard >= 0.6);
            assert_eq!(pair.jaccard, jaccard(pair.a as usize, pair.b as usize));
        }
        for threads in [2, 4, 7] {
            let other = dedup(&rows, &options, threads).unwrap();
            assert_eq!((&other.cluster, &other.pairs), (&got.cluster, &got.pairs));
            assert_eq!((other.histogram, other.copies), (got.histogram, got.copies));
        }
    }

    #[test]
    fn signatures_may_be_made_before() {
        let rows = corpus(700);
        let options = options(0.6);
        let minhash = MinHash::new(options.num_perm, options.bands, options.seed).unwrap();
        let signed = |from: usize, to: usize| {
            with_texts(&rows[from..to], 2, |texts, pool| {
                dedup_signatures(texts, options.shingling, &minhash, pool, &Monitor::new()).unwrap()
            })
        };
        let given = |parts: &[&[u64]]| {
            with_texts(&rows, 2, |texts, pool| {
                dedup_fuzzy(texts, parts, &options, pool, &Monitor::new())
            })
        };
        let want = dedup(&rows, &options, 1).unwrap();
        for cuts in [
            vec![0, 128],
            vec![0, 256, 256, 640],
            vec![0, 128, 256, 384, 512, 640],
        ] {
            let parts: Vec<Vec<u64>> = cuts.windows(2).map(|cut| signed(cut[0], cut[1])).collect();
            let got = given(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
            assert_eq!((&got.cluster, &got.pairs), (&want.cluster, &want.pairs));
            assert_eq!((got.histogram, got.copies), (want.histogram, want.copies));
        }
        let (whole, odd) = (signed(0, 640), signed(0, 700));
        for wrong in [
            &odd[..],
            &whole[1..],
            &[whole.clone(), whole.clone()].concat()[..],
            &[0],
        ] {
            assert!(matches!(given(&[wrong]), Err(Error::Input { .. })));
        }
    }

    #[test]
    fn copies_are_linear() {
        let rows = vec!["the same few words once more".to_string(); 300_000];
        let got = dedup(&rows, &options(0.8), 2).unwrap();
        assert!(got.cluster.iter().all(|&c| c == 0));
        assert_eq!(
            (got.copies, got.pairs.len(), got.histogram.iter().sum::<u64>()),
            (299_999, 299_999, 0)
        );
        // One set, 30,000 sequences: all share every bucket, and one row is compared with each.
        let rows: Vec<String> = (3..30_003)
            .map(|k| "spam ".repeat(k % 1000) + &"x".repeat(k / 1000))
            .collect();
        let got = dedup(&rows, &options(0.99), 2).unwrap();
        assert!(got.histogram.iter().sum::<u64>() < 120_000);
    }

    #[test]
    fn which_document_is_kept() {
        let rows: Vec<String> = ["a b c", "A b c!!", "a, b, c", "z", "a b c"]
            .map(String::from)
            .into();
        let kept = |keep| {
            dedup(&rows, &Options { keep, ..options(0.8) }, 1)
                .unwrap()
                .representative
        };
        assert_eq!(kept(Keep::First), [0, 0, 0, 3, 0]);
        assert_eq!(kept(Keep::Longest), [1, 1, 1, 3, 1]);
        assert_eq!(kept(Keep::Shortest), [0, 0, 0, 3, 0]);
    }

    #[test]
    fn texts_without_words() {
        let rows: Vec<String> = ["", "...", "", "…", "...", "a"].map(String::from).into();
        assert_eq!(
            dedup(&rows, &options(0.8), 1).unwrap().cluster,
            [0, 1, 0, 3, 1, 5]
        );
        assert!(dedup(&[], &options(0.8), 1).unwrap().cluster.is_empty());
    }

    #[test]
    fn thresholds_are_checked() {
        for threshold in [0.0, -1.0, 1.0001, f64::NAN, f64::INFINITY] {
            assert!(
                matches!(dedup(&[], &options(threshold), 1), Err(Error::Input { .. })),
                "{threshold}"
            );
        }
    }
}
