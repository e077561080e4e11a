//! One file, or a stream that is pushed in, as batches of documents.

use crate::columns::{Batch, Rejected};
use crate::options::{Format, Options, RAISE_LIMIT};
use crate::record;
use biollm_core::decode::{Decoder, Pulled};
use biollm_core::lines::{BLOCK_BYTES, Line, Lines};
use biollm_core::{Error, Monitor, Result, limits};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Rows, and records passed over, after which a batch is handed out.
pub(crate) const BATCH_ROWS: usize = 1 << 16;

/// Bytes of columns after which a batch is handed out.
pub(crate) const BATCH_BYTES: usize = 16 << 20;

enum Content {
    Lines(Box<Lines>),
    Whole {
        decoder: Box<Decoder>,
        data: Vec<u8>,
        too_long: bool,
    },
}

/// See the module.
pub struct Reader {
    options: Options,
    content: Content,
    /// The file, or `None` where bytes are pushed in.
    file: Option<File>,
    /// For messages.
    path: PathBuf,
    block: Vec<u8>,
    batch: Batch,
    /// Records met, those passed over among them.
    records: u64,
    bytes_read: u64,
    total_bytes: Option<u64>,
    hasher: Xxh3,
    ended: bool,
    failed: bool,
}

impl Reader {
    /// A reader of a regular file.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|e| Error::file(path, e))?;
        if !metadata.is_file() {
            // Opening a pipe could block for ever; a folder only fails when read.
            let message = format!("{}: not a regular file", path.display());
            return Err(Error::input("path", message));
        }
        let file = File::open(path).map_err(|e| Error::file(path, e))?;
        let mut reader = Self::new(path, Some(file), options)?;
        reader.total_bytes = Some(metadata.len());
        Ok(reader)
    }

    /// A reader of what will be pushed in; `name` stands for the file in messages.
    pub fn fed(name: &Path, options: Options) -> Result<Self> {
        Self::new(name, None, options)
    }

    fn new(path: &Path, file: Option<File>, options: Options) -> Result<Self> {
        options.check()?;
        let content = match options.format {
            Format::Text => {
                let decoder = Box::new(Decoder::new(options.compression)?);
                Content::Whole {
                    decoder,
                    data: Vec::new(),
                    too_long: false,
                }
            }
            Format::Jsonl | Format::Lines => Content::Lines(Box::new(Lines::new(
                options.compression,
                options.max_document_bytes,
            )?)),
        };
        let block = if file.is_some() {
            limits::filled(BLOCK_BYTES, 0, "a block of a file")?
        } else {
            Vec::new()
        };
        Ok(Self {
            options,
            content,
            file,
            path: path.to_path_buf(),
            block,
            batch: Batch::default(),
            records: 0,
            bytes_read: 0,
            total_bytes: None,
            hasher: Xxh3::new(),
            ended: false,
            failed: false,
        })
    }

    /// Hands over the next bytes of the stream as they are (compressed, if it is).
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.file.is_some() {
            return Err(Error::input(
                "bytes",
                "this reader reads a file: nothing can be pushed into it",
            ));
        }
        let pending = match &self.content {
            Content::Lines(lines) => lines.pending_bytes(),
            Content::Whole { decoder, .. } => decoder.pending_bytes(),
        };
        let (waiting, limit) = (
            pending.saturating_add(bytes.len()) as u64,
            limits::MAX_PUSHED_BYTES as u64,
        );
        if waiting > limit {
            let hint = "push smaller blocks, and call next_batch until it gives None between them";
            return Err(Error::limit(
                "pushed bytes that wait to be decoded",
                waiting,
                limit,
                hint,
            ));
        }
        self.feed(bytes)
    }

    /// Declares the end of the stream.
    pub fn finish(&mut self) {
        match &mut self.content {
            Content::Lines(lines) => lines.finish(),
            Content::Whole { decoder, .. } => decoder.finish(),
        }
    }

    /// Bytes read or pushed so far, as they are in the file.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Whether everything has been read and handed out.
    pub fn ended(&self) -> bool {
        self.ended && self.batch.rows == 0 && self.batch.rejected.is_empty()
    }

    /// xxh3-128 of the file's bytes, once all of it has been read.
    pub fn xxh3_128_hex(&self) -> Option<String> {
        self.ended.then(|| format!("{:032x}", self.hasher.digest128()))
    }

    /// The next documents. `None` at the end, or where what was pushed does not yet fill a batch.
    pub fn next_batch(&mut self, monitor: &Monitor) -> Result<Option<Batch>> {
        if self.failed {
            return Err(Error::input(
                "reader",
                "this reader has failed before: open a new one",
            ));
        }
        if let Some(total) = self.total_bytes {
            monitor.set_total(total);
        }
        monitor.advance(self.bytes_read);
        let result = self.fill(monitor);
        match result {
            // A stop leaves all as it is: the next call goes on.
            Err(Error::Stopped) => Err(Error::Stopped),
            Err(error) => {
                self.failed = true;
                Err(error.at(Some(&self.path), None))
            }
            Ok(()) => {
                let full = self.is_full() || self.ended;
                let empty = self.batch.rows == 0 && self.batch.rejected.is_empty();
                Ok(if full && !empty {
                    Some(std::mem::take(&mut self.batch))
                } else {
                    None
                })
            }
        }
    }

    fn is_full(&self) -> bool {
        self.batch.rows + self.batch.rejected.len() >= BATCH_ROWS || self.batch.bytes() >= BATCH_BYTES
    }

    /// Reads until the batch is full, or there is nothing more to read for now.
    fn fill(&mut self, monitor: &Monitor) -> Result<()> {
        while !self.ended && !self.is_full() {
            let starved = match self.options.format {
                Format::Text => self.whole(monitor)?,
                Format::Jsonl | Format::Lines => self.line(monitor)?,
            };
            if starved && !self.read_block(monitor)? {
                break;
            }
        }
        Ok(())
    }

    /// Feeds the next block of the file; false where bytes are pushed in and no more are there.
    fn read_block(&mut self, monitor: &Monitor) -> Result<bool> {
        let Some(mut file) = self.file.as_ref() else {
            return Ok(false);
        };
        let n = loop {
            monitor.check()?;
            match file.read(&mut self.block) {
                Ok(n) => break n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::file(&self.path, e)),
            }
        };
        if n == 0 {
            self.finish();
            return Ok(true);
        }
        monitor.advance(n as u64);
        let block = std::mem::take(&mut self.block);
        let fed = self.feed(&block[..n]);
        self.block = block;
        fed.map(|()| true)
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.content {
            Content::Lines(lines) => lines.push(bytes)?,
            Content::Whole { decoder, .. } => decoder.push(bytes)?,
        }
        self.hasher.update(bytes);
        self.bytes_read += bytes.len() as u64;
        Ok(())
    }

    /// Takes one line; true when it needs more bytes first.
    fn line(&mut self, monitor: &Monitor) -> Result<bool> {
        let Content::Lines(lines) = &mut self.content else {
            return Err(Error::Internal("a reader of lines without lines".into()));
        };
        let limit = self.options.max_document_bytes as u64;
        let (number, outcome) = match lines.next_line(monitor)? {
            Line::Starved => return Ok(true),
            Line::End => {
                self.ended = true;
                return Ok(false);
            }
            Line::TooLong {
                number,
                at_least_bytes,
            } => (
                number,
                Err(Error::limit(
                    "bytes of the line",
                    at_least_bytes,
                    limit,
                    RAISE_LIMIT,
                )),
            ),
            Line::Text { bytes, .. } if bytes.trim_ascii().is_empty() => return Ok(false),
            Line::Text { number, bytes } => {
                let (row, options, batch) = (self.records, &self.options, &mut self.batch);
                let outcome = match simdutf8::compat::from_utf8(bytes) {
                    Err(error) => {
                        let place = error.valid_up_to() + 1;
                        Err(Error::format(format!(
                            "not valid UTF-8 (byte {place} of the line)"
                        )))
                    }
                    Ok(line) if options.format == Format::Jsonl => {
                        record::append(line, row, options, batch, monitor)
                    }
                    Ok(line) => append_plain(line.strip_suffix('\r').unwrap_or(line), row, options, batch),
                };
                (number, outcome)
            }
        };
        self.settle(number, outcome)?;
        Ok(false)
    }

    /// Counts a record that was read; a bad one is passed over or ends the reading, as the options say.
    fn settle(&mut self, line: u64, outcome: Result<()>) -> Result<()> {
        if let Err(error) = outcome {
            self.batch.drop_row();
            match error {
                Error::Format { .. } | Error::Limit { .. } if self.options.skip => {
                    limits::reserve(&mut self.batch.rejected, 1, "the rejected records")?;
                    self.batch.rejected.push(Rejected {
                        line,
                        reason: error.to_string(),
                    });
                }
                error => return Err(error.at(Some(&self.path), Some(line))),
            }
        }
        self.records += 1;
        Ok(())
    }

    /// Takes a block of a file that is one document; true when it needs more bytes first.
    fn whole(&mut self, monitor: &Monitor) -> Result<bool> {
        let Content::Whole {
            decoder,
            data,
            too_long,
        } = &mut self.content
        else {
            return Err(Error::Internal("a reader of whole files without one".into()));
        };
        monitor.check()?;
        let limit = self.options.max_document_bytes;
        let filled = data.len();
        limits::reserve(data, BLOCK_BYTES, "a document")?;
        data.resize(filled + BLOCK_BYTES, 0);
        let pulled = decoder.pull(&mut data[filled..]);
        data.truncate(filled + if let Ok(Pulled::Bytes(n)) = pulled { n } else { 0 });
        match pulled? {
            Pulled::Starved => return Ok(true),
            Pulled::Bytes(_) => {
                if data.len() > limit.saturating_add(3) && !*too_long {
                    if !self.options.skip {
                        let found = data.len() as u64;
                        let error = Error::limit("bytes of the document", found, limit as u64, RAISE_LIMIT);
                        return Err(error.at(Some(&self.path), Some(1)));
                    }
                    *too_long = true;
                }
                if *too_long {
                    // The rest is read for its checksums, and not kept.
                    data.clear();
                }
                return Ok(false);
            }
            Pulled::End => {}
        }
        self.ended = true;
        let (data, too_long) = (std::mem::take(data), *too_long);
        let data = data.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&data);
        let outcome = if too_long || data.len() > limit {
            let found = (data.len() as u64).max(limit as u64 + 1);
            Err(Error::limit(
                "bytes of the document",
                found,
                limit as u64,
                RAISE_LIMIT,
            ))
        } else {
            match simdutf8::compat::from_utf8(data) {
                Ok(text) => append_plain(text, 0, &self.options, &mut self.batch),
                Err(error) => {
                    let line = 1 + data[..error.valid_up_to()]
                        .iter()
                        .filter(|&&b| b == b'\n')
                        .count() as u64;
                    let error = Error::format(format!(
                        "not valid UTF-8 (byte {} of the file)",
                        error.valid_up_to() + 1
                    ));
                    return self.settle(line, Err(error)).map(|()| false);
                }
            }
        };
        self.settle(1, outcome)?;
        Ok(false)
    }
}

/// A document that is all text.
fn append_plain(text: &str, row: u64, options: &Options, batch: &mut Batch) -> Result<()> {
    batch.text.extend(text.as_bytes())?;
    batch
        .id
        .extend(format!("{}{row}", options.id_prefix).as_bytes())?;
    batch.text.end_row()?;
    batch.id.end_row()?;
    batch.meta.end_row()?;
    batch.source.end_row(false)?;
    batch.rows += 1;
    Ok(())
}
