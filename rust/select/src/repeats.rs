//! Repeated n-grams of one document's words, exactly and in time linear in the words for each n.
//!
//! An n-gram that occurs twice begins with an (n−1)-gram that occurs twice and is followed by another one. So the
//! positions are held in classes of equal n-grams, and only classes of two or more go on to n+1: each class is
//! split by the word that comes next, with one array over the distinct words and no hashing. In a natural text
//! few positions are left at n = 3.

use biollm_core::{Monitor, Result, limits};

/// Of a position whose n-gram occurs once, or of a word without a class.
const NONE: u32 = u32::MAX;

/// Turns of a loop between two looks at the monitor.
const CHECK_EVERY: usize = 1 << 16;

/// The repeated n-grams of a document, from n = 1 upwards. Made once and filled for each document.
#[derive(Default)]
pub struct RepeatedNgrams {
    /// The current order.
    n: usize,
    /// Class of the n-gram at each position.
    class: Vec<u32>,
    /// Positions of repeated n-grams by class, rising within each.
    positions: Vec<u32>,
    /// Where each class begins in `positions`, and the end of the last.
    starts: Vec<u32>,
    /// Working space: the next `positions`; for each of `positions` its part of the class; sizes of the parts.
    next_positions: Vec<u32>,
    part: Vec<u32>,
    part_sizes: Vec<u32>,
    /// For each distinct word, the class that met it last and the part it then began.
    met_by: Vec<u32>,
    part_of: Vec<u32>,
    /// Whether the walk of [`RepeatedNgrams::duplicate_characters`] has met each class.
    met: Vec<bool>,
}

impl RepeatedNgrams {
    /// Begins a document: `words` are its words as numbers below `counts.len()`, which says how often each occurs.
    pub fn begin(&mut self, words: &[u32], counts: &[u32], monitor: &Monitor) -> Result<()> {
        self.n = 1;
        for (buffer, len) in [
            (&mut self.class, words.len()),
            (&mut self.met_by, counts.len()),
            (&mut self.part_of, counts.len()),
        ] {
            refill(buffer, len)?;
        }
        // `met_by` holds the class of each word here.
        self.starts.clear();
        limits::reserve(&mut self.starts, counts.len() + 1, "repeated n-grams")?;
        let mut total = 0u32;
        for (word, &count) in counts.iter().enumerate() {
            if count >= 2 {
                self.met_by[word] = self.starts.len() as u32;
                self.starts.push(total);
                total += count;
            }
        }
        refill(&mut self.positions, total as usize)?;
        for (i, &word) in words.iter().enumerate() {
            if i % CHECK_EVERY == 0 {
                monitor.check()?;
            }
            let class = self.met_by[word as usize];
            self.class[i] = class;
            if class != NONE {
                let place = &mut self.starts[class as usize];
                self.positions[*place as usize] = i as u32;
                *place += 1;
            }
        }
        self.ends_to_starts(total);
        Ok(())
    }

    /// Goes on to n + 1.
    pub fn advance(&mut self, words: &[u32], monitor: &Monitor) -> Result<()> {
        let n = self.n;
        self.n += 1;
        self.part.clear();
        self.part_sizes.clear();
        limits::reserve(&mut self.part, self.positions.len(), "repeated n-grams")?;
        limits::reserve(&mut self.part_sizes, self.positions.len(), "repeated n-grams")?;
        self.met_by.fill(NONE);
        for (class, bounds) in self.starts.windows(2).enumerate() {
            if class % CHECK_EVERY == 0 {
                monitor.check()?;
            }
            for (turn, &position) in self.positions[bounds[0] as usize..bounds[1] as usize]
                .iter()
                .enumerate()
            {
                if turn % CHECK_EVERY == CHECK_EVERY - 1 {
                    monitor.check()?;
                }
                let i = position as usize;
                if i + n >= words.len() || self.class[i + 1] == NONE {
                    self.part.push(NONE);
                    continue;
                }
                let word = words[i + n] as usize;
                if self.met_by[word] != class as u32 {
                    self.met_by[word] = class as u32;
                    self.part_of[word] = self.part_sizes.len() as u32;
                    self.part_sizes.push(0);
                }
                let part = self.part_of[word];
                self.part_sizes[part as usize] += 1;
                self.part.push(part);
            }
        }
        // Parts of two or more become the new classes; `part_sizes` turns into the class of each part.
        self.starts.clear();
        let mut total = 0u32;
        for size in &mut self.part_sizes {
            if *size >= 2 {
                let class = self.starts.len() as u32;
                limits::reserve(&mut self.starts, 2, "repeated n-grams")?;
                self.starts.push(total);
                total += *size;
                *size = class;
            } else {
                *size = NONE;
            }
        }
        refill(&mut self.next_positions, total as usize)?;
        for (k, (&position, &part)) in self.positions.iter().zip(&self.part).enumerate() {
            if k % CHECK_EVERY == 0 {
                monitor.check()?;
            }
            let class = if part == NONE {
                NONE
            } else {
                self.part_sizes[part as usize]
            };
            self.class[position as usize] = class;
            if class != NONE {
                let place = &mut self.starts[class as usize];
                self.next_positions[*place as usize] = position;
                *place += 1;
            }
        }
        std::mem::swap(&mut self.positions, &mut self.next_positions);
        self.ends_to_starts(total);
        Ok(())
    }

    /// After placing, each class's start has moved to its end: shifts them back and appends the total.
    fn ends_to_starts(&mut self, total: u32) {
        self.starts.push(total);
        let classes = self.starts.len() - 1;
        self.starts.copy_within(0..classes, 1);
        self.starts[0] = 0;
    }

    /// Length × count of the most frequent n-gram (the first to occur among equals), its words joined by blanks;
    /// `lengths` are the words' characters. 0 where there are fewer than n words.
    pub fn top_characters(&self, words: &[u32], lengths: &[u32]) -> u64 {
        let mut best: Option<(u32, u32)> = None; // count, first position
        for bounds in self.starts.windows(2) {
            let (count, first) = (bounds[1] - bounds[0], self.positions[bounds[0] as usize]);
            if best.is_none_or(|(c, f)| count > c || (count == c && first < f)) {
                best = Some((count, first));
            }
        }
        let (count, first) = best.unwrap_or((1, 0));
        match words.get(first as usize..first as usize + self.n) {
            Some(ngram) => u64::from(count) * (characters(ngram, lengths) + self.n as u64 - 1),
            None => 0,
        }
    }

    /// Characters of repeated n-grams, walking from the left: an n-gram met before counts with its words' characters
    /// and the walk goes on behind it; another one is noted and the walk goes on at the next word.
    pub fn duplicate_characters(&mut self, words: &[u32], lengths: &[u32], monitor: &Monitor) -> Result<u64> {
        let classes = self.starts.len() - 1;
        if classes == 0 {
            return Ok(0);
        }
        self.met.clear();
        limits::reserve(&mut self.met, classes, "repeated n-grams")?;
        self.met.resize(classes, false);
        let (mut total, mut i, mut next_check) = (0u64, 0, 0);
        while i + self.n <= words.len() {
            if i >= next_check {
                monitor.check()?;
                next_check = i + CHECK_EVERY;
            }
            let class = self.class[i];
            if class == NONE {
                i += 1;
            } else if std::mem::replace(&mut self.met[class as usize], true) {
                total += characters(&words[i..i + self.n], lengths);
                i += self.n;
            } else {
                i += 1;
            }
        }
        Ok(total)
    }
}

fn characters(ngram: &[u32], lengths: &[u32]) -> u64 {
    ngram.iter().map(|&word| u64::from(lengths[word as usize])).sum()
}

/// Makes a buffer `len` times `NONE`.
fn refill(buffer: &mut Vec<u32>, len: usize) -> Result<()> {
    buffer.clear();
    limits::reserve(buffer, len, "repeated n-grams")?;
    buffer.resize(len, NONE);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn top(words: &[u32], lengths: &[u32], n: usize) -> u64 {
        let mut counts: HashMap<&[u32], (u64, usize)> = HashMap::new();
        for (i, ngram) in words.windows(n).enumerate() {
            counts.entry(ngram).or_insert((0, i)).0 += 1;
        }
        let best = counts
            .iter()
            .max_by_key(|(_, (count, first))| (*count, std::cmp::Reverse(*first)));
        best.map_or(0, |(ngram, (count, _))| {
            count * (characters(ngram, lengths) + n as u64 - 1)
        })
    }

    fn duplicates(words: &[u32], lengths: &[u32], n: usize) -> u64 {
        let (mut seen, mut total, mut i) = (HashSet::new(), 0, 0);
        while i + n <= words.len() {
            if seen.insert(&words[i..i + n]) {
                i += 1;
            } else {
                total += characters(&words[i..i + n], lengths);
                i += n;
            }
        }
        total
    }

    fn check(words: &[u32], distinct: usize, ngrams: &mut RepeatedNgrams) {
        let mut counts = vec![0; distinct];
        words.iter().for_each(|&w| counts[w as usize] += 1);
        let lengths: Vec<u32> = (0..distinct as u32).map(|w| 1 + w * 7 % 5).collect();
        let monitor = Monitor::new();
        ngrams.begin(words, &counts, &monitor).unwrap();
        for n in 2..=10 {
            ngrams.advance(words, &monitor).unwrap();
            assert_eq!(
                ngrams.top_characters(words, &lengths),
                top(words, &lengths, n),
                "top {n}"
            );
            let got = ngrams.duplicate_characters(words, &lengths, &monitor).unwrap();
            assert_eq!(got, duplicates(words, &lengths, n), "duplicates {n}");
        }
    }

    proptest! {
        #[test]
        fn equal_to_counting_all(distinct in 1usize..8, seed in prop::collection::vec(0u32..1000, 0..120), copies in 1usize..4) {
            let once: Vec<u32> = seed.iter().map(|s| s % distinct as u32).collect();
            let mut ngrams = RepeatedNgrams::default();
            check(&once.repeat(copies), distinct, &mut ngrams);
            check(&once, distinct, &mut ngrams); // working space of another document is left in it
        }
    }

    #[test]
    fn one_word_over_and_over() {
        check(&[0; 300], 1, &mut RepeatedNgrams::default());
        check(&[], 0, &mut RepeatedNgrams::default());
        check(&[0], 1, &mut RepeatedNgrams::default());
    }

    #[test]
    fn the_work_for_each_n_is_at_most_the_words() {
        let many = 1 << 20;
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = biollm_core::hash::splitmix64(state);
            (state % below) as u32
        };
        let texts: [Vec<u32>; 4] = [
            vec![0; many],
            (0..many as u32).map(|i| i % 2).collect(),
            (0..many).map(|_| random(2)).collect(),
            (0..many as u32).map(|i| i % 1000).collect(),
        ];
        let monitor = Monitor::new();
        let mut ngrams = RepeatedNgrams::default();
        for words in &texts {
            let mut counts = vec![0; 1000];
            words.iter().for_each(|&w| counts[w as usize] += 1);
            ngrams.begin(words, &counts, &monitor).unwrap();
            for _ in 2..=10 {
                // Every turn of a loop of `advance` is one of these.
                let turns = ngrams.positions.len();
                ngrams.advance(words, &monitor).unwrap();
                assert!(turns <= words.len() && ngrams.part.len() == turns);
                assert!(ngrams.part_sizes.len() <= turns && ngrams.starts.len() <= turns / 2 + 1);
                assert!(ngrams.duplicate_characters(words, &[1; 1000], &monitor).unwrap() <= many as u64);
            }
        }
    }
}
