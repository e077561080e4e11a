//! Strings of JSON: finding their end, and taking the escapes out.

use super::CHECK_BYTES;
use biollm_core::{Error, Monitor, Result, limits};

/// A string as it stands between its quotes.
#[derive(Clone, Copy, Debug)]
pub struct RawString<'a> {
    /// The characters, escapes among them.
    pub raw: &'a str,
    /// Whether there are escapes.
    pub escaped: bool,
}

impl RawString<'_> {
    /// Whether the string, unescaped, is `name`.
    pub fn is(&self, name: &str) -> bool {
        if !self.escaped {
            return self.raw == name;
        }
        let mut plain = Vec::new();
        // A key with a lone surrogate equals no name that is valid Unicode.
        self.unescape_into(&mut plain, &Monitor::new()).is_ok() && plain == name.as_bytes()
    }

    /// Appends the unescaped string to `out`, or says where a lone surrogate stands, which has no UTF-8 form.
    pub fn unescape_into(&self, out: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
        // Unescaping never lengthens: the shortest escape of a 3-byte character takes 6 bytes.
        limits::reserve(out, self.raw.len(), "a text")?;
        if !self.escaped {
            out.extend_from_slice(self.raw.as_bytes());
            return Ok(());
        }
        let bytes = self.raw.as_bytes();
        let (mut at, mut check_at) = (0, CHECK_BYTES);
        while let Some(skip) = memchr::memchr(b'\\', &bytes[at..]) {
            out.extend_from_slice(&bytes[at..at + skip]);
            at += skip + 2;
            if at >= check_at {
                monitor.check()?;
                check_at = at + CHECK_BYTES;
            }
            let plain = match bytes.get(at - 1) {
                Some(b'b') => 0x08,
                Some(b'f') => 0x0C,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'u') => {
                    let (character, length) = code_point(&bytes[at..]).ok_or_else(|| {
                        Error::format(format!("the escape at byte {} is half a surrogate pair", at - 1))
                    })?;
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    at += length;
                    continue;
                }
                Some(&itself) => itself,
                None => return Err(Error::Internal("an escape was not validated".into())),
            };
            out.push(plain);
        }
        out.extend_from_slice(&bytes[at..]);
        Ok(())
    }
}

/// The character whose `\u` has just been passed, and how many bytes its digits take (4, or 10 of a pair).
fn code_point(after: &[u8]) -> Option<(char, usize)> {
    let first = hex4(after)?;
    if !(0xD800..0xDC00).contains(&first) {
        return Some((char::from_u32(first)?, 4));
    }
    let rest = after.get(4..)?.strip_prefix(b"\\u")?;
    let second = hex4(rest)?.checked_sub(0xDC00).filter(|&low| low < 0x400)?;
    Some((char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + second)?, 10))
}

pub(super) fn hex4(digits: &[u8]) -> Option<u32> {
    let mut value = 0;
    for &digit in digits.first_chunk::<4>()? {
        value = value << 4 | char::from(digit).to_digit(16)?;
    }
    Some(value)
}

/// How many bytes come before the first quote, backslash or control character.
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let special = |b: u8| b == b'"' || b == b'\\' || b < 0x20;
    let mut at = 0;
    // Whole blocks without a branch a byte: the compiler makes vector instructions of the inner fold.
    for block in bytes.chunks_exact(32) {
        if block.iter().fold(false, |any, &b| any | special(b)) {
            break;
        }
        at += 32;
    }
    at + bytes[at..]
        .iter()
        .position(|&b| special(b))
        .unwrap_or(bytes.len() - at)
}
