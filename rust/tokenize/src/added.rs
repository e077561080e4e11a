//! Added tokens: strings that become one id wherever they are looked for, whatever the merges say.

use biollm_core::{Error, Result};
use std::collections::HashMap;

/// A token that stands beside the merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// The text that it is found by and decoded to.
    pub content: String,
    /// Special tokens mark roles and ends; they are looked for only when the caller asks.
    pub special: bool,
    /// As in `tokenizer.json`: tokens that are not `normalized` are looked for first.
    pub normalized: bool,
}

/// Which special tokens are looked for in the text.
pub enum Allowed<'a> {
    /// None: `<|end|>` in a text is seven characters like any others.
    None,
    /// All.
    All,
    /// These.
    Only(&'a [String]),
}

/// A part of a text.
pub enum Segment<'a> {
    /// Goes through the split pattern and the merges.
    Text(&'a str),
    /// An added token.
    Token(u32),
}

/// Finds added tokens: leftmost, and of those the longest, as `tokenizers` does.
#[derive(Default)]
pub struct Finder {
    /// A trie: (node, byte) → node; node 0 is the root.
    edges: HashMap<(u32, u8), u32>,
    /// Node → the id of the token that ends there.
    ends: HashMap<u32, u32>,
    /// Whether a token begins with this byte.
    first: Vec<bool>,
}

impl Finder {
    fn new<'a>(tokens: impl Iterator<Item = &'a AddedToken>) -> Self {
        let mut finder = Self {
            first: vec![false; 256],
            ..Self::default()
        };
        let mut nodes = 1;
        for token in tokens {
            let mut node = 0;
            for &byte in token.content.as_bytes() {
                node = *finder.edges.entry((node, byte)).or_insert_with(|| {
                    nodes += 1;
                    nodes - 1
                });
            }
            if let Some(&byte) = token.content.as_bytes().first() {
                finder.first[usize::from(byte)] = true;
                finder.ends.insert(node, token.id);
            }
        }
        finder
    }

    /// The first token in `text`, where it begins and where it ends.
    fn find(&self, text: &str) -> Option<(usize, usize, u32)> {
        if self.ends.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        for (start, &byte) in bytes.iter().enumerate() {
            if !self.first[usize::from(byte)] {
                continue;
            }
            let (mut node, mut longest) = (0, None);
            for (length, &byte) in bytes[start..].iter().enumerate() {
                match self.edges.get(&(node, byte)) {
                    Some(&next) => node = next,
                    None => break,
                }
                if let Some(&id) = self.ends.get(&node) {
                    longest = Some((start, start + length + 1, id));
                }
            }
            if longest.is_some() {
                return longest;
            }
        }
        None
    }

    fn segments<'a>(
        &self,
        mut text: &'a str,
        each: &mut impl FnMut(Segment<'a>) -> Result<()>,
    ) -> Result<()> {
        while let Some((start, end, id)) = self.find(text) {
            if start > 0 {
                each(Segment::Text(&text[..start]))?;
            }
            each(Segment::Token(id))?;
            text = &text[end..];
        }
        if text.is_empty() {
            Ok(())
        } else {
            each(Segment::Text(text))
        }
    }
}

/// The finders for one choice of special tokens.
pub struct Finders {
    first: Finder,
    second: Finder,
}

impl Finders {
    /// Errors: a name that is no special token.
    pub fn new(added: &[AddedToken], allowed: &Allowed<'_>) -> Result<Self> {
        if let Allowed::Only(names) = allowed {
            for name in *names {
                if !added.iter().any(|token| token.special && token.content == *name) {
                    let message = format!("{name:?} is not a special token of this vocabulary");
                    return Err(Error::input("allow_special", message));
                }
            }
        }
        let wanted = |token: &&AddedToken| match allowed {
            _ if !token.special => true,
            Allowed::None => false,
            Allowed::All => true,
            Allowed::Only(names) => names.contains(&token.content),
        };
        Ok(Self {
            first: Finder::new(added.iter().filter(wanted).filter(|token| !token.normalized)),
            second: Finder::new(added.iter().filter(wanted).filter(|token| token.normalized)),
        })
    }

    /// Cuts `text` at the tokens that are looked for.
    pub fn segments<'a>(&self, text: &'a str, mut each: impl FnMut(Segment<'a>) -> Result<()>) -> Result<()> {
        self.first.segments(text, &mut |segment| match segment {
            Segment::Text(text) => self.second.segments(text, &mut each),
            token => each(token),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, content: &str, special: bool, normalized: bool) -> AddedToken {
        AddedToken {
            id,
            content: content.into(),
            special,
            normalized,
        }
    }

    fn cut(added: &[AddedToken], allowed: &Allowed<'_>, text: &str) -> Vec<String> {
        let mut parts = vec![];
        let finders = Finders::new(added, allowed).unwrap();
        finders
            .segments(text, |segment| {
                parts.push(match segment {
                    Segment::Text(text) => text.to_string(),
                    Segment::Token(id) => format!("#{id}"),
                });
                Ok(())
            })
            .unwrap();
        parts
    }

    #[test]
    fn leftmost_longest_and_only_when_asked() {
        let added = [
            token(1, "<|a|>", true, false),
            token(2, "<|a|>b", true, false),
            token(3, "ab", false, true),
        ];
        let text = "x<|a|>b<|a|><|a|ab";
        assert_eq!(cut(&added, &Allowed::All, text), ["x", "#2", "#1", "<|a|", "#3"]);
        assert_eq!(cut(&added, &Allowed::None, text), ["x<|a|>b<|a|><|a|", "#3"]);
        let only = ["<|a|>".to_string()];
        assert_eq!(
            cut(&added, &Allowed::Only(&only), text),
            ["x", "#1", "b", "#1", "<|a|", "#3"]
        );
        assert!(cut(&added, &Allowed::All, "").is_empty());
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        assert!(Finders::new(&[token(3, "ab", false, true)], &Allowed::Only(&["ab".into()])).is_err());
    }
}
