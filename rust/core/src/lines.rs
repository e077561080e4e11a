//! Lines of a decoded stream, split on the byte `\n` and nothing else: U+2028, U+0085 and a lone `\r` are
//! ordinary characters inside JSON strings, and real files hold them.

use crate::decode::{Compression, Decoder, Pulled};
use crate::{Monitor, Result, limits};

/// Decoded bytes asked for at a time.
pub const BLOCK_BYTES: usize = 256 << 10;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What one call of [`Lines::next_line`] gave. Numbers count from 1.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its `\n`.
    Text {
        /// Its number.
        number: u64,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// A line over the limit. It is not kept: the next call goes on behind it.
    TooLong {
        /// Its number.
        number: u64,
        /// How many of its bytes were seen before it was given up.
        at_least_bytes: u64,
    },
    /// Nothing until more is pushed, or the end declared.
    Starved,
    /// Nothing any more.
    End,
}

/// What to hand out, before it borrows the buffer.
enum Found {
    Text(usize, usize),
    TooLong(u64),
    Starved,
    End,
}

/// Splits what it is fed into lines; holds at most one line and two blocks.
pub struct Lines {
    decoder: Decoder,
    /// `buffer[start..filled]` is decoded and not yet handed out; no newline lies before `scanned`.
    buffer: Vec<u8>,
    start: usize,
    scanned: usize,
    filled: usize,
    max_line_bytes: usize,
    number: u64,
    /// Inside a line that was too long.
    discarding: bool,
    ended: bool,
}

impl Lines {
    /// Lines of at most `max_line_bytes`.
    pub fn new(compression: Compression, max_line_bytes: usize) -> Result<Self> {
        Ok(Self {
            decoder: Decoder::new(compression)?,
            buffer: limits::filled(2 * BLOCK_BYTES, 0, "a block of lines")?,
            start: 0,
            scanned: 0,
            filled: 0,
            max_line_bytes,
            number: 0,
            discarding: false,
            ended: false,
        })
    }

    /// Hands over the next bytes of the file as they are; see [`Decoder::push`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.decoder.push(bytes)
    }

    /// Bytes that were pushed and not yet decoded.
    pub fn pending_bytes(&self) -> usize {
        self.decoder.pending_bytes()
    }

    /// Declares the end of the file.
    pub fn finish(&mut self) {
        self.decoder.finish();
    }

    /// Whether the end was declared.
    pub fn is_finished(&self) -> bool {
        self.decoder.is_finished()
    }

    /// The number of the last line handed out.
    pub fn line_number(&self) -> u64 {
        self.number
    }

    /// The next line.
    pub fn next_line(&mut self, monitor: &Monitor) -> Result<Line<'_>> {
        let found = self.find(monitor)?;
        Ok(match found {
            Found::Text(from, to) => Line::Text {
                number: self.number,
                bytes: &self.buffer[from..to],
            },
            Found::TooLong(at_least_bytes) => Line::TooLong {
                number: self.number,
                at_least_bytes,
            },
            Found::Starved => Line::Starved,
            Found::End => Line::End,
        })
    }

    fn find(&mut self, monitor: &Monitor) -> Result<Found> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.scanned..self.filled]) {
                let end = self.scanned + at;
                let from = self.start;
                (self.start, self.scanned) = (end + 1, end + 1);
                if !std::mem::take(&mut self.discarding) {
                    return Ok(self.line(from, end));
                }
                continue;
            }
            self.scanned = self.filled;
            let pending = self.filled - self.start;
            if self.discarding {
                self.start = self.filled;
            } else if pending > self.max_line_bytes.saturating_add(BYTE_ORDER_MARK.len()) {
                self.start = self.filled;
                self.discarding = true;
                self.number += 1;
                return Ok(Found::TooLong(pending as u64));
            }
            if self.ended {
                if self.start == self.filled {
                    return Ok(Found::End);
                }
                let (from, to) = (self.start, self.filled);
                self.start = self.filled;
                return Ok(self.line(from, to));
            }
            monitor.check()?;
            self.make_room()?;
            let end = self.buffer.len().min(self.filled + BLOCK_BYTES);
            match self.decoder.pull(&mut self.buffer[self.filled..end])? {
                Pulled::Bytes(n) => self.filled += n,
                Pulled::Starved => return Ok(Found::Starved),
                Pulled::End => self.ended = true,
            }
        }
    }

    fn line(&mut self, from: usize, to: usize) -> Found {
        self.number += 1;
        let marked = self.number == 1 && self.buffer[from..to].starts_with(BYTE_ORDER_MARK);
        let from = if marked {
            from + BYTE_ORDER_MARK.len()
        } else {
            from
        };
        if to - from > self.max_line_bytes {
            Found::TooLong((to - from) as u64)
        } else {
            Found::Text(from, to)
        }
    }

    /// Makes place for a block behind what is filled.
    fn make_room(&mut self) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            (self.start, self.scanned) = (0, self.filled);
        }
        if self.filled + BLOCK_BYTES > self.buffer.len() {
            let most = self.max_line_bytes.saturating_add(2 * BLOCK_BYTES);
            let wanted = self
                .buffer
                .len()
                .saturating_mul(2)
                .min(most)
                .max(self.filled + BLOCK_BYTES);
            let more = wanted - self.buffer.len();
            limits::reserve(&mut self.buffer, more, "a long line")?;
            self.buffer.resize(wanted, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(data: &[u8], piece: usize, max: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let monitor = Monitor::new();
        let mut lines = Lines::new(Compression::None, max).unwrap();
        let mut pieces = data.chunks(piece);
        let mut out = Vec::new();
        loop {
            match lines.next_line(&monitor).unwrap() {
                Line::Text { number, bytes } => out.push((number, Some(bytes.to_vec()))),
                Line::TooLong { number, .. } => out.push((number, None)),
                Line::Starved => match pieces.next() {
                    Some(p) => lines.push(p).unwrap(),
                    None => lines.finish(),
                },
                Line::End => return out,
            }
        }
    }

    #[test]
    fn only_the_newline_byte_splits() {
        let text = "\u{feff}a\u{2028}b\rc\u{85}d\r\n\n\0\u{feff}x\nlast";
        for piece in [1, 2, 3, 1000] {
            let got = lines(text.as_bytes(), piece, 100);
            let want = ["a\u{2028}b\rc\u{85}d\r", "", "\0\u{feff}x", "last"];
            assert_eq!(got.len(), want.len());
            for (i, (number, line)) in got.iter().enumerate() {
                assert_eq!(
                    (*number, line.as_deref()),
                    (i as u64 + 1, Some(want[i].as_bytes()))
                );
            }
        }
        assert!(lines(b"", 1, 10).is_empty());
        assert_eq!(lines(b"a\n", 1, 10).len(), 1);
        assert_eq!(lines(b"\n", 1, 10), vec![(1, Some(vec![]))]);
    }

    #[test]
    fn a_long_line_is_passed_over() {
        for piece in [1, 100, 1 << 20] {
            let data = [
                b"ab\n".to_vec(),
                vec![b'x'; 2_000_000],
                b"\ncd\n".to_vec(),
                vec![b'y'; 11],
            ]
            .concat();
            let piece = if piece == 1 { 997 } else { piece };
            let got = lines(&data, piece, 10);
            assert_eq!(
                got,
                vec![
                    (1, Some(b"ab".to_vec())),
                    (2, None),
                    (3, Some(b"cd".to_vec())),
                    (4, None)
                ]
            );
        }
        assert_eq!(
            lines(b"0123456789\n", 3, 10)[0].1.as_deref(),
            Some(&b"0123456789"[..])
        );
    }

    #[test]
    fn a_line_longer_than_many_blocks_comes_whole() {
        let long = vec![b'z'; 3_000_000];
        let got = lines(&[&long[..], b"\nq"].concat(), 65_536, 4_000_000);
        assert_eq!(got[0].1.as_ref().unwrap().len(), long.len());
        assert_eq!(got[1], (2, Some(b"q".to_vec())));
    }

    #[test]
    fn memory_stays_near_the_limit_however_long_the_line() {
        let monitor = Monitor::new();
        let mut lines = Lines::new(Compression::None, 1 << 20).unwrap();
        let block = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            lines.push(&block).unwrap();
            while !matches!(lines.next_line(&monitor).unwrap(), Line::Starved) {}
            assert!(lines.buffer.capacity() <= 4 << 20);
        }
    }
}
