//! Normal forms of whole texts, for comparing them but for what does not matter.
//!
//! Every step is stated as what Python's standard library does at an equal Unicode version:
//! - `nfc`: `unicodedata.normalize("NFC", text)` (Unicode Standard Annex 15);
//! - `case`: `text.lower()`, the full mapping with the final sigma;
//! - `space`: `" ".join(text.split())`: runs of white space become one space, and go at both ends.
//!
//! They are done in this order. So that no input keeps a kernel busy inside one character's context, a run of more than
//! [`MAX_RUN_BYTES`] of characters that may combine, or of a word with a capital sigma, is treated in pieces.

use biollm_core::{Monitor, Result, limits};
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The longest run of characters that is looked at as one.
pub const MAX_RUN_BYTES: usize = 1 << 15;

/// Bytes between two looks at the monitor.
const CHECK_BYTES: usize = 1 << 20;

/// Bytes treated at once where all of them are simple.
const BLOCK: usize = 32;

/// What is done to a text before it is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Normalization {
    /// Canonical composition.
    pub nfc: bool,
    /// Lower case.
    pub case: bool,
    /// White space.
    pub space: bool,
}

/// Normalises texts one after the other, in buffers that it keeps.
#[derive(Default)]
pub struct Normalizer {
    composed: Vec<u8>,
    folded: Vec<u8>,
}

impl Normalizer {
    /// The normal form of `text`, as UTF-8.
    pub fn normalize<'a>(
        &'a mut self,
        text: &'a str,
        normalization: Normalization,
        monitor: &Monitor,
    ) -> Result<&'a [u8]> {
        let Normalization { nfc, case, space } = normalization;
        let mut text = text;
        if nfc && let Some(first) = first_unsure(text, 0) {
            self.composed.clear();
            compose(text, first, &mut self.composed, monitor)?;
            // SAFETY: `compose` writes whole characters.
            text = unsafe { std::str::from_utf8_unchecked(&self.composed) };
        }
        self.folded.clear();
        match (case, space) {
            (true, true) => fold::<true, true>(text, &mut self.folded, monitor)?,
            (true, false) => fold::<true, false>(text, &mut self.folded, monitor)?,
            (false, true) => fold::<false, true>(text, &mut self.folded, monitor)?,
            (false, false) => return Ok(text.as_bytes()),
        }
        Ok(&self.folded)
    }
}

/// Whether a character can be neither changed by composition nor have anything to do with what stands before it: it
/// has NFC_Quick_Check = Yes and combining class 0 (UAX 15, section 9.1). The ranges are checked by a test.
#[inline]
fn is_inert(c: char) -> bool {
    match c {
        '\0'..='\u{2ff}' => true,
        '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' => true,
        '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30ff}' => true,
        '\u{391}'..='\u{3ce}' | '\u{400}'..='\u{482}' => true,
        '\u{2010}'..='\u{205e}' | '\u{2200}'..='\u{22ff}' => true,
        _ => canonical_combining_class(c) == 0 && is_nfc_quick([c].into_iter()) == IsNormalized::Yes,
    }
}

/// The first character at or behind `from` that is not inert.
fn first_unsure(text: &str, from: usize) -> Option<usize> {
    /// The least byte of a character from U+0300 on; bytes inside a character are smaller.
    const LEAST: u8 = 0xCC;
    let bytes = text.as_bytes();
    let mut at = from;
    while at < bytes.len() {
        if let Some(block) = bytes.get(at..at + BLOCK)
            && block.iter().fold(0, |most: u8, &b| most.max(b)) < LEAST
        {
            at += BLOCK;
            continue;
        }
        let end = bytes.len().min(at + BLOCK);
        while at < end {
            if bytes[at] < LEAST {
                at += 1;
                continue;
            }
            match text[at..].chars().next() {
                Some(c) if is_inert(c) => at += c.len_utf8(),
                _ => return Some(at),
            }
        }
    }
    None
}

/// Writes the NFC of `text`, whose first character that is not inert is at `unsure`. An inert character is never
/// changed by what stands before it, so only the stretches between two of them go through the general algorithm.
fn compose(text: &str, unsure: usize, out: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
    limits::reserve(out, text.len(), "composed text")?;
    let (mut done, mut next, mut next_check) = (0, Some(unsure), 0);
    while let Some(unsure) = next {
        if unsure >= next_check {
            monitor.check()?;
            next_check = unsure + CHECK_BYTES;
        }
        // The character before may be composed with it.
        let start = text[done..unsure]
            .chars()
            .next_back()
            .map_or(done, |c| unsure - c.len_utf8());
        let mut end = unsure;
        for c in text[unsure..].chars() {
            if is_inert(c) || end - start >= MAX_RUN_BYTES {
                break;
            }
            end += c.len_utf8();
        }
        append(out, &text.as_bytes()[done..start])?;
        let mut utf8 = [0; 4];
        for c in text[start..end].nfc() {
            append(out, c.encode_utf8(&mut utf8).as_bytes())?;
        }
        done = end;
        next = first_unsure(text, done);
    }
    append(out, &text.as_bytes()[done..])
}

#[inline]
fn append(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    limits::reserve(out, bytes.len(), "normalised text")?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// Whether Python's `str.isspace` holds for an ASCII byte; false for others.
#[inline]
fn is_ascii_space(byte: u8) -> bool {
    byte.wrapping_sub(b'\t') < 5 || byte.wrapping_sub(0x1c) < 5
}

/// Writes `text` in lower case (`CASE`) and with single spaces (`SPACE`).
fn fold<const CASE: bool, const SPACE: bool>(text: &str, out: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
    limits::reserve(out, text.len() + BLOCK, "normalised text")?;
    let bytes = text.as_bytes();
    let (mut at, mut next_check) = (0, 0);
    // Whether a space would be one too many.
    let mut gap = SPACE;
    while at < bytes.len() {
        if at >= next_check {
            monitor.check()?;
            next_check = at + CHECK_BYTES;
        }
        if let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
            let (folded, last_is_space, simple) = fold_block::<CASE, SPACE>(block, gap);
            if simple {
                append(out, &folded)?;
                gap = last_is_space;
                at += BLOCK;
                continue;
            }
        }
        let end = bytes.len().min(at + BLOCK);
        while at < end {
            if bytes[at].is_ascii() {
                // Without a branch on what a byte is: spaces come at irregular places.
                let (mut some, mut length) = ([0; BLOCK], 0);
                while at < end && bytes[at].is_ascii() {
                    let space = SPACE && is_ascii_space(bytes[at]);
                    some[length] = if space { b' ' } else { lower::<CASE>(bytes[at]) };
                    length += usize::from(!(space && gap));
                    gap = space;
                    at += 1;
                }
                append(out, &some[..length])?;
            } else {
                at = fold_character::<CASE, SPACE>(text, at, &mut gap, out)?;
            }
        }
    }
    if SPACE && gap {
        out.pop();
    }
    Ok(())
}

/// A block folded, whether it ends in a space, and whether that is right: all is ASCII, and no space follows another.
#[inline]
fn fold_block<const CASE: bool, const SPACE: bool>(
    block: &[u8; BLOCK],
    gap: bool,
) -> ([u8; BLOCK], bool, bool) {
    let (mut folded, mut spaces) = ([0; BLOCK], [0u8; BLOCK]);
    let (mut all, mut double) = (0, u8::from(gap));
    for i in 0..BLOCK {
        let byte = block[i];
        all |= byte;
        spaces[i] = u8::from(SPACE && is_ascii_space(byte));
        folded[i] = if spaces[i] != 0 { b' ' } else { lower::<CASE>(byte) };
    }
    double &= spaces[0];
    for i in 1..BLOCK {
        double |= spaces[i] & spaces[i - 1];
    }
    (folded, spaces[BLOCK - 1] != 0, all.is_ascii() && double == 0)
}

#[inline]
fn lower<const CASE: bool>(byte: u8) -> u8 {
    let capital = CASE && byte.wrapping_sub(b'A') < 26;
    byte | u8::from(capital) << 5
}

/// Folds the character at `at`, which is not ASCII, or with a capital sigma the rest of its word; gives where the next
/// one begins.
fn fold_character<const CASE: bool, const SPACE: bool>(
    text: &str,
    at: usize,
    gap: &mut bool,
    out: &mut Vec<u8>,
) -> Result<usize> {
    let Some(c) = text[at..].chars().next() else {
        return Ok(text.len());
    };
    let end = at + c.len_utf8();
    if SPACE && c.is_whitespace() {
        if !*gap {
            append(out, b" ")?;
        }
        *gap = true;
        return Ok(end);
    }
    *gap = false;
    if !CASE || has_no_case(c) {
        append(out, &text.as_bytes()[at..end])?;
        return Ok(end);
    }
    if c == 'Σ' {
        // The one character whose lower case depends on others: never on those behind an ASCII space.
        let word = word_around(text, at);
        let before = text[word.start..at].to_lowercase().len();
        append(out, &text[word.clone()].to_lowercase().as_bytes()[before..])?;
        return Ok(word.end);
    }
    let mut utf8 = [0; 4];
    for lower in c.to_lowercase() {
        append(out, lower.encode_utf8(&mut utf8).as_bytes())?;
    }
    Ok(end)
}

/// Whether a character is known to be its own lower case, without a look into the table. Checked by a test.
#[inline]
fn has_no_case(c: char) -> bool {
    matches!(c, '\u{2000}'..='\u{20ff}' | '\u{2200}'..='\u{22ff}' | '\u{3000}'..='\u{a63f}' | '\u{ac00}'..='\u{d7ff}')
}

/// The bytes around `at` up to ASCII white space, at most [`MAX_RUN_BYTES`] to either side.
fn word_around(text: &str, at: usize) -> std::ops::Range<usize> {
    let bytes = text.as_bytes();
    let mut start = at;
    while start > 0 && at - start < MAX_RUN_BYTES && !is_ascii_space(bytes[start - 1]) {
        start -= 1;
    }
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let limit = bytes.len().min(at + MAX_RUN_BYTES);
    let mut end = at;
    // A space that is not ASCII ends it too: it must be seen by the caller.
    for c in text[at..].chars() {
        if end >= limit || c.is_whitespace() || is_ascii_space(c as u32 as u8) && c.is_ascii() {
            break;
        }
        end += c.len_utf8();
    }
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use biollm_core::hash::splitmix64;

    const ALL: [Normalization; 8] = {
        let mut all = [Normalization {
            nfc: false,
            case: false,
            space: false,
        }; 8];
        let mut i = 0;
        while i < 8 {
            all[i] = Normalization {
                nfc: i & 1 != 0,
                case: i & 2 != 0,
                space: i & 4 != 0,
            };
            i += 1;
        }
        all
    };

    /// The same by the library's own functions.
    fn plain(text: &str, normalization: Normalization) -> String {
        let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
        let mut text = text.to_string();
        if normalization.nfc {
            text = text.nfc().collect();
        }
        if normalization.case {
            text = text.to_lowercase();
        }
        if normalization.space {
            let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
            text = words.join(" ");
        }
        text
    }

    fn check(text: &str) {
        let mut normalizer = Normalizer::default();
        for normalization in ALL {
            let got = normalizer
                .normalize(text, normalization, &Monitor::new())
                .unwrap();
            assert_eq!(
                std::str::from_utf8(got).unwrap(),
                plain(text, normalization),
                "{text:?} {normalization:?}"
            );
        }
    }

    #[test]
    fn equal_to_the_library() {
        // Letters, capitals, spaces, marks that compose, reorder, are excluded; Hangul jamo; sigmas in every place.
        const ALPHABET: &[&str] = &[
            "a",
            "Z",
            " ",
            "  ",
            "\n",
            "\t",
            "\u{1f}",
            "\u{a0}",
            "\u{3000}",
            "\u{2028}",
            "e\u{301}",
            "\u{301}",
            "\u{323}",
            "\u{345}",
            "é",
            "Å",
            "\u{212b}",
            "\u{1e9b}\u{323}",
            "\u{958}",
            "\u{1100}",
            "\u{1161}",
            "\u{11a8}",
            "한",
            "가",
            "Σ",
            "σ",
            "ΑΣ",
            "Σ.",
            "'",
            "İ",
            "Ⱥ",
            "ẞ",
            "K",
            "中",
            "–",
            "≥",
            "𝒜",
            "\u{1d15e}",
            "A quite long sentence of ASCII words, which fills blocks. ",
        ];
        for one in ALPHABET {
            for two in ALPHABET {
                check(&format!("{one}{two}"));
                for three in ALPHABET.iter().step_by(3) {
                    check(&format!("{one}{two}{three}"));
                }
            }
        }
        for seed in 0..20_000u64 {
            let length = splitmix64(seed) % 60;
            let text: String = (0..length)
                .map(|i| ALPHABET[(splitmix64(seed * 1000 + i) % ALPHABET.len() as u64) as usize])
                .collect();
            check(&text);
        }
        check("");
    }

    #[test]
    fn every_character_by_itself_and_in_a_word() {
        let mut text = String::new();
        for c in '\0'..=char::MAX {
            text.clear();
            text.extend(['a', c, 'A', ' ', c]);
            check(&text);
        }
    }

    #[test]
    fn the_ranges_known_without_a_table() {
        for c in '\0'..=char::MAX {
            let inert =
                canonical_combining_class(c) == 0 && is_nfc_quick([c].into_iter()) == IsNormalized::Yes;
            assert_eq!(is_inert(c), inert, "{c:?}");
            assert!(!has_no_case(c) || c.to_lowercase().eq([c]), "{c:?}");
        }
    }

    #[test]
    fn long_runs_take_linear_time_and_end() {
        for unit in ["\u{301}", "Σ", "'", "Σ'", "\u{1161}", " ", "İ", "\u{a0}"] {
            let text = unit.repeat(1 << 19);
            let mut normalizer = Normalizer::default();
            let all = ALL[7];
            let long = normalizer.normalize(&text, all, &Monitor::new()).unwrap().len();
            assert!(long <= 2 * text.len());
        }
        let monitor = Monitor::new();
        monitor.stop();
        assert!(Normalizer::default().normalize("a", ALL[7], &monitor).is_err());
    }
}
