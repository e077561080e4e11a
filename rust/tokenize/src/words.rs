//! Counts of the pieces of a corpus: all that training a vocabulary needs to know of it.

use crate::split::Pattern;
use biollm_core::{Error, Monitor, Pool, Result, limits};
use biollm_text::Texts;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of text counted by one task.
const CHUNK_BYTES: u64 = 1 << 22;
/// Pieces between two looks at the stop token.
const CHECK_PIECES: u32 = 1 << 12;

/// xxh3 of the bytes; the length prefix is mixed in by the seed.
#[derive(Default)]
pub struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte); // the terminator that `str` writes
    }
    fn write_usize(&mut self, n: usize) {
        self.0 ^= n as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

type Counts<'a> = HashMap<&'a str, u64, BuildHasherDefault<WordHasher>>;

/// Words in byte order, each once, with their counts: word i is `data[offsets[i]..offsets[i + 1]]`.
pub struct WordCounts {
    /// UTF-8 of all words.
    pub data: Vec<u8>,
    /// (words + 1,)
    pub offsets: Vec<i64>,
    /// (words,)
    pub counts: Vec<u64>,
}

/// Counts the pieces of `texts`, and adds those of `known` (words of an earlier call with their counts).
pub fn count_words(
    texts: &Texts<'_>,
    pattern: Pattern,
    known: Option<(&Texts<'_>, &[u64])>,
    pool: &Pool,
    monitor: &Monitor,
) -> Result<WordCounts> {
    monitor.set_total(texts.len() as u64);
    let bytes_per_text = (texts.total_bytes() / texts.len().max(1) as u64).max(1);
    let grain = usize::try_from(CHUNK_BYTES / bytes_per_text)
        .unwrap_or(1)
        .clamp(1, 1 << 16);
    let chunks = pool.map_chunks(texts.len(), grain, monitor, |rows| {
        let mut counts = Counts::default();
        let mut pieces = 0u32;
        for row in rows {
            pattern.split(texts.get(row), |piece| {
                pieces = pieces.wrapping_add(1);
                if pieces.is_multiple_of(CHECK_PIECES) {
                    monitor.check()?;
                }
                *counts.entry(piece).or_insert(0) += 1;
                Ok(())
            })?;
            monitor.advance(1);
        }
        Ok(counts)
    })?;
    let mut all = Counts::default();
    if let Some((words, counts)) = known {
        check_counts(words, counts)?;
        for (row, count) in counts.iter().enumerate() {
            add(&mut all, words.get(row), *count)?;
        }
    }
    for chunk in chunks {
        monitor.check()?;
        for (word, count) in chunk {
            add(&mut all, word, count)?;
        }
    }
    let mut words: Vec<(&str, u64)> = limits::with_capacity(all.len(), "words")?;
    words.extend(all);
    monitor.check()?;
    words.sort_unstable();
    let bytes = words.iter().map(|(word, _)| word.len()).sum();
    let mut counted = WordCounts {
        data: limits::with_capacity(bytes, "words")?,
        offsets: limits::with_capacity(words.len() + 1, "offsets of words")?,
        counts: limits::with_capacity(words.len(), "counts of words")?,
    };
    counted.offsets.push(0);
    for (word, count) in words {
        counted.data.extend_from_slice(word.as_bytes());
        counted.offsets.push(counted.data.len() as i64);
        counted.counts.push(count);
    }
    Ok(counted)
}

fn add<'a>(all: &mut Counts<'a>, word: &'a str, count: u64) -> Result<()> {
    let entry = all.entry(word).or_insert(0);
    let sum = entry.checked_add(count);
    *entry = sum.ok_or_else(|| Error::input("counts", "the counts of a word do not fit 64 bits"))?;
    Ok(())
}

/// One count a word.
pub fn check_counts(words: &Texts<'_>, counts: &[u64]) -> Result<()> {
    if words.len() == counts.len() {
        return Ok(());
    }
    Err(Error::input(
        "counts",
        format!("{} counts for {} words", counts.len(), words.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(texts: &[&str]) -> (Vec<i64>, Vec<u8>) {
        let mut offsets = vec![0];
        for text in texts {
            offsets.push(offsets.last().unwrap() + text.len() as i64);
        }
        (offsets, texts.concat().into_bytes())
    }

    #[test]
    fn counts_add_up_over_calls_and_threads() {
        let monitor = Monitor::new();
        let (offsets, data) = column(&["the cell the cell", "a cell", ""]);
        for threads in [1, 3] {
            let pool = Pool::new(Some(threads)).unwrap();
            let texts = Texts::new([(&offsets[..], &data[..])], 1 << 20, &pool, &monitor).unwrap();
            let once = count_words(&texts, Pattern::Llama3, None, &pool, &monitor).unwrap();
            assert_eq!(once.data, b" cell theathe");
            assert_eq!(once.counts, [3, 1, 1, 1]);
            let words = Texts::new([(&once.offsets[..], &once.data[..])], 1 << 20, &pool, &monitor).unwrap();
            let twice = count_words(
                &texts,
                Pattern::Llama3,
                Some((&words, &once.counts)),
                &pool,
                &monitor,
            )
            .unwrap();
            assert_eq!(twice.counts, [6, 2, 2, 2]);
            assert!(count_words(&texts, Pattern::Llama3, Some((&words, &[1])), &pool, &monitor).is_err());
        }
    }
}
