//! Words of a text: the segments between the word boundaries of Unicode Standard Annex 29 that hold a letter or
//! a number, as `unicode_segmentation::unicode_word_indices` gives them, with a fast path for ASCII.
//!
//! Why the fast path is exact. The crate's forward iterator remembers nothing but the rest of the text (the
//! category it carries along is that of the rest's first character), so for each segment we may choose who
//! finds its end. For an ASCII character the rules come down to:
//! - letters, digits and `_` never part (WB5, WB8–10, WB13a, WB13b);
//! - `'` `.` `:` between two letters, and `'` `.` `,` `;` between two digits, do not part them (WB6, 7, 11, 12);
//! - a run of spaces is one segment (WB3d), and so is CR LF (WB3); all other ASCII characters stand alone, and
//!   only a non-ASCII character can attach itself to them (WB4).
//!
//! Each decision looks at the next character and, at one of `' . : , ;`, at the one after it. Where one of these
//! is not ASCII, the segment is left to the crate. The tests compare the two on every short string over an
//! alphabet with a member of each class, and on long random ones.

use biollm_core::Monitor;
use unicode_segmentation::UnicodeSegmentation;

/// The longest word. A longer segment comes in pieces of at most this many bytes, so that no input keeps a
/// kernel inside one word; texts whose segments are all shorter give exactly the segments of UAX 29.
pub const MAX_WORD_BYTES: usize = 1 << 15;

/// What the crate is shown of the rest of a text: a segment, and the next one for its look-ahead.
const WINDOW_BYTES: usize = 2 * MAX_WORD_BYTES + 8;

/// Bytes between two looks at the monitor.
pub(crate) const CHECK_BYTES: usize = 1 << 18;

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const UNDERSCORE: u8 = 4;
const WORD: u8 = LETTER | DIGIT | UNDERSCORE;
/// Does not part two letters (the bit of `LETTER`, shifted by `MID_SHIFT`).
const MID_LETTER: u8 = LETTER << MID_SHIFT;
/// Does not part two digits.
const MID_DIGIT: u8 = DIGIT << MID_SHIFT;
const MID_SHIFT: u8 = 3;
const NOT_ASCII: u8 = 32;

static CLASS: [u8; 256] = classes();

/// Whether an ASCII byte is a letter, a digit or `_`; false for the bytes of other characters.
#[inline]
pub(crate) fn is_ascii_word(byte: u8) -> bool {
    CLASS[byte as usize] & WORD != 0
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        table[i] = match b {
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'_' => UNDERSCORE,
            b'\'' | b'.' => MID_LETTER | MID_DIGIT,
            b':' => MID_LETTER,
            b',' | b';' => MID_DIGIT,
            0x80.. => NOT_ASCII,
            _ => 0,
        };
        i += 1;
    }
    table
}

/// The words of a text in order, each with the byte at which it starts. Made by [`words`]; allocates nothing.
#[derive(Clone)]
pub struct Words<'a> {
    text: &'a str,
    at: usize,
    monitor: Option<&'a Monitor>,
    next_check: usize,
}

/// The words of `text` (UAX 29 segments with at least one alphanumeric character), as `(start, word)`.
pub fn words(text: &str) -> Words<'_> {
    Words {
        text,
        at: 0,
        monitor: None,
        next_check: usize::MAX,
    }
}

impl<'a> Words<'a> {
    /// Looks at `monitor` now and then, and ends early once it is stopped: the caller asks `monitor.check()`
    /// after the loop. For kernels, whose single document may be large.
    pub fn watched(mut self, monitor: &'a Monitor) -> Self {
        self.monitor = Some(monitor);
        self.next_check = self.at;
        self
    }

    /// The end of the segment at `start` found by the crate, and whether the segment is a word.
    #[cold]
    fn segment(&self, start: usize) -> (usize, bool) {
        let window = &self.text[start..floor_char(self.text, start + WINDOW_BYTES)];
        let segment = window.split_word_bounds().next().unwrap_or(window);
        let segment = &segment[..floor_char(segment, MAX_WORD_BYTES)];
        (start + segment.len(), segment.chars().any(char::is_alphanumeric))
    }
}

impl<'a> Words<'a> {
    /// The next segment of any kind, as `(start, segment, is_word)`: for callers who also count punctuation.
    /// The segments of a text put together are the text.
    #[inline]
    pub fn next_segment(&mut self) -> Option<(usize, &'a str, bool)> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let first = *bytes.get(start)?;
        if start >= self.next_check {
            if self.monitor.is_some_and(|m| m.check().is_err()) {
                self.at = bytes.len();
                return None;
            }
            self.next_check = start + CHECK_BYTES;
        }
        let end = if CLASS[first as usize] & WORD != 0 {
            ascii_word_end(bytes, start)
        } else {
            ascii_separator_end(bytes, start)
        };
        let (end, is_word) = match end {
            Some(end) => {
                let is_word = match CLASS[first as usize] {
                    LETTER | DIGIT => true,
                    UNDERSCORE => bytes[start..end].iter().any(u8::is_ascii_alphanumeric),
                    _ => false,
                };
                (end, is_word)
            }
            None => self.segment(start),
        };
        self.at = end;
        Some((start, &self.text[start..end], is_word))
    }
}

impl Words<'_> {
    /// Goes on from the segment that begins at byte `at`.
    pub(crate) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Where the next segment begins.
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    /// Whether the next segment begins with a character that is not ASCII.
    pub(crate) fn before_other(&self) -> bool {
        self.text
            .as_bytes()
            .get(self.at)
            .is_some_and(|byte| !byte.is_ascii())
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = (usize, &'a str);

    #[inline]
    fn next(&mut self) -> Option<(usize, &'a str)> {
        loop {
            match self.next_segment()? {
                (start, word, true) => return Some((start, word)),
                _ => continue,
            }
        }
    }
}

impl std::iter::FusedIterator for Words<'_> {}

/// The end of the segment of letters, digits and `_` at `start`, or `None` where a non-ASCII character has a say.
#[inline]
fn ascii_word_end(bytes: &[u8], start: usize) -> Option<usize> {
    let limit = bytes.len().min(start + MAX_WORD_BYTES);
    let mut i = start + 1;
    loop {
        i = ascii_run_end(bytes, i, limit);
        if i >= limit {
            return Some(limit);
        }
        let class = CLASS[bytes[i] as usize];
        if class == 0 {
            return Some(i);
        }
        if class == NOT_ASCII {
            return None;
        }
        let Some(&next) = bytes.get(i + 1) else {
            return Some(i);
        };
        let next = CLASS[next as usize];
        if next == NOT_ASCII {
            return None;
        }
        if !joins_classes(CLASS[bytes[i - 1] as usize], class, next) {
            return Some(i);
        }
        i += 2;
    }
}

/// Whether a character between two others does not part them: all of these classes.
#[inline]
fn joins_classes(before: u8, middle: u8, after: u8) -> bool {
    (middle >> MID_SHIFT) & before & after & (LETTER | DIGIT) != 0
}

/// Whether the ASCII byte `middle`, between two others, does not part them.
#[inline]
pub(crate) fn joins(before: u8, middle: u8, after: u8) -> bool {
    joins_classes(
        CLASS[before as usize],
        CLASS[middle as usize],
        CLASS[after as usize],
    )
}

/// The first byte of `bytes[at..limit]` that is no letter, digit or `_`. Eight bytes at a time: a loop over single
/// ones would mispredict the end of nearly every word.
#[inline]
fn ascii_run_end(bytes: &[u8], mut at: usize, limit: usize) -> usize {
    while let Some(eight) = bytes.get(at..at + 8) {
        let mut block = [0; 8];
        block.copy_from_slice(eight);
        let others = !word_bytes(u64::from_le_bytes(block)) & HIGH_BITS;
        if others != 0 {
            return limit.min(at + others.trailing_zeros() as usize / 8);
        }
        at += 8;
        if at >= limit {
            return limit;
        }
    }
    while at < limit && CLASS[bytes[at] as usize] & WORD != 0 {
        at += 1;
    }
    at
}

pub(crate) const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Sets the highest bit of each byte that is a letter, a digit or `_`; the other bits are of no meaning.
#[inline]
fn word_bytes(block: u64) -> u64 {
    alphanumeric_bytes(block) | equal_bytes(block, b'_')
}

/// Sets the highest bit of each byte that is an ASCII letter or a digit; the other bits are of no meaning.
#[inline]
pub(crate) fn alphanumeric_bytes(block: u64) -> u64 {
    // Sums of bytes below 0x80 carry into no neighbour: the highest bit says whether a byte is at least the bound.
    let low = block & !HIGH_BITS;
    let at_least = |bytes: u64, bound: u8| bytes + ONES * u64::from(0x80 - bound);
    let folded = low | (ONES * 0x20);
    let letter = at_least(folded, b'a') & !at_least(folded, b'z' + 1);
    let digit = at_least(low, b'0') & !at_least(low, b'9' + 1);
    (letter | digit) & !block
}

/// Sets the highest bit of each byte that is the ASCII character `byte`; the other bits are of no meaning.
#[inline]
pub(crate) fn equal_bytes(block: u64, byte: u8) -> u64 {
    let low = block & !HIGH_BITS;
    !((low ^ (ONES * u64::from(byte))) + ONES * 0x7F) & !block
}

/// The end of a separator at `start` (any other ASCII character, a run of spaces, or CR LF), or `None` where it is or
/// is followed by a non-ASCII character.
#[inline]
fn ascii_separator_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut end = start + 1;
    match bytes[start] {
        0x80.. => return None,
        b' ' => {
            let limit = bytes.len().min(start + MAX_WORD_BYTES);
            while end < limit && bytes[end] == b' ' {
                end += 1;
            }
        }
        b'\r' if bytes.get(end) == Some(&b'\n') => return Some(end + 1), // WB3, WB3a
        _ => {}
    }
    if bytes.get(end).is_some_and(|b| !b.is_ascii()) {
        None
    } else {
        Some(end)
    }
}

/// The largest character boundary of `text` at or before `at`.
fn floor_char(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    let mut at = at;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use biollm_core::hash::splitmix64;

    /// A member of each class of the rules, ASCII and not; the last ones are alphabetic *and* attach (WB4).
    const ALPHABET: &[char] = &[
        'a', 'Z', '5', '_', '\'', '.', ':', ',', ';', '"', '-', ' ', '\r', '\n', 'é', 'ß', '٣', 'א', 'カ',
        '中', '한', '\u{200d}', '\u{301}', '\u{ad}', '😀', '🇩', '\u{2003}', '\u{a0}', '\u{2028}', '’',
        '\u{345}', '\u{93f}', '½',
    ];

    fn check(text: &str) {
        let ours: Vec<_> = words(text).collect();
        let theirs: Vec<_> = text.unicode_word_indices().collect();
        assert_eq!(ours, theirs, "{text:?}");
        let mut segments = words(text);
        let all: Vec<_> = std::iter::from_fn(|| segments.next_segment().map(|(i, s, _)| (i, s))).collect();
        assert_eq!(
            all,
            text.split_word_bound_indices().collect::<Vec<_>>(),
            "{text:?}"
        );
    }

    #[test]
    fn segments_are_all_of_the_text() {
        let text = "IL-6  (p<0.05)\r\n naïve… x";
        let mut segments = words(text);
        let list: Vec<_> = std::iter::from_fn(|| segments.next_segment()).collect();
        let theirs: Vec<_> = text.split_word_bound_indices().collect();
        assert_eq!(
            list.iter()
                .map(|&(start, segment, _)| (start, segment))
                .collect::<Vec<_>>(),
            theirs
        );
        let count = list.iter().filter(|(_, _, is_word)| *is_word).count();
        assert_eq!(count, words(text).count());
    }

    #[test]
    fn equal_to_the_crate_on_every_short_string() {
        let n = ALPHABET.len();
        let mut text = String::new();
        for length in 0..=3 {
            for code in 0..n.pow(length) {
                text.clear();
                let mut code = code;
                for _ in 0..length {
                    text.push(ALPHABET[code % n]);
                    code /= n;
                }
                check(&text);
            }
        }
    }

    #[test]
    fn equal_to_the_crate_on_random_strings() {
        let mut state = 1;
        let mut draw = |n: usize| {
            state = splitmix64(state);
            (state % n as u64) as usize
        };
        for round in 0..200_000 {
            // Half of the strings are ASCII for the most part, as real texts are.
            let ascii_share = if round % 2 == 0 { 0 } else { 19 };
            let length = draw(24) + 4;
            let text: String = (0..length)
                .map(|_| {
                    if draw(20) < ascii_share {
                        ALPHABET[draw(14)]
                    } else {
                        ALPHABET[draw(ALPHABET.len())]
                    }
                })
                .collect();
            check(&text);
        }
    }

    #[test]
    fn equal_to_the_crate_on_real_sentences() {
        for text in [
            "The patient's IL-6 was 3.5 pg/mL (p<0.05), i.e. 1,000-fold; see Fig. 2a: A_b __ can't.",
            "Ein Maß für α-Synuclein: naïve T‑Zellen, 5 µm, Ca²⁺/H₂O …",
            "환자는 2020년 3월에 입원하였다. 日本語のテキスト、カタカナ語。 ภาษาไทย हिन्दी",
        ] {
            check(text);
        }
    }

    #[test]
    fn the_rules_by_hand() {
        let list = |text: &'static str| words(text).map(|(_, w)| w).collect::<Vec<_>>();
        assert_eq!(
            list("can't 3.5 a.b 1,000 a,b 1:2 a:b"),
            ["can't", "3.5", "a.b", "1,000", "a", "b", "1", "2", "a:b"]
        );
        assert_eq!(list("IL-6 __ _x_ end."), ["IL", "6", "_x_", "end"]);
        assert_eq!(words("  ab é").collect::<Vec<_>>(), [(2, "ab"), (5, "é")]);
        assert!(list("").is_empty() && list(" .,!?…\n").is_empty());
    }

    #[test]
    fn long_segments_come_in_pieces() {
        for unit in ["a", "é", "한"] {
            let text = unit.repeat(200_000);
            let pieces: Vec<_> = words(&text).collect();
            assert!(pieces.iter().all(|(_, w)| w.len() <= MAX_WORD_BYTES));
            assert_eq!(pieces.iter().map(|(_, w)| *w).collect::<String>(), text);
        }
        // Just below the bound the segment is whole, with its look-ahead.
        let text = format!("{}.é {}", "é".repeat(MAX_WORD_BYTES / 2 - 2), "x ".repeat(50_000));
        check(&text);
    }

    #[test]
    fn eight_bytes_at_once_are_classed_as_one() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let mut block = [b'a'; 8];
                block[place] = byte;
                let classed = word_bytes(u64::from_le_bytes(block)).to_le_bytes();
                for (i, class) in classed.iter().enumerate() {
                    assert_eq!(
                        class & 0x80 != 0,
                        CLASS[block[i] as usize] & WORD != 0,
                        "{byte} at {place}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_stopped_monitor_ends_the_words() {
        let monitor = Monitor::new();
        let (apart, joined) = (". ".repeat(1 << 20) + "word", "a".repeat(1 << 20));
        assert_eq!(words(&apart).watched(&monitor).count(), 1);
        monitor.stop();
        for text in [&apart, &joined] {
            assert_eq!(words(text).watched(&monitor).count(), 0);
        }
    }
}
