//! Text as it flows out of XML: runs of white space become one space, edges are trimmed, paragraphs stand apart by a
//! blank line.

use super::names::is_space;
use biollm_core::{Error, Result, limits};

/// What stands between paragraphs, and between the parts of a text.
pub(super) const BLANK_LINE: &[u8] = b"\n\n";

/// Most paragraphs of a text. They cost memory beside their text, which a short tag must not multiply.
const MAX_PARAGRAPHS: usize = 1_000_000;

/// A text that grows. Ranges are of bytes in `text`.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) text: Vec<u8>,
    /// Where the paragraph at hand begins, or would.
    open: usize,
    /// White space came since the last character.
    gap: bool,
    /// The paragraphs that have ended.
    pub(super) paragraphs: Vec<(usize, usize)>,
}

/// A place to which a [`Flow`] can be taken back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    length: usize,
    open: usize,
    gap: bool,
    paragraphs: usize,
}

impl Flow {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.paragraphs.clear();
        (self.open, self.gap) = (0, false);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Appends text as it stands in the file.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut at = 0;
        loop {
            let space = at;
            while bytes.get(at).is_some_and(|&b| is_space(b)) {
                at += 1;
            }
            self.gap |= at > space;
            if at == bytes.len() {
                return Ok(());
            }
            // Words with single spaces between them are copied as they are.
            let run = at;
            loop {
                at += tidy_length(&bytes[at..]);
                while bytes.get(at).is_some_and(|&b| !is_space(b)) {
                    at += 1;
                }
                match bytes.get(at..at + 2) {
                    Some(&[b' ', next]) if !is_space(next) => at += 2,
                    _ => break,
                }
            }
            self.append(&bytes[run..at])?;
        }
    }

    /// Appends what needs no normalising and is not empty.
    fn append(&mut self, run: &[u8]) -> Result<()> {
        limits::reserve(&mut self.text, run.len() + BLANK_LINE.len(), "a text")?;
        if self.text.len() == self.open {
            if self.open > 0 {
                self.text.extend_from_slice(BLANK_LINE);
                self.open = self.text.len();
            }
        } else if self.gap {
            self.text.push(b' ');
        }
        self.gap = false;
        self.text.extend_from_slice(run);
        Ok(())
    }

    /// Ends the paragraph at hand, if it has begun.
    pub(super) fn end_paragraph(&mut self) -> Result<()> {
        if self.text.len() > self.open {
            if self.paragraphs.len() >= MAX_PARAGRAPHS {
                let (found, limit) = (MAX_PARAGRAPHS as u64 + 1, MAX_PARAGRAPHS as u64);
                return Err(Error::limit(
                    "paragraphs of a record",
                    found,
                    limit,
                    "split the record",
                ));
            }
            limits::reserve(&mut self.paragraphs, 1, "paragraphs")?;
            self.paragraphs.push((self.open, self.text.len()));
            self.open = self.text.len();
        }
        self.gap = false;
        Ok(())
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            length: self.text.len(),
            open: self.open,
            gap: self.gap,
            paragraphs: self.paragraphs.len(),
        }
    }

    /// Forgets what came since the mark.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.text.truncate(mark.length);
        self.paragraphs.truncate(mark.paragraphs);
        (self.open, self.gap) = (mark.open, mark.gap);
    }

    /// What came since the mark.
    pub(super) fn since(&self, mark: Mark) -> &[u8] {
        &self.text[mark.length..]
    }
}

/// The length of a stretch in which nothing is to be changed, in whole blocks: no white space but single spaces,
/// each before something else.
#[inline]
fn tidy_length(bytes: &[u8]) -> usize {
    const BLOCK: usize = 32;
    let mut length = 0;
    while let Some(block) = bytes.get(length..length + BLOCK + 1) {
        // A fold without a branch, which the compiler makes vector code of.
        let pairs = block[..BLOCK].iter().zip(&block[1..]);
        let untidy = pairs.fold(false, |any, (&byte, &next)| {
            any | (byte < b' ') | ((byte == b' ') & (next <= b' '))
        });
        if untidy {
            break;
        }
        length += BLOCK;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(pieces: &[&str]) -> String {
        let mut flow = Flow::default();
        for piece in pieces {
            flow.push(piece.as_bytes()).unwrap();
        }
        String::from_utf8(flow.text).unwrap()
    }

    #[test]
    fn white_space() {
        assert_eq!(flow(&["  a  b\t\r\nc ", "", " ", "d e", "f\n"]), "a b c d ef");
        assert_eq!(flow(&["a", " ", "b"]), "a b");
        assert_eq!(flow(&[" ", "\n\t"]), "");
        assert_eq!(flow(&["a\u{a0} \u{2003}b\u{b}"]), "a\u{a0} \u{2003}b\u{b}");
        assert_eq!(flow(&["one two three", " four"]), "one two three four");
        assert_eq!(flow(&["x  "]), "x");
        for length in 0..100 {
            let words = "ab c".repeat(length);
            assert_eq!(flow(&[&words, " "]), words);
            assert_eq!(flow(&[&words, "\n d  e"]), format!("{words} d e").trim_start());
            assert_eq!(
                flow(&[&format!("{words} \t{words}")]),
                format!("{words} {words}").trim()
            );
        }
    }

    #[test]
    fn paragraphs_and_marks() {
        let mut flow = Flow::default();
        flow.push(b" a ").unwrap();
        flow.end_paragraph().unwrap();
        flow.end_paragraph().unwrap();
        flow.push(b" \n").unwrap();
        flow.end_paragraph().unwrap();
        flow.push(b"b ").unwrap();
        let mark = flow.mark();
        flow.push(b"c").unwrap();
        flow.end_paragraph().unwrap();
        flow.push(b"d").unwrap();
        assert_eq!(flow.text, b"a\n\nb c\n\nd");
        flow.back_to(mark);
        flow.push(b"e").unwrap();
        assert_eq!(flow.since(mark), b" e");
        flow.end_paragraph().unwrap();
        assert_eq!(flow.text, b"a\n\nb e");
        assert_eq!(flow.paragraphs, [(0, 1), (3, 6)]);
    }
}
