//! What XML 1.0 (fifth edition, sections 2.2 to 2.3) lets stand in names and in text.

/// Longest name taken, in bytes: those of PubMed and JATS stay below 50.
pub(super) const MAX_NAME_BYTES: usize = 1000;

const START: u8 = 1;
const INNER: u8 = 2;
const SPACE: u8 = 4;
/// Ends an attribute's value, or must be looked at in one.
const VALUE_STOP: u8 = 8;
/// Ends a piece of text, or must be looked at in one.
const TEXT_STOP: u8 = 16;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b':' | 0x80.. => START | INNER,
            b'0'..=b'9' | b'-' | b'.' => INNER,
            b' ' | b'\t' | b'\n' | b'\r' => SPACE,
            b'"' | b'\'' => VALUE_STOP,
            b'<' | b'&' => VALUE_STOP | TEXT_STOP,
            b']' => TEXT_STOP,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// Whether `byte` is white space of XML.
#[inline]
pub(super) fn is_space(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & SPACE != 0
}

/// The first quote, `<` or `&`. Values are short as a rule: a call of memchr would cost more than it saves.
#[inline]
pub(super) fn value_stop(data: &[u8]) -> Option<usize> {
    data.iter()
        .position(|&byte| CLASSES[usize::from(byte)] & VALUE_STOP != 0)
}

/// The first `<`, `&` or `]`: near ones without a call, far ones by vectors.
#[inline]
pub(super) fn text_stop(data: &[u8]) -> Option<usize> {
    const NEAR: usize = 16;
    let near = &data[..data.len().min(NEAR)];
    let found = near
        .iter()
        .position(|&byte| CLASSES[usize::from(byte)] & TEXT_STOP != 0);
    match found {
        None if data.len() > NEAR => memchr::memchr3(b'<', b'&', b']', &data[NEAR..]).map(|at| at + NEAR),
        found => found,
    }
}

/// Whether `byte` goes on with a name.
#[inline]
pub(super) fn is_inside_name(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & INNER != 0
}

/// The length of the name at the start of `data`; 0 where none stands there. A name that reaches the end of `data`
/// may go on behind it.
#[inline]
pub(super) fn name_length(data: &[u8]) -> usize {
    let Some(&first) = data.first() else { return 0 };
    if CLASSES[usize::from(first)] & START == 0 {
        return 0;
    }
    let rest = data[1..]
        .iter()
        .position(|&byte| CLASSES[usize::from(byte)] & INNER == 0);
    rest.map_or(data.len(), |n| n + 1)
}

/// Whether all of a name's characters above ASCII may stand in one; those of ASCII were looked at by [`name_length`].
#[inline]
pub(super) fn is_name(name: &[u8]) -> bool {
    if name.iter().fold(0, |all, byte| all | byte) < 0x80 {
        return true;
    }
    let Ok(name) = std::str::from_utf8(name) else {
        return false;
    };
    name.char_indices()
        .all(|(at, c)| c.is_ascii() || is_start(c) || (at > 0 && is_inner(c)))
}

fn is_start(c: char) -> bool {
    matches!(c,
        '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}' | '\u{370}'..='\u{37D}'
        | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}' | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}'
        | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

fn is_inner(c: char) -> bool {
    matches!(c, '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

/// The name without its prefix.
#[inline]
pub(super) fn local(name: &[u8]) -> &[u8] {
    name.iter()
        .rposition(|&b| b == b':')
        .map_or(name, |at| &name[at + 1..])
}

/// The first place in valid UTF-8 that holds what may stand nowhere in XML: a control character, U+FFFE or U+FFFF.
pub(super) fn forbidden(data: &[u8]) -> Option<usize> {
    let control = |b: u8| b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r');
    let mut first = None;
    // Blocks without a branch inside are what the compiler makes vector code of.
    for (number, block) in data.chunks(256).enumerate() {
        let any = block.iter().fold(false, |any, &b| any | control(b));
        if any {
            first = block.iter().position(|&b| control(b)).map(|at| number * 256 + at);
            break;
        }
    }
    let upto = &data[..first.unwrap_or(data.len())];
    if upto.is_ascii() {
        return first;
    }
    memchr::memmem::find_iter(upto, b"\xEF\xBF")
        .find(|&at| matches!(upto.get(at + 2), Some(0xBE | 0xBF)))
        .or(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name_length(b"a-b.c:d_1 x"), 9);
        assert_eq!(name_length(b"1a"), 0);
        assert_eq!(name_length(b""), 0);
        assert!(is_name("caf\u{e9}\u{b7}".as_bytes()));
        assert!(!is_name("\u{b7}x".as_bytes()) && !is_name("a\u{2028}".as_bytes()));
        assert_eq!(local(b"mml:math"), b"math");
        assert_eq!(local(b"math"), b"math");
    }

    #[test]
    fn forbidden_characters() {
        for (text, want) in [
            ("a\tb\r\n\u{7f}\u{85}", None),
            ("ab\u{1}", Some(2)),
            ("a\0", Some(1)),
        ] {
            assert_eq!(forbidden(text.as_bytes()), want);
        }
        assert_eq!(forbidden("\u{fffd}\u{fffe}".as_bytes()), Some(3));
        assert_eq!(forbidden("\u{ffff}\u{1}".as_bytes()), Some(0));
        let long = [vec![b' '; 1000], vec![8]].concat();
        assert_eq!(forbidden(&long), Some(1000));
    }
}
