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

/// Masks of the first 0 to 16 bytes, little-endian.
static FIRST_BYTES: [u128; 17] = first_bytes();

const fn first_bytes() -> [u128; 17] {
    let mut masks = [u128::MAX; 17];
    let mut length = 0;
    while length < 16 {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
}

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

/// [`word_hash_in`] of a word of one byte or more, without a branch on its length up to 16: lengths of words follow no
/// pattern that a processor could learn.
#[inline(always)]
pub fn word_hash_at(text: &str, start: usize, end: usize) -> u64 {
    let bytes = text.as_bytes();
    let length = end - start;
    let Some(sixteen) = bytes[start..].first_chunk::<16>() else {
        return word_hash_in(text, start, end);
    };
    if length > 16 {
        return word_hash_in(text, start, end);
    }
    let both = u128::from_le_bytes(*sixteen) & FIRST_BYTES[length];
    let (first, second) = (both as u64, (both >> 64) as u64);
    if (first | second) & HIGH_BITS != 0 {
        return unicode_word_hash(&text[start..end]);
    }
    let short = fold(SEED ^ ascii_lower(first));
    let long = fold(short ^ ascii_lower(second));
    let hash = std::hint::select_unpredictable(length > 8, long, short);
    hash ^ (length as u64).wrapping_mul(LENGTH)
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

/// Takes the word hashes of a text one by one and gives the hashes of its n-grams in blocks.
pub struct Ngrams {
    n: usize,
    /// `BASE` to the power of n - 1.
    top: u64,
    /// The last n - 1 words of the block before, then those of this one.
    words: [u64; BLOCK],
    filled: usize,
    given: u64,
}

/// Word hashes held at a time: small enough to stay in the first cache.
const BLOCK: usize = 512;

impl Ngrams {
    /// N-grams of `n` words, 1 to [`MAX_NGRAM`] (a value outside is taken as the nearest inside).
    pub fn new(n: usize) -> Self {
        let n = n.clamp(1, MAX_NGRAM);
        Self {
            n,
            top: (1..n).fold(1u64, |power, _| power.wrapping_mul(BASE)),
            words: [0; BLOCK],
            filled: 0,
            given: 0,
        }
    }

    /// Takes the hash of the next word; whether there is room for no other before [`give`](Self::give).
    #[inline(always)]
    pub fn push(&mut self, word: u64) -> bool {
        self.words[self.filled] = word;
        self.filled += 1;
        self.filled == BLOCK
    }

    /// Hands the hashes of the n-grams that end with a word taken since the last time to `visit`, which is not called
    /// where there are none.
    pub fn give<E>(&mut self, visit: impl FnOnce(&[u64]) -> Result<(), E>) -> Result<(), E> {
        let kept = self.filled.min(self.n - 1);
        let count = self.filled - kept;
        if count == 0 {
            return Ok(());
        }
        let mut polynomial = self.words[..kept]
            .iter()
            .fold(0u64, |p, &word| p.wrapping_mul(BASE).wrapping_add(word));
        for i in 0..count {
            // An n-gram takes the place of its first word, which no other has.
            let leaves = self.words[i];
            polynomial = polynomial.wrapping_mul(BASE).wrapping_add(self.words[i + kept]);
            self.words[i] = polynomial;
            polynomial = polynomial.wrapping_sub(leaves.wrapping_mul(self.top));
        }
        for ngram in &mut self.words[..count] {
            *ngram = finish(*ngram, self.n as u64);
        }
        let visited = visit(&self.words[..count]);
        self.words.copy_within(count..self.filled, 0);
        self.filled = kept;
        self.given += count as u64;
        visited
    }

    /// The hash of all words taken, where they are too few for an n-gram; `None` where there are none.
    pub fn whole(&self) -> Option<u64> {
        let too_few = self.given == 0 && (1..self.n).contains(&self.filled);
        too_few.then(|| ngram_hash(&self.words[..self.filled]))
    }

    /// The n-grams given so far.
    pub fn given(&self) -> u64 {
        self.given
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
        let text = "ONE Hundred and twenty-three ÉLITES quattuordecillions of a_b_c_d_e_f_g_h_i";
        for start in (0..text.len()).filter(|&i| text.is_char_boundary(i)) {
            for end in (start + 1..text.len() + 1).filter(|&i| text.is_char_boundary(i)) {
                assert_eq!(
                    word_hash_at(text, start, end),
                    word_hash(&text[start..end]),
                    "{start} {end}"
                );
            }
        }
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
        for (n, count) in [1, 2, 5, 13, MAX_NGRAM]
            .into_iter()
            .flat_map(|n| [n - 1, n, 50, BLOCK, BLOCK + 1, 3 * BLOCK + 7].map(|count| (n, count)))
        {
            let words: Vec<u64> = (0..count as u64).map(|i| splitmix64(i % 97)).collect();
            let mut ngrams = Ngrams::new(n);
            let mut rolled = Vec::new();
            let mut give = |ngrams: &mut Ngrams| {
                ngrams.give(|block| {
                    rolled.extend_from_slice(block);
                    Ok::<(), ()>(())
                })
            };
            for &word in &words {
                if ngrams.push(word) {
                    give(&mut ngrams).unwrap();
                }
            }
            give(&mut ngrams).unwrap();
            give(&mut ngrams).unwrap();
            let each: Vec<u64> = words.windows(n).map(ngram_hash).collect();
            assert_eq!(rolled, each, "n = {n}, {count} words");
            assert_eq!(ngrams.given(), each.len() as u64);
            let whole = (0 < count && count < n).then(|| ngram_hash(&words));
            assert_eq!(ngrams.whole(), whole, "n = {n}, {count} words");
        }
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
