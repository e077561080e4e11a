//! 64-bit hashes of words and of n-grams of words.
//!
//! **Normalisation.** A word is hashed in lower case, as `str::to_lowercase` gives it (full Unicode mapping with
//! the final sigma, the same as Python's `str.lower` at an equal Unicode version). Nothing else is changed: no
//! NFC or NFKC, no folding of accents or widths.
//!
//! **Word hash.** Blocks of 8 little-endian bytes, padded with zeros, folded by one 64×64→128-bit multiplication
//! each (the mixer of wyhash and foldhash, by a constant), and the length at the end.
//!
//! **N-gram hash.** The polynomial `Σ wᵢ·Bⁿ⁻¹⁻ⁱ mod 2⁶⁴` of the word hashes (Karp and Rabin 1987), which rolls in two
//! multiplications whatever n is, finished by splitmix64's bijective mixer.
//!
//! The hashes are not keyed: who knows them can make texts that collide. They are the same on every machine.

use biollm_core::hash::splitmix64;

/// The longest n-gram.
pub const MAX_NGRAM: usize = 64;

const SEED: u64 = 0x243F_6A88_85A3_08D3;
const FOLD: u64 = 0x9FB2_1C65_1E98_DF25;
const LENGTH: u64 = 0xA076_1D64_78BD_642F;
/// Odd, so that no word's hash is lost to the modulus.
const BASE: u64 = 0xD6E8_FEB8_6659_FD93;
/// Sets n-grams of different n apart, and whole texts from n-grams.
const COUNT: u64 = 0x8CB9_2BA7_2F3D_8DD7;

const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

#[inline]
fn fold(x: u64) -> u64 {
    let product = u128::from(x).wrapping_mul(u128::from(FOLD));
    (product as u64) ^ (product >> 64) as u64
}

/// Up to 8 bytes of `bytes[at..end]`, padded with zeros. What stands behind `end` is read past, not used.
#[inline]
fn block(bytes: &[u8], at: usize, end: usize) -> u64 {
    let size = end - at;
    if let Some(eight) = bytes.get(at..at + 8) {
        let mut array = [0; 8];
        array.copy_from_slice(eight);
        let value = u64::from_le_bytes(array);
        return if size < 8 {
            value & ((1 << (8 * size)) - 1)
        } else {
            value
        };
    }
    bytes[at..end]
        .iter()
        .rev()
        .fold(0, |value, &b| value << 8 | u64::from(b))
}

/// The block with its ASCII capitals in lower case; every byte must be ASCII.
#[inline]
fn ascii_lower(block: u64) -> u64 {
    let from_a = block.wrapping_add(ONES * u64::from(0x80 - b'A'));
    let past_z = block.wrapping_add(ONES * u64::from(0x80 - b'Z' - 1));
    block | (from_a & !past_z & HIGH_BITS) >> 2
}

/// The hash of `text[start..end]`, a word, in lower case. The text around it lets a short word be read at once.
#[inline(always)]
pub fn word_hash_in(text: &str, start: usize, end: usize) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = SEED;
    let mut at = start;
    while at < end {
        let block = block(bytes, at, end);
        if block & HIGH_BITS != 0 {
            return unicode_word_hash(&text[start..end]);
        }
        hash = fold(hash ^ ascii_lower(block));
        at += 8;
    }
    hash ^ ((end - start) as u64).wrapping_mul(LENGTH)
}

/// The hash of a word in lower case.
pub fn word_hash(word: &str) -> u64 {
    word_hash_in(word, 0, word.len())
}

/// [`word_hash_in`] for a word that is not all ASCII.
#[cold]
#[inline(never)]
fn unicode_word_hash(word: &str) -> u64 {
    let mut blocks = Blocks::default();
    if word.contains('Σ') {
        // The one character whose lower case depends on its neighbours.
        word.to_lowercase().bytes().for_each(|b| blocks.push(b));
    } else {
        let mut utf8 = [0; 4];
        for lower in word.chars().flat_map(char::to_lowercase) {
            lower.encode_utf8(&mut utf8).bytes().for_each(|b| blocks.push(b));
        }
    }
    blocks.finish()
}

/// The hash of a text as it stands, in its own case.
pub fn text_hash(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = SEED;
    let mut at = 0;
    while at < bytes.len() {
        hash = fold(hash ^ block(bytes, at, bytes.len().min(at + 8)));
        at += 8;
    }
    hash ^ (bytes.len() as u64).wrapping_mul(LENGTH)
}

/// The word hash over bytes that come one by one.
struct Blocks {
    hash: u64,
    block: u64,
    length: u64,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            hash: SEED,
            block: 0,
            length: 0,
        }
    }
}

impl Blocks {
    fn push(&mut self, byte: u8) {
        self.block |= u64::from(byte) << (8 * (self.length % 8));
        self.length += 1;
        if self.length.is_multiple_of(8) {
            self.hash = fold(self.hash ^ self.block);
            self.block = 0;
        }
    }

    fn finish(self) -> u64 {
        let hash = if self.length.is_multiple_of(8) {
            self.hash
        } else {
            fold(self.hash ^ self.block)
        };
        hash ^ self.length.wrapping_mul(LENGTH)
    }
}

/// Rolls over the word hashes of a text and gives the hash of each n-gram.
#[derive(Clone)]
pub struct Ngrams {
    n: usize,
    /// `BASE` to the power of n - 1.
    top: u64,
    ring: [u64; MAX_NGRAM],
    next: usize,
    words: u64,
    polynomial: u64,
}

impl Ngrams {
    /// N-grams of `n` words, 1 to [`MAX_NGRAM`] (a value outside is taken as the nearest inside).
    pub fn new(n: usize) -> Self {
        let n = n.clamp(1, MAX_NGRAM);
        let top = (1..n).fold(1u64, |power, _| power.wrapping_mul(BASE));
        Self {
            n,
            top,
            ring: [0; MAX_NGRAM],
            next: 0,
            words: 0,
            polynomial: 0,
        }
    }

    /// Takes the hash of the next word; gives the hash of the n-gram that ends with it, once there are n words.
    #[inline]
    pub fn push(&mut self, word: u64) -> Option<u64> {
        // The word that leaves; zero while the ring fills.
        let leaves = self.ring[self.next];
        self.ring[self.next] = word;
        self.next = if self.next + 1 == self.n { 0 } else { self.next + 1 };
        self.polynomial = self
            .polynomial
            .wrapping_sub(leaves.wrapping_mul(self.top))
            .wrapping_mul(BASE)
            .wrapping_add(word);
        self.words += 1;
        if self.words >= self.n as u64 {
            Some(finish(self.polynomial, self.n as u64))
        } else {
            None
        }
    }

    /// The words taken so far.
    pub fn words(&self) -> u64 {
        self.words
    }

    /// The hash of all words taken so far, where they are fewer than n.
    pub fn whole(&self) -> u64 {
        finish(self.polynomial, self.words)
    }
}

#[inline]
fn finish(polynomial: u64, words: u64) -> u64 {
    splitmix64(polynomial.wrapping_add(words.wrapping_mul(COUNT)))
}

/// The hash of an n-gram given as its word hashes: what [`Ngrams`] rolls to.
pub fn ngram_hash(words: &[u64]) -> u64 {
    let polynomial = words
        .iter()
        .fold(0u64, |p, &word| p.wrapping_mul(BASE).wrapping_add(word));
    finish(polynomial, words.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_hash_is_that_of_the_lower_case() {
        let words = [
            "A",
            "Az",
            "[Z@",
            "ABCDEFG",
            "ABCDEFGH",
            "ABCDEFGHI",
            "aBcDeFgHiJkLmNoPqRsTuVwXyZ012",
            "É",
            "STRASSE",
            "ΟΔΟΣ",
            "ΣΟΦΟΣ",
            "İstanbul",
            "Ⅻ",
            "ABCDEFGÉ",
            "ABCDEFGHÉ",
            "\u{212a}elvin",
            "",
        ];
        for word in words {
            let lower = word.to_lowercase();
            assert_eq!(word_hash(word), word_hash(&lower), "{word}");
            // In lower case already, so its bytes are hashed as they are.
            assert_eq!(word_hash(&lower), text_hash(&lower), "{word}");
        }
        assert_ne!(word_hash("ab"), word_hash("ba"));
        assert_ne!(text_hash("A"), text_hash("a"));
    }

    #[test]
    fn the_neighbourhood_does_not_matter() {
        let text = "xHello wORLd, quattuordecillions!é";
        for (start, end) in [(1, 6), (7, 12), (14, 32), (0, 0)] {
            assert_eq!(word_hash_in(text, start, end), word_hash(&text[start..end]));
        }
        let tail = text.len();
        assert_eq!(word_hash_in(text, tail - 3, tail), word_hash("!é"));
    }

    #[test]
    fn padding_and_length_are_told_apart() {
        let hashes: HashSet<_> = ["", "\0", "\0\0", "a", "a\0", "aaaaaaaa", "aaaaaaaa\0"]
            .map(text_hash)
            .into();
        assert_eq!(hashes.len(), 7);
    }

    #[test]
    fn rolling_equals_hashing_each() {
        let words: Vec<u64> = (0..50).map(|i| splitmix64(i % 7)).collect();
        for n in [1, 2, 5, 13, MAX_NGRAM] {
            let mut ngrams = Ngrams::new(n);
            let rolled: Vec<u64> = words.iter().filter_map(|&w| ngrams.push(w)).collect();
            let each: Vec<u64> = words.windows(n).map(ngram_hash).collect();
            assert_eq!(rolled, each, "n = {n}");
            assert_eq!(ngrams.words(), 50);
        }
        let mut ngrams = Ngrams::new(5);
        assert!(ngrams.push(words[0]).is_none() && ngrams.push(words[1]).is_none());
        assert_eq!(ngrams.whole(), ngram_hash(&words[..2]));
    }

    #[test]
    fn order_and_count_matter() {
        let grams = [
            &[1, 2, 3][..],
            &[3, 2, 1],
            &[2, 1, 3],
            &[1, 2],
            &[1, 2, 0],
            &[0, 1, 2],
            &[],
        ];
        assert_eq!(
            grams.iter().map(|g| ngram_hash(g)).collect::<HashSet<_>>().len(),
            grams.len()
        );
    }

    #[test]
    fn no_collision_among_many_short_words() {
        let mut seen = HashSet::new();
        for a in b'a'..=b'z' {
            for b in b'a'..=b'z' {
                for c in b'0'..=b'z' {
                    for d in [b'x', b'y', b'1'] {
                        seen.insert(word_hash(std::str::from_utf8(&[a, b, c, d]).unwrap()));
                    }
                }
            }
        }
        // Capitals among `c` fold into the 26 lower-case letters.
        assert_eq!(seen.len(), 26 * 26 * (75 - 26) * 3);
    }
}
