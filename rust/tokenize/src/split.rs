//! Split patterns, written by hand: each finds the pieces that its regex finds, in one pass and without backtracking.
//!
//! The regexes cover every text (each character is a letter, a number, white space or other, and some alternative
//! takes any one of them), so the pieces are contiguous, and a splitter only has to say where the piece that begins
//! at `i` ends. Why that end equals the regex's stands at each function, alternative by alternative; the tests compare
//! with the engines themselves over every code point.
//!
//! Cost: every character is looked at a bounded number of times, whatever the text.

use crate::classes::{LETTER, LOWER, NEWLINE, NUMBER, OTHER, SPACE, UPPER, classes};
use biollm_core::{Error, Result};

/// A split pattern, known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// GPT-2 (also r50k, p50k): `ByteLevel` with `use_regex`.
    Gpt2,
    /// tiktoken's cl100k_base: as [`Pattern::Llama3`], but white space at the end of the text is one piece.
    Cl100k,
    /// Llama 3's form of cl100k, as `tokenizer.json` files carry it.
    Llama3,
    /// tiktoken's o200k_base.
    O200k,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Pattern {
    /// By the name that users write.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "gpt2" => Ok(Self::Gpt2),
            "cl100k" => Ok(Self::Cl100k),
            "llama3" => Ok(Self::Llama3),
            "o200k" => Ok(Self::O200k),
            _ => Err(Error::input(
                "pattern",
                format!("pattern {name:?} is unknown (known: gpt2, cl100k, llama3, o200k)"),
            )),
        }
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Cl100k => "cl100k",
            Self::Llama3 => "llama3",
            Self::O200k => "o200k",
        }
    }

    /// The regex that this splitter equals.
    pub fn regex(self) -> &'static str {
        match self {
            Self::Gpt2 => GPT2,
            Self::Cl100k => CL100K,
            Self::Llama3 => LLAMA3,
            Self::O200k => O200K,
        }
    }

    /// By the regex of a `tokenizer.json`. tiktoken's cl100k is not among them: Oniguruma reads its possessive
    /// `{1,3}+` and its `$` in another way.
    pub fn from_regex(regex: &str) -> Option<Self> {
        [Self::Gpt2, Self::Llama3, Self::O200k]
            .into_iter()
            .find(|p| p.regex() == regex)
    }

    /// Calls `piece` with each piece of `text` in order; the first error ends it.
    #[inline]
    pub fn split<'a>(self, text: &'a str, mut piece: impl FnMut(&'a str) -> Result<()>) -> Result<()> {
        let scanner = Scanner {
            text: text.as_bytes(),
            classes: classes(),
        };
        let mut each = |start: usize, end: usize| piece(&text[start..end]);
        match self {
            Self::Gpt2 => scanner.pieces(Scanner::gpt2, &mut each),
            Self::Cl100k => scanner.pieces(Scanner::cl100k::<true>, &mut each),
            Self::Llama3 => scanner.pieces(Scanner::cl100k::<false>, &mut each),
            Self::O200k => scanner.pieces(Scanner::o200k, &mut each),
        }
    }
}

/// A text as bytes of valid UTF-8, and the class table. Every position is the first byte of a character or the end.
#[derive(Clone, Copy)]
struct Scanner<'a> {
    text: &'a [u8],
    classes: &'static [u8],
}

impl Scanner<'_> {
    #[inline]
    fn pieces(
        self,
        end_of_piece: impl Fn(Self, usize) -> usize,
        each: &mut impl FnMut(usize, usize) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        while start < self.text.len() {
            let end = end_of_piece(self, start);
            each(start, end)?;
            start = end;
        }
        Ok(())
    }

    /// Class bits and length in bytes of the character at `i`; (0, 0) at the end of the text.
    #[inline]
    fn look(self, i: usize) -> (u8, usize) {
        let Some(&first) = self.text.get(i) else {
            return (0, 0);
        };
        if first < 0x80 {
            return (self.classes[usize::from(first)], 1);
        }
        let follow = |k: usize| usize::from(self.text.get(i + k).copied().unwrap_or(0) & 0x3F);
        let first = usize::from(first);
        let (code, len) = if first < 0xE0 {
            ((first & 0x1F) << 6 | follow(1), 2)
        } else if first < 0xF0 {
            ((first & 0x0F) << 12 | follow(1) << 6 | follow(2), 3)
        } else {
            (
                (first & 0x07) << 18 | follow(1) << 12 | follow(2) << 6 | follow(3),
                4,
            )
        };
        (self.classes.get(code).copied().unwrap_or(0), len)
    }

    #[inline]
    fn class(self, i: usize) -> u8 {
        self.look(i).0
    }

    /// The end of the longest run from `i` of characters that have a bit of `mask`.
    #[inline]
    fn run(self, mut i: usize, mask: u8) -> usize {
        loop {
            let (bits, len) = self.look(i);
            if bits & mask == 0 {
                return i;
            }
            i += len;
        }
    }

    /// `'s 't 'm 'd 'll 've 're` at `i`, where an apostrophe stands: its end. With `FOLD` in any case, and U+017F
    /// (long s) as s: the one character outside ASCII whose simple case folding is a letter of these.
    #[inline]
    fn contraction<const FOLD: bool>(self, i: usize) -> Option<usize> {
        let fold = |byte: u8| if FOLD { byte.to_ascii_lowercase() } else { byte };
        let second = self.text.get(i + 2).copied().map(fold);
        match (fold(*self.text.get(i + 1)?), second) {
            (b's' | b't' | b'm' | b'd', _) => Some(i + 2),
            (b'l', Some(b'l')) | (b'v' | b'r', Some(b'e')) => Some(i + 3),
            (0xC5, Some(0xBF)) if FOLD => Some(i + 3),
            _ => None,
        }
    }

    /// White space from `i`, where some stands, under `\s+(?!\S)|\s+`: the greedy run must not be followed by a
    /// non-space, so unless it reaches the end of the text it gives its last character back, and if that was its only
    /// one, the second alternative takes it.
    #[inline]
    fn spaces_before_the_last(self, i: usize, run: SpaceRun) -> usize {
        if run.end == self.text.len() || run.last == i {
            run.end
        } else {
            run.last
        }
    }

    #[inline]
    fn space_run(self, i: usize) -> SpaceRun {
        let mut run = SpaceRun {
            end: i,
            last: i,
            after_newline: None,
        };
        loop {
            let (bits, len) = self.look(run.end);
            if bits & SPACE == 0 {
                return run;
            }
            run.last = run.end;
            run.end += len;
            if bits & NEWLINE != 0 {
                run.after_newline = Some(run.end);
            }
        }
    }

    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    ///
    /// A contraction comes first. Else the class of the character (or of the one behind a single blank) decides which
    /// of the three runs it is: they exclude each other, and greedy runs of one class need no backtracking. What is
    /// left is white space that no such character follows directly.
    #[inline]
    fn gpt2(self, i: usize) -> usize {
        let (mut bits, _) = self.look(i);
        let mut from = i;
        match self.text[i] {
            b'\'' => {
                if let Some(end) = self.contraction::<false>(i) {
                    return end;
                }
            }
            b' ' => {
                let next = self.class(i + 1);
                if next & (LETTER | NUMBER | OTHER) != 0 {
                    (bits, from) = (next, i + 1);
                }
            }
            _ => {}
        }
        match bits & (LETTER | NUMBER | OTHER) {
            0 => self.spaces_before_the_last(i, self.space_run(i)),
            class => self.run(from, class),
        }
    }

    /// [`LLAMA3`], or with `TAIL` [`CL100K`], whose differences in writing change nothing but one thing: possessive
    /// runs are over sets that what follows them excludes; `\s*[\r\n]` ends at the last newline of the run as
    /// `\s*[\r\n]+` does; `\s` is reached only by a run of one character. `\s++$` is the one: it takes the white
    /// space that ends the text whole, newlines in it or not.
    ///
    /// Alternatives: a contraction; letters with at most one character before them that is no letter, number or
    /// newline (that set excludes letters, so whether it is taken is not a choice); at most three numbers; others
    /// after at most one blank, then newlines (others exclude newlines); white space up to its last newline; the
    /// rest of white space as in [`Scanner::spaces_before_the_last`].
    #[inline]
    fn cl100k<const TAIL: bool>(self, i: usize) -> usize {
        let (bits, len) = self.look(i);
        let byte = self.text[i];
        if byte == b'\''
            && let Some(end) = self.contraction::<true>(i)
        {
            return end;
        }
        if bits & LETTER != 0 {
            return self.run(i, LETTER);
        }
        if bits & NUMBER != 0 {
            return self.up_to_three_numbers(i);
        }
        let next = self.class(i + len);
        if bits & NEWLINE == 0 && next & LETTER != 0 {
            return self.run(i + len, LETTER);
        }
        if bits & OTHER != 0 || (byte == b' ' && next & OTHER != 0) {
            let end = self.run(if bits & OTHER != 0 { i } else { i + 1 }, OTHER);
            return self.run(end, NEWLINE);
        }
        let run = self.space_run(i);
        if TAIL && run.end == self.text.len() {
            return run.end;
        }
        run.after_newline
            .unwrap_or_else(|| self.spaces_before_the_last(i, run))
    }

    /// [`O200K`]. The first two alternatives are the only ones of all patterns in which backtracking matters: the sets
    /// U = `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]` and L = `[\p{Ll}\p{Lm}\p{Lo}\p{M}]` overlap, and a mark is also what the
    /// optional first character may be. A regex tries, in this order: alternative 1 with that character, 1 without,
    /// 2 with, 2 without; so do we. The other alternatives are as in [`Scanner::cl100k`], with `/` among the newlines
    /// behind others.
    #[inline]
    fn o200k(self, i: usize) -> usize {
        let (bits, len) = self.look(i);
        if bits & (NEWLINE | NUMBER) == 0 {
            let optional = (bits & LETTER == 0).then_some(i + len);
            let word = optional
                .and_then(|from| self.upper_then_lower(from))
                .or_else(|| self.upper_then_lower(i))
                .or_else(|| optional.and_then(|from| self.upper(from)))
                .or_else(|| self.upper(i));
            if let Some(end) = word {
                let apostrophe = self.text.get(end) == Some(&b'\'');
                return if apostrophe {
                    self.contraction::<true>(end).unwrap_or(end)
                } else {
                    end
                };
            }
        }
        if bits & NUMBER != 0 {
            return self.up_to_three_numbers(i);
        }
        let next = self.class(i + len);
        if bits & OTHER != 0 || (self.text[i] == b' ' && next & OTHER != 0) {
            let mut end = self.run(if bits & OTHER != 0 { i } else { i + 1 }, OTHER);
            while matches!(self.text.get(end), Some(b'\r' | b'\n' | b'/')) {
                end += 1;
            }
            return end;
        }
        let run = self.space_run(i);
        run.after_newline
            .unwrap_or_else(|| self.spaces_before_the_last(i, run))
    }

    /// `U*L+` at `from`: where it ends. U* takes its whole run, up to j. If a character of L stands at j, L+ goes on
    /// from there. Else U* gives back one character after another until the one given back, k, is of L; those between
    /// k and j are not, so L+ takes k alone.
    #[inline]
    fn upper_then_lower(self, from: usize) -> Option<usize> {
        let (mut j, mut after_k) = (from, None);
        loop {
            let (bits, len) = self.look(j);
            if bits & UPPER == 0 {
                return if bits & LOWER != 0 {
                    Some(self.run(j, LOWER))
                } else {
                    after_k
                };
            }
            j += len;
            if bits & LOWER != 0 {
                after_k = Some(j);
            }
        }
    }

    /// `U+L*` at `from`: where it ends.
    #[inline]
    fn upper(self, from: usize) -> Option<usize> {
        let end = self.run(from, UPPER);
        (end > from).then(|| self.run(end, LOWER))
    }

    #[inline]
    fn up_to_three_numbers(self, i: usize) -> usize {
        let mut end = i;
        for _ in 0..3 {
            let (bits, len) = self.look(end);
            if bits & NUMBER == 0 {
                break;
            }
            end += len;
        }
        end
    }
}

/// A run of white space: its end, where its last character begins, and the place behind its last newline.
struct SpaceRun {
    end: usize,
    last: usize,
    after_newline: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(pattern: Pattern, text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        pattern
            .split(text, |p| {
                pieces.push(p);
                Ok(())
            })
            .unwrap();
        assert_eq!(pieces.concat(), text);
        pieces
    }

    #[test]
    fn gpt2() {
        let p = |t| pieces(Pattern::Gpt2, t);
        assert_eq!(
            p("I'll see  you'LL\n\n x 12345!?"),
            [
                "I", "'ll", " see", " ", " you", "'", "LL", "\n\n", " x", " 12345", "!?"
            ]
        );
        assert_eq!(p("  a"), [" ", " a"]);
        assert_eq!(p("a  "), ["a", "  "]);
        assert_eq!(p("\u{a0}a"), ["\u{a0}", "a"]);
    }

    #[test]
    fn cl100k_and_llama3() {
        let p = |t| pieces(Pattern::Llama3, t);
        assert_eq!(
            p("I'LL (see) 12345 \n\n  x!\r\n"),
            [
                "I", "'LL", " (", "see", ")", " ", "123", "45", " \n\n", " ", " x", "!\r\n"
            ]
        );
        assert_eq!(p("'ſx"), ["'ſ", "x"]);
        assert_eq!(p("  \n \n   "), ["  \n \n", "   "]);
        assert_eq!(pieces(Pattern::Cl100k, "  \n \n   "), ["  \n \n   "]);
        assert_eq!(pieces(Pattern::Cl100k, "  \n \n   x"), ["  \n \n", "  ", " x"]);
    }

    #[test]
    fn o200k() {
        let p = |t| pieces(Pattern::O200k, t);
        assert_eq!(
            p("HelloWorld's ABCdef's x//\n/"),
            ["Hello", "World's", " ABCdef's", " x", "//\n/"]
        );
        // A mark before capitals is a word of its own: U*L+ backtracks to it before U+L* may take the capitals.
        assert_eq!(p("\u{300}ABC"), ["\u{300}", "ABC"]);
        assert_eq!(p("1\u{300}a"), ["1", "\u{300}a"]);
        assert_eq!(p("中Aa中B"), ["中Aa中", "B"]);
    }

    #[test]
    fn nothing_is_no_piece() {
        for pattern in [Pattern::Gpt2, Pattern::Cl100k, Pattern::Llama3, Pattern::O200k] {
            assert!(pieces(pattern, "").is_empty());
            assert_eq!(Pattern::from_name(pattern.name()).unwrap(), pattern);
        }
        assert!(Pattern::from_name("gpt3").is_err());
    }
}
