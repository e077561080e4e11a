//! The character classes of the split patterns, as one byte of bits for each code point.
//!
//! Unicode 16.0, the version of the engines we must equal (`tokenizers`' Oniguruma, `tiktoken`'s fancy-regex): a
//! newer table would move boundaries, and with them ids, of vocabularies that exist.

use crate::classes_table::RUNS;
use std::sync::OnceLock;

/// `\p{L}`.
pub const LETTER: u8 = 1;
/// `\p{N}`.
pub const NUMBER: u8 = 2;
/// `\s`: White_Space, 25 code points.
pub const SPACE: u8 = 4;
/// `[\r\n]`.
pub const NEWLINE: u8 = 8;
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`.
pub const UPPER: u8 = 16;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
pub const LOWER: u8 = 32;
/// `[^\s\p{L}\p{N}]`; not in the table's runs, set when it is unfolded.
pub const OTHER: u8 = 64;

/// Code points, surrogates included.
const CODE_POINTS: usize = 0x11_0000;

static CLASSES: OnceLock<Vec<u8>> = OnceLock::new();

/// The bits of every code point, (0x110000,): unfolded once a process (0.3 ms), read-only ever after.
pub fn classes() -> &'static [u8] {
    CLASSES.get_or_init(|| {
        let mut bits = vec![0u8; CODE_POINTS];
        let ends = RUNS.iter().skip(1).map(|run| run.0 as usize).chain([CODE_POINTS]);
        for (&(start, value), end) in RUNS.iter().zip(ends) {
            let value = if value & (LETTER | NUMBER | SPACE) == 0 {
                value | OTHER
            } else {
                value
            };
            bits[start as usize..end].fill(value);
        }
        bits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters() {
        let of = |c: char| classes()[c as usize];
        assert_eq!(of('a'), LETTER | LOWER);
        assert_eq!(of('Ǆ'), LETTER | UPPER);
        assert_eq!(of('ǅ'), LETTER | UPPER); // title case
        assert_eq!(of('中'), LETTER | UPPER | LOWER);
        assert_eq!(of('\u{301}'), UPPER | LOWER | OTHER); // a mark is neither letter, number nor space
        assert_eq!(of('½'), NUMBER);
        assert_eq!(of('\r'), SPACE | NEWLINE);
        assert_eq!(of('\u{a0}'), SPACE);
        assert_eq!(of('\u{200b}'), OTHER); // zero width space is no White_Space
        assert_eq!(of('\u{10ffff}'), OTHER);
        assert_eq!(classes().iter().filter(|b| *b & SPACE != 0).count(), 25);
    }
}
