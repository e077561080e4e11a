//! The words of [`words`](crate::words()), found 64 bytes at a time.
//!
//! One mask says which bytes are letters, digits or `_`; its runs of ones are the words, so the end of a word costs no
//! branch that depends on its length. `'` `.` `:` `,` `;` inside words are looked at one by one: they are few. What a
//! non-ASCII character has a say in is left to [`Words::next_segment`], one segment at a time.

use crate::words::{CHECK_BYTES, HIGH_BITS, Words, alphanumeric_bytes, equal_bytes, joins, words};
use biollm_core::{Monitor, Result};

/// Bytes classed at a time.
const BLOCK: usize = 64;

/// One bit for each byte of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    /// ASCII letters and digits.
    alphanumeric: u64,
    underscore: u64,
    space: u64,
    not_ascii: u64,
}

/// Classes a block. All give the same masks.
trait Classify {
    fn masks(block: &[u8; BLOCK]) -> Masks;
}

/// A word: its first byte, and the byte behind its last one.
pub type Word = (usize, usize);

/// Calls `visit` with the words of `text` in order, some at a time, never none.
///
/// Looks at `monitor` now and then; ends with its error, or with the first of `visit`.
pub fn visit_words(text: &str, monitor: &Monitor, visit: impl FnMut(&[Word]) -> Result<()>) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2 (just asked).
        return unsafe { visit_avx2(text, monitor, visit) };
    }
    visit_blocks::<Portable>(text, monitor, visit)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn visit_avx2(text: &str, monitor: &Monitor, visit: impl FnMut(&[Word]) -> Result<()>) -> Result<()> {
    visit_blocks::<Avx2>(text, monitor, visit)
}

#[inline(always)]
fn visit_blocks<C: Classify>(
    text: &str,
    monitor: &Monitor,
    mut visit: impl FnMut(&[Word]) -> Result<()>,
) -> Result<()> {
    let bytes = text.as_bytes();
    let mut segments = words(text).watched(monitor);
    let mut next_check = 0;
    let mut at = 0; // where a segment begins
    let mut found = [(0, 0); BLOCK / 2];
    while at < bytes.len() {
        if at >= next_check {
            monitor.check()?;
            next_check = at + CHECK_BYTES;
        }
        let masks = match bytes[at..].first_chunk() {
            Some(block) => C::masks(block),
            None => {
                // Behind the end of the text the rules see what they see behind a space.
                let mut padded = [b' '; BLOCK];
                padded[..bytes.len() - at].copy_from_slice(&bytes[at..]);
                C::masks(&padded)
            }
        };
        let ascii = masks.not_ascii.trailing_zeros(); // bytes before the first other character
        let mut word = masks.alphanumeric | masks.underscore;
        let mut candidates = (word << 1) & (word >> 1) & !(word | masks.space | masks.not_ascii);
        while candidates != 0 {
            let i = at + candidates.trailing_zeros() as usize;
            if joins(bytes[i - 1], bytes[i], bytes[i + 1]) {
                word |= candidates & candidates.wrapping_neg();
            }
            candidates &= candidates - 1;
        }
        // A word's end is decided by the two bytes behind it: both must be known to be ASCII.
        let mut rest = word;
        let mut count = 0;
        let mut done = last_segment(masks.space, ascii);
        while rest != 0 {
            let start = rest.trailing_zeros();
            let end = (rest.wrapping_add(1 << start) & !rest).trailing_zeros();
            if end + 2 > ascii {
                done = start.min(done);
                break;
            }
            // Only with underscores can a run have neither letter nor digit.
            let run = rest & !(rest.wrapping_add(1 << start));
            found[count] = (at + start as usize, at + end as usize);
            count += usize::from(run & masks.alphanumeric != 0);
            rest &= rest.wrapping_add(1 << start);
        }
        if count > 0 {
            visit(&found[..count])?;
        }
        at += done as usize;
        if done == 0 || ascii < BLOCK as u32 {
            at = visit_segments(&mut segments, at, &mut visit)?;
        }
    }
    monitor.check()
}

/// Where the last segment among the first `ascii` bytes begins, if it is none of a word: its last byte, or the first of
/// a run of spaces, which are one segment. What follows may yet belong to it.
#[inline(always)]
fn last_segment(space: u64, ascii: u32) -> u32 {
    let last = ascii.saturating_sub(1);
    let run = (space << (63 - last)).leading_ones();
    last - run.saturating_sub(1).min(last)
}

/// The segment at `at`, and those behind it as long as they begin with a non-ASCII character; gives where they end.
#[inline(never)]
fn visit_segments(
    segments: &mut Words<'_>,
    at: usize,
    visit: &mut impl FnMut(&[Word]) -> Result<()>,
) -> Result<usize> {
    segments.go_to(at);
    loop {
        match segments.next_segment() {
            Some((start, word, true)) => visit(&[(start, start + word.len())])?,
            Some(_) => {}
            None => break,
        }
        if !segments.before_other() {
            break;
        }
    }
    Ok(segments.place())
}

struct Portable;

impl Classify for Portable {
    #[inline]
    fn masks(block: &[u8; BLOCK]) -> Masks {
        let mut masks = Masks::default();
        for (i, &eight) in block.as_chunks::<8>().0.iter().enumerate() {
            let eight = u64::from_le_bytes(eight);
            let bits = |bytes: u64| gather(bytes) << (8 * i);
            masks.alphanumeric |= bits(alphanumeric_bytes(eight));
            masks.underscore |= bits(equal_bytes(eight, b'_'));
            masks.space |= bits(equal_bytes(eight, b' '));
            masks.not_ascii |= bits(eight);
        }
        masks
    }
}

/// The highest bits of eight bytes, side by side.
#[inline]
fn gather(bytes: u64) -> u64 {
    ((bytes & HIGH_BITS) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

#[cfg(target_arch = "x86_64")]
struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Classify for Avx2 {
    #[inline(always)]
    fn masks(block: &[u8; BLOCK]) -> Masks {
        // SAFETY: only `visit_avx2` uses this class, where the processor has AVX2.
        unsafe { avx2_masks(block) }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn avx2_masks(block: &[u8; BLOCK]) -> Masks {
    use std::arch::x86_64::*;
    let (low, high) = block.split_at(BLOCK / 2);
    // SAFETY: each half has the 32 bytes that are read; no alignment is asked for.
    let (low, high) = unsafe {
        (
            _mm256_loadu_si256(low.as_ptr().cast()),
            _mm256_loadu_si256(high.as_ptr().cast()),
        )
    };
    let bits = |low: __m256i, high: __m256i| {
        // The instruction by name: from the intrinsic LLVM 21 makes a vector of 64 bits, put together one by one.
        let movemask = |mask: __m256i| {
            let bits: u64;
            // SAFETY: the instruction reads one register and writes the other, with zeros above its 32 bits.
            unsafe {
                std::arch::asm!("vpmovmskb {0:e}, {1}", out(reg) bits, in(ymm_reg) mask,
                    options(pure, nomem, nostack, preserves_flags));
            }
            bits
        };
        movemask(low) | movemask(high) << 32
    };
    let alphanumeric = |bytes: __m256i| {
        // Less the first of a range, a byte in it is at most the range's length less one.
        let folded = _mm256_or_si256(bytes, _mm256_set1_epi8(0x20));
        let letter = _mm256_sub_epi8(folded, _mm256_set1_epi8(b'a' as i8));
        let digit = _mm256_sub_epi8(bytes, _mm256_set1_epi8(b'0' as i8));
        let is_letter = _mm256_cmpeq_epi8(_mm256_min_epu8(letter, _mm256_set1_epi8(25)), letter);
        let is_digit = _mm256_cmpeq_epi8(_mm256_min_epu8(digit, _mm256_set1_epi8(9)), digit);
        _mm256_or_si256(is_letter, is_digit)
    };
    let equal = |bytes: __m256i, byte: u8| _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8));
    Masks {
        alphanumeric: bits(alphanumeric(low), alphanumeric(high)),
        underscore: bits(equal(low, b'_'), equal(high, b'_')),
        space: bits(equal(low, b' '), equal(high, b' ')),
        not_ascii: bits(low, high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use biollm_core::Error;
    use biollm_core::hash::splitmix64;

    fn visited<C: Classify>(text: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        visit_blocks::<C>(text, &Monitor::new(), |words| {
            assert!(!words.is_empty());
            found.extend_from_slice(words);
            Ok(())
        })
        .unwrap();
        found
    }

    fn check(text: &str) {
        let want: Vec<_> = words(text)
            .map(|(start, word)| (start, start + word.len()))
            .collect();
        assert_eq!(visited::<Portable>(text), want, "{text:?}");
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            assert_eq!(visited::<Avx2>(text), want, "{text:?}");
        }
    }

    const ALPHABET: &[char] = &[
        'a', 'Z', '5', '_', '\'', '.', ':', ',', ';', '"', '-', ' ', '\r', '\n', 'é', 'א', 'カ', '中', '한',
        '\u{200d}', '\u{301}', '\u{ad}', '😀', '\u{2003}', '\u{345}', '½',
    ];

    #[test]
    fn the_words_are_those_of_the_iterator_around_every_edge_of_a_block() {
        // Every pair and triple at every place around the end of the first block, and at the text's end.
        for before in 56..68 {
            for a in ALPHABET {
                for b in ALPHABET {
                    for c in ['a', '.', ' ', 'é', '_', '5'] {
                        let middle: String = [*a, *b, c].iter().collect();
                        let words = "ab cd_e 1.5 x'y z ".repeat(5);
                        check(&format!("{}{middle}", &words[..before]));
                        check(&format!("{}{middle}{words}", &words[..before]));
                    }
                }
            }
        }
    }

    #[test]
    fn the_words_are_those_of_the_iterator_on_random_texts() {
        let mut state = 1;
        let mut draw = |n: usize| {
            state = splitmix64(state);
            (state % n as u64) as usize
        };
        for round in 0..40_000 {
            let ascii_share = [0, 190, 200][round % 3];
            let length = draw(300);
            let text: String = (0..length)
                .map(|_| match draw(200) < ascii_share {
                    true => ALPHABET[[0, 1, 2, 0, 0, 11, 5, 3, 7, 10][draw(10)]],
                    false => ALPHABET[draw(ALPHABET.len())],
                })
                .collect();
            check(&text);
        }
    }

    #[test]
    fn long_words_and_long_gaps() {
        for text in [
            "a".repeat(200_000),
            "_".repeat(1000),
            format!("{} a", "_".repeat(100)),
            format!("x{}", " ".repeat(1000)),
            format!("{}é{}", "a".repeat(63), "b".repeat(64)),
            format!("{}b", "a.".repeat(100)),
            "한국어 텍스트 ".repeat(50),
            String::new(),
            "x".into(),
        ] {
            check(&text);
        }
    }

    #[test]
    fn a_stopped_monitor_and_an_error_end_it() {
        let monitor = Monitor::new();
        let failing = visit_words("a b c", &monitor, |_| Err(Error::Internal("here".into())));
        assert!(matches!(failing, Err(Error::Internal(_))));
        monitor.stop();
        for text in ["a".to_string(), "é ".repeat(1 << 18)] {
            assert!(matches!(
                visit_words(&text, &monitor, |_| Ok(())),
                Err(Error::Stopped)
            ));
        }
    }
}
