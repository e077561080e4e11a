//! A window on the decoded bytes: whole UTF-8, nothing that XML forbids, lines counted.

use super::names::forbidden;
use super::source::Source;
use biollm_core::lines::BLOCK_BYTES;
use biollm_core::{Error, Monitor, Result, limits};

/// See the module.
pub(super) struct Window {
    pub(super) buffer: Vec<u8>,
    /// `buffer[start..valid]` is checked and not yet taken.
    pub(super) start: usize,
    pub(super) valid: usize,
    filled: usize,
    /// The bytes before `buffer[0]`, and its line.
    passed: u64,
    line: u64,
    /// A place in the buffer that was asked for, and its line: the next one is mostly behind it.
    counted: (usize, u64),
    /// Whether the bytes are looked at.
    checks: bool,
    /// What stands at `valid`, where that ends the reading.
    wrong: Option<&'static str>,
    /// The file says that it holds ASCII alone.
    ascii: bool,
    began: bool,
    ended: bool,
    /// The source itself failed: no fault of this document alone.
    pub(super) source_failed: bool,
}

impl Window {
    /// A window; without `checks` it takes all bytes as they are, for a pass that another one follows.
    pub(super) fn new(checks: bool) -> Result<Self> {
        Ok(Self {
            buffer: limits::filled(2 * BLOCK_BYTES, 0, "a block of XML")?,
            start: 0,
            valid: 0,
            filled: 0,
            passed: 0,
            line: 1,
            counted: (0, 1),
            checks,
            wrong: None,
            ascii: false,
            began: false,
            ended: false,
            source_failed: false,
        })
    }

    /// Makes it as new for the next document.
    pub(super) fn reset(&mut self) {
        (self.start, self.valid, self.filled, self.passed, self.line) = (0, 0, 0, 0, 1);
        self.counted = (0, 1);
        (self.wrong, self.ascii, self.began, self.ended) = (None, false, false, false);
    }

    /// What may be looked at now.
    #[inline]
    pub(super) fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.valid]
    }

    /// The place in the document of what comes next.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        self.passed + self.start as u64
    }

    /// The line of `buffer[at]`, counted from 1.
    pub(super) fn line_at(&self, at: usize) -> u64 {
        self.line + newlines(&self.buffer[..at.min(self.filled)])
    }

    /// The same, for places that mostly follow one another.
    pub(super) fn line_after(&mut self, at: usize) -> u64 {
        let (from, line) = self.counted;
        if let Some(between) = self.buffer[..self.filled].get(from..at) {
            self.counted = (at, line + newlines(between));
            return self.counted.1;
        }
        self.line_at(at)
    }

    /// Gets more bytes behind those there are; false at the end of the document.
    pub(super) fn refill(&mut self, source: &mut Source, monitor: &Monitor) -> Result<bool> {
        if let Some(wrong) = self.wrong {
            let line = self.line_at(self.valid);
            return Err(Error::format(wrong).at(None, Some(line)));
        }
        if self.ended {
            return Ok(false);
        }
        self.make_room()?;
        let before = self.valid;
        loop {
            let end = self.buffer.len().min(self.filled + BLOCK_BYTES);
            let read = source.read(&mut self.buffer[self.filled..end], monitor);
            if matches!(read, Err(ref error) if !matches!(error, Error::Stopped)) {
                self.source_failed = true;
            }
            let n = read?;
            self.filled += n;
            self.ended = n == 0;
            // The first bytes tell the encoding, and may come one by one.
            if self.ended || self.began || self.filled >= 4 {
                break;
            }
        }
        if !self.began {
            self.began = true;
            self.begin()?;
        }
        self.check();
        Ok(!self.ended || self.valid > before || self.wrong.is_some())
    }

    /// Looks at the first bytes.
    fn begin(&mut self) -> Result<()> {
        let found = match &self.buffer[..self.filled] {
            [0xEF, 0xBB, 0xBF, ..] => {
                (self.start, self.valid) = (3, 3);
                return Ok(());
            }
            [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] | [0, 0, 0, b'<', ..] | [b'<', 0, 0, 0, ..] => {
                "UTF-32"
            }
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, b'<', ..] | [b'<', 0, ..] => "UTF-16",
            _ => return Ok(()),
        };
        Err(encoding(found).at(None, Some(1)))
    }

    /// Heeds the encoding that the file declares.
    pub(super) fn declare(&mut self, name: &[u8]) -> Result<()> {
        if name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"utf8") {
            return Ok(());
        }
        if !name.eq_ignore_ascii_case(b"us-ascii") && !name.eq_ignore_ascii_case(b"ascii") {
            return Err(encoding(&String::from_utf8_lossy(name)));
        }
        self.ascii = true;
        if let Some(at) = self.data().iter().position(|b| !b.is_ascii()) {
            self.valid = self.start + at;
            self.wrong = Some(NOT_ASCII);
        }
        Ok(())
    }

    /// Takes the new bytes into what may be looked at, up to the first that is wrong.
    fn check(&mut self) {
        if !self.checks {
            self.valid = self.filled;
            return;
        }
        let fresh = &self.buffer[self.valid..self.filled];
        let mut upto = fresh.len();
        if let Err(error) = simdutf8::compat::from_utf8(fresh) {
            upto = error.valid_up_to();
            // A character that the block cuts in two waits for the next one.
            if error.error_len().is_some() || self.ended {
                self.wrong = Some("not valid UTF-8");
            }
        }
        if self.ascii
            && let Some(at) = fresh[..upto].iter().position(|b| !b.is_ascii())
        {
            upto = at;
            self.wrong = Some(NOT_ASCII);
        }
        if let Some(at) = forbidden(&fresh[..upto]) {
            upto = at;
            self.wrong =
                Some("a character that may not stand in XML (a control character, U+FFFE or U+FFFF)");
        }
        self.valid += upto;
    }

    /// Makes place for a block behind what is filled.
    fn make_room(&mut self) -> Result<()> {
        if self.start > 0 {
            self.line += newlines(&self.buffer[..self.start]);
            self.passed += self.start as u64;
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.valid -= self.start;
            self.start = 0;
            self.counted = (0, self.line);
        }
        if self.filled + BLOCK_BYTES > self.buffer.len() {
            let more = (self.filled + BLOCK_BYTES).max(self.buffer.len() * 2) - self.buffer.len();
            limits::reserve(&mut self.buffer, more, "a long tag")?;
            self.buffer.resize(self.buffer.len() + more, 0);
        }
        Ok(())
    }
}

const NOT_ASCII: &str = "a byte over 127 in a file that declares US-ASCII";

fn encoding(name: &str) -> Error {
    Error::format(format!(
        "encoding {name:?}: only UTF-8 and US-ASCII are read: convert the file"
    ))
}

fn newlines(data: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', data).count() as u64
}
