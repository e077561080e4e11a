//! Runs of letters, numbers and `_`: a simpler notion of a word than that of UAX 29.

use crate::words::{CHECK_BYTES, MAX_WORD_BYTES, is_ascii_word};
use biollm_core::Monitor;

/// The runs of alphanumeric characters and `_` in a text, each with the byte at which it starts: what the
/// regular expression `\w+` finds. Made by [`alphanumeric_runs`].
#[derive(Clone)]
pub struct AlphanumericRuns<'a> {
    text: &'a str,
    at: usize,
    monitor: Option<&'a Monitor>,
    next_check: usize,
}

/// The maximal runs of alphanumeric characters (Unicode: alphabetic, or a number) and `_`, as `(start, run)`;
/// runs over [`MAX_WORD_BYTES`] come in pieces.
pub fn alphanumeric_runs(text: &str) -> AlphanumericRuns<'_> {
    AlphanumericRuns {
        text,
        at: 0,
        monitor: None,
        next_check: usize::MAX,
    }
}

impl<'a> AlphanumericRuns<'a> {
    /// As [`Words::watched`].
    pub fn watched(mut self, monitor: &'a Monitor) -> Self {
        self.monitor = Some(monitor);
        self.next_check = self.at;
        self
    }

    /// The number of bytes of the character at `at`, and whether it belongs to a run.
    #[inline]
    fn character(&self, at: usize) -> Option<(usize, bool)> {
        let byte = *self.text.as_bytes().get(at)?;
        if byte.is_ascii() {
            return Some((1, is_ascii_word(byte)));
        }
        self.text[at..]
            .chars()
            .next()
            .map(|c| (c.len_utf8(), c.is_alphanumeric()))
    }
}

impl<'a> Iterator for AlphanumericRuns<'a> {
    type Item = (usize, &'a str);

    fn next(&mut self) -> Option<(usize, &'a str)> {
        let mut start = self.at;
        loop {
            if start >= self.next_check {
                if self.monitor.is_some_and(|m| m.check().is_err()) {
                    self.at = self.text.len();
                    return None;
                }
                self.next_check = start + CHECK_BYTES;
            }
            match self.character(start) {
                Some((size, false)) => start += size,
                _ => break,
            }
        }
        let mut end = start;
        while let Some((size, true)) = self.character(end) {
            if end + size - start > MAX_WORD_BYTES {
                break;
            }
            end += size;
        }
        self.at = end;
        if end > start {
            Some((start, &self.text[start..end]))
        } else {
            None
        }
    }
}

impl std::iter::FusedIterator for AlphanumericRuns<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_maximal() {
        let list = |text: &'static str| alphanumeric_runs(text).collect::<Vec<_>>();
        assert_eq!(
            list("can't 3.5 _é½"),
            [(0, "can"), (4, "t"), (6, "3"), (8, "5"), (10, "_é½")]
        );
        assert!(list("").is_empty() && list(" .-").is_empty());
    }

    #[test]
    fn long_runs_come_in_pieces() {
        for unit in ["a", "é", "한"] {
            let text = unit.repeat(200_000);
            let pieces: Vec<_> = alphanumeric_runs(&text).collect();
            assert!(pieces.iter().all(|(_, w)| w.len() <= MAX_WORD_BYTES));
            assert_eq!(pieces.iter().map(|(_, w)| *w).collect::<String>(), text);
        }
    }

    #[test]
    fn a_stopped_monitor_ends_the_runs() {
        let monitor = Monitor::new();
        let (apart, joined) = (". ".repeat(1 << 20) + "word", "a".repeat(1 << 20));
        assert_eq!(alphanumeric_runs(&apart).watched(&monitor).count(), 1);
        monitor.stop();
        for text in [&apart, &joined] {
            assert_eq!(alphanumeric_runs(text).watched(&monitor).count(), 0);
        }
    }
}
