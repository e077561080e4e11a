//! References: `&name;` and `&#number;`. Nothing is ever expanded but to one or two characters, so no file can make
//! its text grow.

use super::entities_table::ENTITIES;
use biollm_core::{Error, Result};

/// Longest reference looked at, without `&` and `;`: the longest name of HTML5 has 31 letters.
pub(super) const MAX_REFERENCE_BYTES: usize = 64;

/// What a reference stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    Character(char),
    Text(&'static str),
}

impl Resolved {
    /// Its UTF-8, written to `scratch` where need be.
    pub(super) fn bytes(self, scratch: &mut [u8; 4]) -> &[u8] {
        match self {
            Resolved::Character(c) => c.encode_utf8(scratch).as_bytes(),
            Resolved::Text(text) => text.as_bytes(),
        }
    }
}

/// What the reference between `&` and `;` stands for; `declared` are the entities that the file itself declares,
/// sorted.
pub(super) fn resolve(reference: &[u8], declared: &[Box<[u8]>]) -> Result<Resolved> {
    let text = match reference {
        b"lt" => "<",
        b"gt" => ">",
        b"amp" => "&",
        b"quot" => "\"",
        b"apos" => "'",
        [b'#', b'x', digits @ ..] => return character(reference, digits, 16),
        [b'#', digits @ ..] => return character(reference, digits, 10),
        name => {
            if declared.binary_search_by(|known| (**known).cmp(name)).is_ok() {
                let message = format!(
                    "entity &{}; is declared in the file: such entities are not expanded",
                    name.escape_ascii()
                );
                return Err(Error::format(message));
            }
            match ENTITIES.binary_search_by(|(known, _)| known.as_bytes().cmp(name)) {
                Ok(at) => ENTITIES[at].1,
                Err(_) => {
                    let name = String::from_utf8_lossy(name);
                    return Err(Error::format(format!("entity &{name}; is not known")));
                }
            }
        }
    };
    Ok(Resolved::Text(text))
}

fn character(reference: &[u8], digits: &[u8], radix: u32) -> Result<Resolved> {
    let mut code = Some(0u32);
    for &digit in digits {
        let value = char::from(digit).to_digit(radix);
        code = code.and_then(|code| code.checked_mul(radix)?.checked_add(value?));
    }
    match code.filter(|_| !digits.is_empty()).and_then(char::from_u32) {
        Some('\u{FFFE}' | '\u{FFFF}') | None => {}
        Some(c) if c < ' ' && !matches!(c, '\t' | '\n' | '\r') => {}
        Some(c) => return Ok(Resolved::Character(c)),
    }
    let name = String::from_utf8_lossy(reference);
    Err(Error::format(format!(
        "reference &{name}; stands for no character of XML"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(reference: &str) -> Option<String> {
        let mut scratch = [0; 4];
        let resolved = resolve(reference.as_bytes(), &[]).ok()?;
        Some(String::from_utf8(resolved.bytes(&mut scratch).to_vec()).unwrap())
    }

    #[test]
    fn known_ones() {
        for (reference, want) in [
            ("lt", "<"),
            ("apos", "'"),
            ("#956", "\u{3bc}"),
            ("#x3bc", "\u{3bc}"),
            ("#x3BC", "\u{3bc}"),
            ("#x10FFFF", "\u{10ffff}"),
            ("#9", "\t"),
            ("alpha", "\u{3b1}"),
            ("nbsp", "\u{a0}"),
            ("bne", "=\u{20e5}"),
            ("CounterClockwiseContourIntegral", "\u{2233}"),
            ("AElig", "\u{c6}"),
            ("zwnj", "\u{200c}"),
        ] {
            assert_eq!(text(reference).as_deref(), Some(want), "{reference}");
        }
    }

    #[test]
    fn unknown_and_impossible_ones() {
        for reference in [
            "",
            "#",
            "#x",
            "#0",
            "#8",
            "#xD800",
            "#xFFFE",
            "#x110000",
            "#99999999999999",
            "#+5",
            "#-5",
            "# 5",
            "#x 5",
            "#X41",
            "Alph",
            "alphaa",
            "lt ",
            "nosuch",
        ] {
            assert_eq!(text(reference), None, "{reference}");
        }
    }

    #[test]
    fn declared_ones_are_refused_but_the_five_hold() {
        let declared: Vec<Box<[u8]>> = vec![b"alpha".to_vec().into(), b"lt".to_vec().into()];
        assert!(
            matches!(resolve(b"alpha", &declared), Err(Error::Format { message, .. }) if message.contains("&alpha;"))
        );
        assert_eq!(resolve(b"lt", &declared).unwrap(), Resolved::Text("<"));
    }

    #[test]
    fn references_hardly_grow() {
        assert!(ENTITIES.is_sorted());
        for (name, text) in &ENTITIES {
            assert!(text.len() * 5 <= (name.len() + 2) * 6, "{name}");
        }
    }
}
