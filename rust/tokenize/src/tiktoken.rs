//! `.tiktoken` files: a line a token, its bytes in base64, a blank, its rank. Ranks are ids, and they are all there is
//! to merge by: any two neighbours whose bytes together are a token may become it, the lowest rank first.

use crate::added::AddedToken;
use crate::merges::Merges;
use crate::split::Pattern;
use crate::tokenizer::Tokenizer;
use crate::tokens::{MAX_VOCAB, Tokens};
use biollm_core::{Error, Monitor, Result, limits};

/// Reads a file. `special`: (content, id) of tokens that the file does not have.
pub fn read(
    bytes: &[u8],
    pattern: Pattern,
    special: &[(String, u32)],
    monitor: &Monitor,
) -> Result<Tokenizer> {
    let text = crate::json::checked_text(bytes)?;
    let mut entries: Vec<(u32, Vec<u8>)> = Vec::new();
    for (i, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let at = |message: String| Error::Format {
            message,
            path: None,
            line: Some(i as u64 + 1),
            field: None,
        };
        let (token, rank) = line
            .split_once(' ')
            .ok_or_else(|| at("not a token and a rank".into()))?;
        let token = base64(token).ok_or_else(|| at("the token is not base64".into()))?;
        let rank = rank
            .parse::<u32>()
            .ok()
            .filter(|rank| (*rank as usize) < MAX_VOCAB);
        let rank = rank.ok_or_else(|| at(format!("the rank is not a number below {MAX_VOCAB}")))?;
        limits::reserve(&mut entries, 1, "tokens")?;
        entries.push((rank, token));
    }
    if entries.is_empty() {
        return Err(Error::format("the file has no tokens"));
    }
    let tokens = Tokens::new(entries)?;
    let merges = merges_of(&tokens, monitor)?;
    let mut added: Vec<AddedToken> = Vec::new();
    for (content, id) in special {
        let taken = tokens.get(*id).is_some() || added.iter().any(|a| a.id == *id || a.content == *content);
        if content.is_empty() || taken || *id as usize >= MAX_VOCAB {
            let message =
                format!("special token {content:?} cannot have id {id}: it is taken, empty or too large");
            return Err(Error::input("special_tokens", message));
        }
        added.push(AddedToken {
            id: *id,
            content: content.clone(),
            special: true,
            normalized: false,
        });
    }
    Tokenizer::new(pattern, tokens, merges, true, added)
}

/// Every split of every token into two tokens, under the token's own rank.
fn merges_of(tokens: &Tokens, monitor: &Monitor) -> Result<Merges> {
    let mut entries = Vec::new();
    for (i, (id, bytes)) in tokens.iter().enumerate() {
        if i.is_multiple_of(1 << 10) {
            monitor.check()?;
        }
        for at in 1..bytes.len() {
            if at.is_multiple_of(1 << 8) {
                monitor.check()?;
            }
            let (left, right) = bytes.split_at(at);
            if let (Some(left), Some(right)) = (tokens.id(left), tokens.id(right)) {
                limits::reserve(&mut entries, 1, "merges")?;
                entries.push((left, right, id, id));
            }
        }
    }
    Merges::new(&entries, tokens)
}

/// Whether the split of cl100k and that of Llama 3 give equal ids under these tokens. They differ only where white
/// space with newlines in it ends the text: one piece for the first, two for the second, cut behind the last newline.
/// No merge crosses that cut, and no token is the whole piece, if no token has a newline anywhere but at its end.
pub fn llama3_equals_cl100k(tokens: &Tokens) -> bool {
    let newline = |byte: &u8| matches!(byte, b'\r' | b'\n');
    tokens.iter().all(|(_, bytes)| match bytes.split_last() {
        Some((last, before)) => newline(last) || !before.iter().any(newline),
        None => true,
    })
}

/// Standard alphabet, padded; `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || !bytes.len().is_multiple_of(4) {
        return None;
    }
    let padding = bytes.iter().rev().take_while(|b| **b == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in &bytes[..bytes.len() - padding] {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xFFFF;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xFF) as u8);
        }
    }
    // What is left over of the last character must be zero.
    (bits & ((1 << held) - 1) == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_strict() {
        assert_eq!(base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("/w==").as_deref(), Some(&[255][..]));
        assert_eq!(base64("aGVsbG93").as_deref(), Some(&b"hellow"[..]));
        for bad in ["", "a", "====", "a===", "/x==", "a b=", "ab=c"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
