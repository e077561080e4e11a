//! GPT-2's byte-level alphabet: each byte is written as one visible character, so that tokens are text in JSON.
//! The printable bytes of Latin-1 stand for themselves; the other 68 follow from U+0100 on, in order.

/// The character of each byte.
pub const CHARS: [char; 256] = chars();

const fn chars() -> [char; 256] {
    let mut chars = ['\0'; 256];
    let (mut byte, mut others) = (0u32, 0u32);
    while byte < 256 {
        let printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        let code = if printable { byte } else { 256 + others };
        if !printable {
            others += 1;
        }
        if let Some(c) = char::from_u32(code) {
            chars[byte as usize] = c;
        }
        byte += 1;
    }
    chars
}

/// The byte that `c` stands for.
pub fn byte_of(c: char) -> Option<u8> {
    let code = c as u32;
    match code {
        33..=126 | 161..=172 | 174..=255 => u8::try_from(code).ok(),
        // U+0100..U+0143: bytes 0..=32, 127..=160, 173.
        256..=288 => u8::try_from(code - 256).ok(),
        289..=322 => u8::try_from(code - 289 + 127).ok(),
        323 => Some(173),
        _ => None,
    }
}

/// The bytes that a token stands for, or the character that is not of the alphabet.
pub fn decode(token: &str) -> Result<Vec<u8>, char> {
    token.chars().map(|c| byte_of(c).ok_or(c)).collect()
}

/// How bytes are written.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| CHARS[usize::from(b)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bijection() {
        let mut all = CHARS.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 256);
        for byte in 0..=255u8 {
            assert_eq!(byte_of(CHARS[usize::from(byte)]), Some(byte));
        }
        assert_eq!(encode(b" \n a"), "ĠĊĠa");
        assert_eq!(decode("ĠĊ"), Ok(vec![b' ', b'\n']));
        assert_eq!(decode("a b"), Err(' '));
    }
}
