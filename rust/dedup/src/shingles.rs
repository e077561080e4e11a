//! The shingles of a document: hashes of its word n-grams.

use biollm_core::hash::splitmix64;
use biollm_core::{Error, Monitor, Result, limits};
use biollm_text::ngrams::{self, MAX_NGRAM, Ngrams};
use biollm_text::{alphanumeric_runs, visit_words};

/// Sets above this size are sorted in parts, with looks at the monitor in between.
const SORT_PART: usize = 1 << 16;

/// Sets the shingle of a text without words apart from those of words.
const WORDLESS: u64 = 0x5851_F42D_4C95_7F2D;

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// The segments of UAX 29 that hold a letter or a number.
    Word,
    /// Runs of letters, numbers and `_`, as the regular expression `\w+` finds them.
    Alphanumeric,
}

/// How a document becomes a set: n-grams of its lower-cased words. A document of fewer words than n has one
/// shingle, all its words; one without words has one shingle, its whole text as it stands.
#[derive(Clone, Copy, Debug)]
pub struct Shingling {
    unit: Unit,
    n: usize,
}

impl Shingling {
    /// N-grams of `n` words, 1 to [`MAX_NGRAM`].
    pub fn new(unit: Unit, n: usize) -> Result<Self> {
        if n == 0 {
            return Err(Error::input("shingle", "a shingle of 0 words: give 1 or more"));
        }
        if n > MAX_NGRAM {
            return Err(Error::limit(
                "words in a shingle",
                n as u64,
                MAX_NGRAM as u64,
                "give fewer",
            ));
        }
        Ok(Self { unit, n })
    }

    /// Hands the document's shingles to `visit` in order, with repetitions, in blocks; never none at all.
    pub fn visit(
        &self,
        text: &str,
        monitor: &Monitor,
        mut visit: impl FnMut(&[u64]) -> Result<()>,
    ) -> Result<()> {
        let mut ngrams = Ngrams::new(self.n);
        let mut take = |words: &[(usize, usize)]| {
            for &(start, end) in words {
                if ngrams.push(ngrams::word_hash_at(text, start, end)) {
                    monitor.check()?;
                    ngrams.give(&mut visit)?;
                }
            }
            Ok(())
        };
        match self.unit {
            Unit::Word => visit_words(text, monitor, take)?,
            Unit::Alphanumeric => {
                let mut runs = alphanumeric_runs(text).watched(monitor);
                runs.try_for_each(|(start, run)| take(&[(start, start + run.len())]))?;
                // The runs end early when the monitor is stopped.
                monitor.check()?;
            }
        }
        ngrams.give(&mut visit)?;
        if ngrams.given() > 0 {
            return Ok(());
        }
        let wordless = || splitmix64(ngrams::text_hash(text) ^ WORDLESS);
        visit(&[ngrams.whole().unwrap_or_else(wordless)])
    }

    /// The document's distinct shingles, sorted.
    pub fn set(&self, text: &str, monitor: &Monitor) -> Result<Vec<u64>> {
        let mut shingles = Vec::new();
        self.visit(text, monitor, |block| {
            limits::reserve(&mut shingles, block.len(), "shingles of a document")?;
            shingles.extend_from_slice(block);
            Ok(())
        })?;
        let mut shingles = sorted(shingles, monitor)?;
        shingles.dedup();
        shingles.shrink_to_fit();
        Ok(shingles)
    }
}

/// Sorts hashes; large sets are parted by their leading byte first, so that no single sort lasts long.
fn sorted(mut values: Vec<u64>, monitor: &Monitor) -> Result<Vec<u64>> {
    if values.len() <= SORT_PART {
        values.sort_unstable();
        return Ok(values);
    }
    let mut ends = [0usize; 256];
    for part in values.chunks(SORT_PART) {
        monitor.check()?;
        part.iter().for_each(|v| ends[(v >> 56) as usize] += 1);
    }
    for i in 1..256 {
        ends[i] += ends[i - 1];
    }
    let mut next = [0usize; 256];
    next[1..].copy_from_slice(&ends[..255]);
    let mut parted = limits::filled(values.len(), 0u64, "shingles of a document")?;
    for part in values.chunks(SORT_PART) {
        monitor.check()?;
        for &value in part {
            let place = &mut next[(value >> 56) as usize];
            parted[*place] = value;
            *place += 1;
        }
    }
    drop(values);
    let mut rest = parted.as_mut_slice();
    let mut start = 0;
    for end in ends {
        monitor.check()?;
        let (part, behind) = rest.split_at_mut(end - start);
        part.sort_unstable();
        (rest, start) = (behind, end);
    }
    Ok(parted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, n: usize) -> Vec<u64> {
        Shingling::new(Unit::Word, n)
            .unwrap()
            .set(text, &Monitor::new())
            .unwrap()
    }

    #[test]
    fn case_and_punctuation_do_not_count() {
        assert_eq!(
            set("The cat, sat on the MAT.", 3),
            set("the cat sat on the mat", 3)
        );
        assert_eq!(set("a b c d e f", 5).len(), 2);
        assert_eq!(set("x x x x x x x x", 5).len(), 1);
    }

    #[test]
    fn short_documents_are_one_shingle() {
        assert_eq!(set("Alpha beta", 5).len(), 1);
        assert_eq!(set("Alpha beta", 5), set("alpha, BETA!", 5));
        assert_ne!(set("alpha beta", 5), set("alpha beta gamma", 5));
        assert_ne!(set("alpha beta", 5), set("beta alpha", 5));
    }

    #[test]
    fn wordless_documents_are_their_text() {
        assert_eq!(set("", 5).len(), 1);
        assert_eq!(set("...", 5), set("...", 5));
        assert_ne!(set("...", 5), set("....", 5));
        assert_ne!(set("", 5), set(" ", 5));
    }

    #[test]
    fn the_unit_of_words() {
        let alphanumeric = Shingling::new(Unit::Alphanumeric, 1).unwrap();
        assert_eq!(alphanumeric.set("can't 3.5", &Monitor::new()).unwrap().len(), 4);
        assert_eq!(set("can't 3.5", 1).len(), 2);
    }

    #[test]
    fn large_sets_are_sorted_as_small_ones() {
        let values: Vec<u64> = (0..3 * SORT_PART as u64 + 17)
            .map(|i| splitmix64(i % 100_000))
            .collect();
        let mut want = values.clone();
        want.sort_unstable();
        assert_eq!(sorted(values, &Monitor::new()).unwrap(), want);
    }

    #[test]
    fn limits_on_n() {
        assert!(matches!(Shingling::new(Unit::Word, 0), Err(Error::Input { .. })));
        assert!(matches!(
            Shingling::new(Unit::Word, 1 << 40),
            Err(Error::Limit { .. })
        ));
    }

    #[test]
    fn a_stopped_monitor_stops() {
        let monitor = Monitor::new();
        monitor.stop();
        let shingling = Shingling::new(Unit::Word, 5).unwrap();
        assert!(matches!(shingling.set("a b", &monitor), Err(Error::Stopped)));
    }
}
