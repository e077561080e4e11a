//! Training: the merges that byte-pair encoding learns from word counts (Sennrich et al. 2016, arXiv 1508.07909).
//!
//! Greedy and exact: each step merges the pair of the highest count, of equals the one of the smaller ids. Counts are
//! kept up to date by the neighbours that each merge changes, and a pair knows where it stands, so a step costs as
//! much as it changes, in long words (proteins, DNA) too. Merges equal those of `tokenizers`' `BpeTrainer` over the
//! same words, down to its treatment of a token that two pairs make: the second pair keeps the first one's id, and
//! counts are not reset by a merge.

use crate::added::AddedToken;
use crate::byte_level;
use crate::merges::Merges;
use crate::split::Pattern;
use crate::tokenizer::Tokenizer;
use crate::tokens::{MAX_VOCAB, Tokens};
use crate::words::check_counts;
use biollm_core::{Error, Monitor, Result, hash::splitmix64, limits};
use biollm_text::Texts;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// No symbol: before the first and behind the last of a word.
const NONE: u32 = u32::MAX;
/// Loop turns between two looks at the stop token.
const CHECK_TURNS: usize = 1 << 14;

/// What to train.
pub struct Options<'a> {
    /// Ids in all, special tokens and the 256 bytes among them.
    pub vocab_size: usize,
    /// Get the first ids, in order.
    pub special_tokens: &'a [String],
    /// A pair of a smaller count is not merged.
    pub min_frequency: u64,
    /// Of the tokenizer that is made; the words were split by it.
    pub pattern: Pattern,
}

/// Trains a vocabulary of exactly `vocab_size` ids; an `Input` error says how many the words allow if they are fewer.
pub fn train(
    words: &Texts<'_>,
    counts: &[u64],
    options: &Options<'_>,
    monitor: &Monitor,
) -> Result<Tokenizer> {
    check_counts(words, counts)?;
    let least = options.special_tokens.len() + 256;
    if options.vocab_size < least || options.vocab_size > MAX_VOCAB {
        let message = format!(
            "vocab_size is {}: it must be {least} (256 bytes and {} special tokens) to {MAX_VOCAB}",
            options.vocab_size,
            options.special_tokens.len()
        );
        return Err(Error::input("vocab_size", message));
    }
    let mut added: Vec<AddedToken> = Vec::new();
    for (id, content) in options.special_tokens.iter().enumerate() {
        // A single character of the alphabet would be a byte's token.
        let byte = content.chars().count() == 1 && content.chars().all(|c| byte_level::byte_of(c).is_some());
        if content.is_empty() || byte || added.iter().any(|token| token.content == *content) {
            let message = format!("special token {content:?} is empty, a single character, or given twice");
            return Err(Error::input("special_tokens", message));
        }
        added.push(AddedToken {
            id: id as u32,
            content: content.clone(),
            special: true,
            normalized: false,
        });
    }
    monitor.set_total((options.vocab_size - least) as u64);
    let mut learner = Learner::new(words, counts, &added, monitor)?;
    learner.learn(options, monitor)?;
    if learner.tokens.len() < options.vocab_size {
        let message = format!(
            "the text allows a vocabulary of at most {} (pairs that occur {} times or more), not {}: \
             give more text or a smaller vocab_size",
            learner.tokens.len(),
            options.min_frequency.max(1),
            options.vocab_size
        );
        return Err(Error::input("vocab_size", message));
    }
    let Learner { tokens, merges, .. } = learner;
    let plain = tokens
        .into_iter()
        .enumerate()
        .skip(added.len())
        .map(|(id, bytes)| (id as u32, bytes));
    let tokens = Tokens::new(plain.collect())?;
    let merges = Merges::new(&merges, &tokens)?;
    Tokenizer::new(options.pattern, tokens, merges, false, added)
}

/// Mixes the one u64 that a pair is.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = splitmix64(self.0 ^ u64::from(byte));
        }
    }
    fn write_u64(&mut self, pair: u64) {
        self.0 = splitmix64(pair);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

type PairMap<T> = HashMap<u64, T, BuildHasherDefault<PairHasher>>;

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// A symbol of some word; symbols of one word are linked by position.
#[derive(Clone, Copy)]
struct Symbol {
    /// `NONE` once it was swallowed by the one before it.
    id: u32,
    prev: u32,
    next: u32,
    word: u32,
}

/// Where a pair stood when it was put into the queue, under the count it had then.
struct Candidate {
    count: u64,
    pair: u64,
    places: Vec<u32>,
}

impl Candidate {
    fn rank(&self) -> (u64, Reverse<u64>) {
        (self.count, Reverse(self.pair))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}
impl Eq for Candidate {}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

struct Learner<'a> {
    symbols: Vec<Symbol>,
    word_counts: &'a [u64],
    pair_counts: PairMap<i64>,
    queue: BinaryHeap<Candidate>,
    /// Bytes of each id; special tokens have none.
    tokens: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
    /// What no merge may make: it would turn plain text into a special token.
    forbidden: HashSet<Vec<u8>>,
    /// (left, right, rank, merged)
    merges: Vec<(u32, u32, u32, u32)>,
}

impl<'a> Learner<'a> {
    fn new(
        words: &Texts<'_>,
        word_counts: &'a [u64],
        added: &[AddedToken],
        monitor: &Monitor,
    ) -> Result<Self> {
        if words.total_bytes() >= u64::from(NONE) {
            let hint = "train on a sample of the text";
            return Err(Error::limit(
                "bytes of distinct words",
                words.total_bytes(),
                u64::from(NONE) - 1,
                hint,
            ));
        }
        if word_counts
            .iter()
            .try_fold(0u64, |sum, &n| sum.checked_add(n))
            .is_none_or(|sum| sum > 1 << 62)
        {
            return Err(Error::input(
                "counts",
                "the counts of all words do not fit 62 bits",
            ));
        }
        // Bytes in the order of their characters, after the special tokens: ids decide ties.
        let mut alphabet: Vec<u8> = (0..=255).collect();
        alphabet.sort_unstable_by_key(|&b| byte_level::CHARS[usize::from(b)]);
        let mut tokens: Vec<Vec<u8>> = vec![Vec::new(); added.len()];
        let mut byte_ids = [0u32; 256];
        for byte in alphabet {
            byte_ids[usize::from(byte)] = tokens.len() as u32;
            tokens.push(vec![byte]);
        }
        let ids = tokens
            .iter()
            .enumerate()
            .skip(added.len())
            .map(|(id, b)| (b.clone(), id as u32))
            .collect();
        let forbidden = added
            .iter()
            .filter_map(|token| byte_level::decode(&token.content).ok())
            .collect();
        let mut symbols = limits::with_capacity(words.total_bytes() as usize, "symbols of words")?;
        for row in 0..words.len() {
            if row.is_multiple_of(CHECK_TURNS) {
                monitor.check()?;
            }
            let bytes = words.get(row).as_bytes();
            for (i, &byte) in bytes.iter().enumerate() {
                let at = symbols.len() as u32;
                let prev = if i == 0 { NONE } else { at - 1 };
                let next = if i + 1 == bytes.len() { NONE } else { at + 1 };
                symbols.push(Symbol {
                    id: byte_ids[usize::from(byte)],
                    prev,
                    next,
                    word: row as u32,
                });
            }
        }
        let (pair_counts, queue) = (PairMap::default(), BinaryHeap::new());
        let mut learner = Self {
            symbols,
            word_counts,
            pair_counts,
            queue,
            tokens,
            ids,
            forbidden,
            merges: Vec::new(),
        };
        learner.count_pairs(monitor)?;
        Ok(learner)
    }

    fn count_pairs(&mut self, monitor: &Monitor) -> Result<()> {
        let mut occurrences: PairMap<usize> = PairMap::default();
        for (i, symbol) in self.symbols.iter().enumerate() {
            if i.is_multiple_of(CHECK_TURNS) {
                monitor.check()?;
            }
            if symbol.next != NONE {
                let pair = pair(symbol.id, self.symbols[symbol.next as usize].id);
                *occurrences.entry(pair).or_insert(0) += 1;
                *self.pair_counts.entry(pair).or_insert(0) += self.word_counts[symbol.word as usize] as i64;
            }
        }
        let mut places: PairMap<Vec<u32>> = PairMap::default();
        for (&pair, &n) in &occurrences {
            places.insert(pair, limits::with_capacity(n, "places of pairs")?);
        }
        for (i, symbol) in self.symbols.iter().enumerate() {
            if i.is_multiple_of(CHECK_TURNS) {
                monitor.check()?;
            }
            if symbol.next != NONE
                && let Some(list) = places.get_mut(&pair(symbol.id, self.symbols[symbol.next as usize].id))
            {
                list.push(i as u32);
            }
        }
        self.enqueue(places)
    }

    fn enqueue(&mut self, places: impl IntoIterator<Item = (u64, Vec<u32>)>) -> Result<()> {
        for (pair, places) in places {
            let count = self.pair_counts.get(&pair).copied().unwrap_or(0);
            if count > 0 {
                self.queue.push(Candidate {
                    count: count as u64,
                    pair,
                    places,
                });
            }
        }
        Ok(())
    }

    fn learn(&mut self, options: &Options<'_>, monitor: &Monitor) -> Result<()> {
        let mut merged_pairs: PairMap<usize> = PairMap::default();
        while self.tokens.len() < options.vocab_size {
            monitor.check()?;
            let Some(mut top) = self.queue.pop() else { break };
            let count = self.pair_counts.get(&top.pair).copied().unwrap_or(0).max(0) as u64;
            if top.count != count {
                top.count = count;
                self.queue.push(top);
                continue;
            }
            if count < options.min_frequency.max(1) {
                break;
            }
            let (left, right) = ((top.pair >> 32) as u32, top.pair as u32);
            let bytes = [&self.tokens[left as usize][..], &self.tokens[right as usize][..]].concat();
            if self.forbidden.contains(&bytes) || bytes.len() > crate::tokens::MAX_TOKEN_BYTES {
                continue;
            }
            let merged = match self.ids.get(&bytes) {
                Some(&id) => id,
                None => {
                    let id = self.tokens.len() as u32;
                    self.ids.insert(bytes.clone(), id);
                    self.tokens.push(bytes);
                    monitor.advance(1);
                    id
                }
            };
            let rank = self.merges.len() as u32;
            // A pair that a reused id brought back is in the queue twice; its later turn gives its rank.
            if let Some(earlier) = merged_pairs.insert(top.pair, self.merges.len()) {
                self.merges[earlier].2 = NONE;
            }
            self.merges.push((left, right, rank, merged));
            let places = self.merge(left, right, merged, top.places, monitor)?;
            self.enqueue(places)?;
        }
        self.merges.retain(|merge| merge.2 != NONE);
        for (rank, merge) in self.merges.iter_mut().enumerate() {
            merge.2 = rank as u32;
        }
        Ok(())
    }

    /// Merges the pair at `places`, left to right; gives the places of the pairs that come into being.
    fn merge(
        &mut self,
        left: u32,
        right: u32,
        merged: u32,
        mut places: Vec<u32>,
        monitor: &Monitor,
    ) -> Result<Vec<(u64, Vec<u32>)>> {
        if !places.is_sorted() {
            places.sort_unstable();
        }
        let mut born: PairMap<Vec<u32>> = PairMap::default();
        for (turn, at) in places.into_iter().enumerate() {
            if turn.is_multiple_of(CHECK_TURNS) {
                monitor.check()?;
            }
            let first = self.symbols[at as usize];
            if first.id != left || first.next == NONE {
                continue;
            }
            let second = self.symbols[first.next as usize];
            if second.id != right {
                continue;
            }
            let weight = self.word_counts[first.word as usize] as i64;
            self.symbols[first.next as usize].id = NONE;
            self.symbols[at as usize].id = merged;
            self.symbols[at as usize].next = second.next;
            let mut change = |old: u64, new: u64, place: u32| -> Result<()> {
                *self.pair_counts.entry(old).or_insert(0) -= weight;
                *self.pair_counts.entry(new).or_insert(0) += weight;
                let list = born.entry(new).or_default();
                limits::reserve(list, 1, "places of pairs")?;
                list.push(place);
                Ok(())
            };
            if first.prev != NONE {
                let before = self.symbols[first.prev as usize].id;
                change(pair(before, left), pair(before, merged), first.prev)?;
            }
            if second.next != NONE {
                self.symbols[second.next as usize].prev = at;
                let behind = self.symbols[second.next as usize].id;
                change(pair(right, behind), pair(merged, behind), at)?;
            }
        }
        Ok(born.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use biollm_core::Pool;

    fn learn(words: &[(&str, u64)], vocab_size: usize, special: &[&str]) -> Result<Tokenizer> {
        let mut offsets = vec![0i64];
        let mut data = vec![];
        for (word, _) in words {
            data.extend_from_slice(word.as_bytes());
            offsets.push(data.len() as i64);
        }
        let counts: Vec<u64> = words.iter().map(|w| w.1).collect();
        let (pool, monitor) = (Pool::new(Some(1))?, Monitor::new());
        let texts = Texts::new([(&offsets[..], &data[..])], 1 << 30, &pool, &monitor)?;
        let special: Vec<String> = special.iter().map(|s| (*s).to_string()).collect();
        let options = Options {
            vocab_size,
            special_tokens: &special,
            min_frequency: 1,
            pattern: Pattern::Llama3,
        };
        train(&texts, &counts, &options, &monitor)
    }

    #[test]
    fn highest_count_then_smaller_ids() {
        let t = learn(&[("low", 5), ("lower", 2), ("new", 6), ("wow", 1)], 262, &[]).unwrap();
        let shown: Vec<String> = (256..262)
            .map(|id| String::from_utf8_lossy(t.id_to_token(id).unwrap()).into_owned())
            .collect();
        // ow 8; then low 7; of ew, ne 6: e < n; then new 6; of er, lowe, we: lowe, since …
        assert_eq!(shown[..4], ["ow", "low", "ew", "new"]);
    }

    #[test]
    fn runs_of_one_character() {
        let t = learn(&[("aaaaaaa", 3)], 258, &[]).unwrap();
        assert_eq!(t.id_to_token(256), Some(&b"aa"[..]));
        assert_eq!(t.id_to_token(257), Some(&b"aaaa"[..]));
    }

    #[test]
    fn a_merge_never_makes_a_special_token() {
        let t = learn(&[("<eos>", 9)], 260, &["<eos>"]).unwrap();
        assert_eq!(t.token_to_id(b"<eos>"), Some(0));
        assert!(t.tokens.id(b"<eos>").is_none());
    }

    #[test]
    fn more_ids_than_the_words_allow() {
        assert!(matches!(learn(&[("ab", 1)], 259, &[]), Err(Error::Input { .. })));
        assert!(learn(&[("ab", 1)], 257, &[]).is_ok());
        assert!(matches!(learn(&[], 257, &[]), Err(Error::Input { .. })));
        assert!(learn(&[("ab", 1)], 255, &[]).is_err());
        assert!(learn(&[("ab", 1)], 300, &["x"]).is_err());
    }

    #[test]
    fn one_long_word_is_not_quadratic() {
        let word = "ACGT".repeat(50_000);
        assert!(learn(&[(&word, 1)], 266, &[]).is_ok());
    }
}
