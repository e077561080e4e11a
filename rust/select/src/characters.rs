//! Properties of characters as the reference (datatrove, in Python) sees them.

/// Whether Python's `str.isspace` holds: White_Space and the four information separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The number of code points, Python's `len`.
pub fn count(text: &str) -> u64 {
    // Every byte but a continuation byte begins a character; the compiler turns this into SIMD, but only with a
    // small accumulator, hence the blocks.
    let mut total = 0u64;
    for block in text.as_bytes().chunks(255) {
        let begun: u8 = block
            .iter()
            .map(|&b| u8::from(b & 0xC0 != 0x80))
            .fold(0, u8::wrapping_add);
        total += u64::from(begun);
    }
    total
}

/// Whether datatrove takes the character for punctuation (`PUNCTUATION_SET` of `utils/text.py`, version 0.10).
pub fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation() || (c.is_ascii_control() && c != '\t' && c != '\n');
    }
    let code = c as u32;
    let after = PUNCTUATION.partition_point(|&(first, _)| first <= code);
    after > 0 && code <= PUNCTUATION[after - 1].1
}

/// The characters of `PUNCTUATION_SET` beyond ASCII as ranges, both ends included, rising.
#[rustfmt::skip]
const PUNCTUATION: [(u32, u32); 98] = [
    (0x80, 0x9F), (0xAB, 0xAB), (0xB4, 0xB4), (0xBB, 0xBB), (0x589, 0x589), (0x61D, 0x61F), (0x6D4, 0x6D4),
    (0x700, 0x702), (0x7F9, 0x7F9), (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E), (0x964, 0x965),
    (0x104A, 0x104B), (0x1362, 0x1362), (0x1367, 0x1368), (0x166E, 0x166E), (0x1735, 0x1736), (0x17D4, 0x17D6),
    (0x17D9, 0x17DA), (0x1803, 0x1803), (0x1809, 0x1809), (0x1944, 0x1945), (0x1AA8, 0x1AAB), (0x1B5A, 0x1B5B),
    (0x1B5E, 0x1B5F), (0x1B7D, 0x1B7E), (0x1C3B, 0x1C3C), (0x1C7E, 0x1C7F), (0x2013, 0x2014), (0x2019, 0x2019),
    (0x201C, 0x201E), (0x2026, 0x2026), (0x203C, 0x203D), (0x2047, 0x2049), (0x2236, 0x2236), (0x2501, 0x2501),
    (0x25BA, 0x25BA), (0x2E2E, 0x2E2E), (0x2E3C, 0x2E3C), (0x2E53, 0x2E54), (0x3001, 0x3002), (0x3008, 0x300D),
    (0x3010, 0x3011), (0xA4FF, 0xA4FF), (0xA60E, 0xA60F), (0xA6F3, 0xA6F3), (0xA6F7, 0xA6F7), (0xA876, 0xA877),
    (0xA8CE, 0xA8CF), (0xA92F, 0xA92F), (0xA9C8, 0xA9C9), (0xAA5D, 0xAA5F), (0xAAF0, 0xAAF1), (0xABEB, 0xABEB),
    (0xFE52, 0xFE52), (0xFE56, 0xFE57), (0xFF01, 0xFF01), (0xFF05, 0xFF05), (0xFF08, 0xFF09), (0xFF0C, 0xFF0C),
    (0xFF0E, 0xFF0E), (0xFF11, 0xFF11), (0xFF1A, 0xFF1B), (0xFF1F, 0xFF1F), (0xFF5E, 0xFF5E), (0xFF61, 0xFF61),
    (0x10A56, 0x10A57), (0x10F55, 0x10F59), (0x10F86, 0x10F89), (0x11047, 0x11048), (0x110BE, 0x110C1),
    (0x11141, 0x11143), (0x111C5, 0x111C6), (0x111CD, 0x111CD), (0x111DE, 0x111DF), (0x11238, 0x11239),
    (0x1123B, 0x1123C), (0x112A9, 0x112A9), (0x1144B, 0x1144C), (0x115C2, 0x115C3), (0x115C9, 0x115D7),
    (0x11641, 0x11642), (0x1173C, 0x1173E), (0x11944, 0x11944), (0x11946, 0x11946), (0x11A42, 0x11A43),
    (0x11A9B, 0x11A9C), (0x11C41, 0x11C42), (0x11EF7, 0x11EF8), (0x11F43, 0x11F44), (0x16A6E, 0x16A6F),
    (0x16AF5, 0x16AF5), (0x16B37, 0x16B38), (0x16B44, 0x16B44), (0x16E98, 0x16E98), (0x1BC9F, 0x1BC9F),
    (0x1DA88, 0x1DA88),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_not_bytes() {
        let text = "aé한😀\u{301}".repeat(333);
        assert_eq!(count(&text), 5 * 333);
        assert_eq!(count(""), 0);
    }

    #[test]
    fn punctuation_is_the_references() {
        assert!(PUNCTUATION.windows(2).all(|w| w[0].1 < w[1].0));
        let all: Vec<char> = ('\0'..=char::MAX).filter(|&c| is_punctuation(c)).collect();
        assert_eq!(all.len(), 281); // len(PUNCTUATION_SET)
        for c in ['!', '~', '…', '—', '\u{7f}', '\u{85}', '１', '。', '\u{1c}'] {
            assert!(is_punctuation(c), "{c:?}");
        }
        for c in ['a', '0', ' ', '\t', '\n', '•', '©', '×', '\u{a0}'] {
            assert!(!is_punctuation(c), "{c:?}");
        }
    }

    #[test]
    fn spaces_are_pythons() {
        assert_eq!(('\0'..=char::MAX).filter(|&c| is_space(c)).count(), 29); // of str.isspace
        assert!(is_space('\u{1f}') && is_space('\u{85}') && !is_space('\u{200b}'));
    }
}
