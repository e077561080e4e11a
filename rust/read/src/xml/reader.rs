//! One PubMed or JATS file, or a tar of them, as batches of records.

use super::columns::XmlBatch;
use super::jats::Jats;
use super::names::local;
use super::options::XmlOptions;
use super::pubmed::{Pubmed, Step};
use super::record::Record;
use super::source::Source;
use super::tokens::{Event, Tokens};
use crate::columns::Rejected;
use crate::reader::{BATCH_BYTES, BATCH_ROWS};
use biollm_core::lines::BLOCK_BYTES;
use biollm_core::{Error, Monitor, Result, limits};
use std::path::{Path, PathBuf};

/// Records passed over after which a batch is handed out: their reasons may hold long names.
const BATCH_REJECTED: usize = 4096;

/// What the records of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pubmed,
    Jats,
}

impl Kind {
    /// By the name of the root element.
    pub(super) fn of_root(name: &[u8]) -> Result<Self> {
        let name = local(name);
        if Pubmed::is_root(name) {
            return Ok(Kind::Pubmed);
        }
        if Jats::is_root(name) {
            return Ok(Kind::Jats);
        }
        let name = String::from_utf8_lossy(name);
        Err(Error::format(format!(
            "the root element is <{name}>: neither PubMed's (PubmedArticleSet, PubmedBookArticleSet, PubmedArticle) \
             nor JATS's (article, pmc-articleset, OAI-PMH)"
        )))
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Pubmed => "pubmed",
            Kind::Jats => "jats",
        }
    }
}

/// Where the reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Before the file, or the next member of a tar.
    Before,
    /// In a document, its kind not yet known.
    Prolog,
    Inside(Kind),
    /// Behind what was given up.
    Draining,
    Ended,
}

/// See the module.
pub struct XmlReader {
    options: XmlOptions,
    source: Source,
    tokens: Tokens,
    pubmed: Pubmed,
    jats: Jats,
    record: Record,
    batch: XmlBatch,
    /// For messages.
    path: PathBuf,
    stage: Stage,
    kind: Option<Kind>,
    /// The member of a tar that is read.
    member: Option<String>,
    /// Records met in the file, and in the member.
    records: u64,
    member_records: u64,
    /// The record at hand is counted, and not yet whole.
    in_record: bool,
    failed: bool,
}

impl XmlReader {
    /// A reader of a regular file; `name` stands for it in messages.
    pub fn open(path: &Path, name: Option<&Path>, options: XmlOptions) -> Result<Self> {
        options.check()?;
        let source = Source::open(path, options.compression, options.tar)?;
        Self::new(source, name.unwrap_or(path), options)
    }

    pub(super) fn new(source: Source, path: &Path, options: XmlOptions) -> Result<Self> {
        Ok(Self {
            source,
            tokens: Tokens::new(options.max_document_bytes)?,
            pubmed: Pubmed::default(),
            jats: Jats::default(),
            record: Record::default(),
            batch: XmlBatch::default(),
            path: path.to_path_buf(),
            stage: Stage::Before,
            kind: None,
            member: None,
            records: 0,
            member_records: 0,
            in_record: false,
            failed: false,
            options,
        })
    }

    /// "pubmed" or "jats", once the first root element has been read.
    pub fn kind(&self) -> Option<&'static str> {
        self.kind.map(Kind::name)
    }

    /// Bytes read so far, as they are in the file.
    pub fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }

    /// Whether everything has been read and handed out.
    pub fn ended(&self) -> bool {
        self.stage == Stage::Ended && self.is_empty()
    }

    /// xxh3-128 of the file's bytes, once all of it has been read.
    pub fn xxh3_128_hex(&self) -> Option<String> {
        self.source.xxh3_128_hex()
    }

    fn is_empty(&self) -> bool {
        self.batch.rows == 0 && self.batch.rejected.is_empty()
    }

    fn is_full(&self) -> bool {
        let rejected = self.batch.rejected.len();
        self.batch.rows >= BATCH_ROWS || rejected >= BATCH_REJECTED || self.batch.bytes() >= BATCH_BYTES
    }

    /// The next records. `None` at the end.
    pub fn next_batch(&mut self, monitor: &Monitor) -> Result<Option<XmlBatch>> {
        if self.failed {
            return Err(Error::input(
                "reader",
                "this reader has failed before: open a new one",
            ));
        }
        monitor.set_total(self.source.total_bytes());
        monitor.advance(self.source.bytes_read());
        while self.stage != Stage::Ended && !self.is_full() {
            match self.proceed(monitor) {
                // A stop leaves all as it is: the next call goes on.
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(error) => {
                    self.failed = true;
                    return Err(error.at(Some(&self.path), None));
                }
                Ok(()) => {}
            }
        }
        Ok((!self.is_empty()).then(|| std::mem::take(&mut self.batch)))
    }

    /// Reads to the end of a record, or of a document.
    fn proceed(&mut self, monitor: &Monitor) -> Result<()> {
        match self.stage {
            Stage::Before => self.next_document(monitor),
            Stage::Prolog | Stage::Inside(_) => match self.record(monitor) {
                Err(error) => self.give_up(error),
                Ok(()) => Ok(()),
            },
            Stage::Draining => {
                let mut scratch = limits::filled(BLOCK_BYTES, 0, "a block of a file")?;
                self.source.drain(&mut scratch, monitor)?;
                self.stage = Stage::Ended;
                Ok(())
            }
            Stage::Ended => Ok(()),
        }
    }

    fn next_document(&mut self, monitor: &Monitor) -> Result<()> {
        if let Source::Tar(tar) = &mut self.source {
            self.member = tar.next_member(monitor)?;
            if self.member.is_none() {
                self.stage = Stage::Ended;
                return Ok(());
            }
        }
        self.tokens.reset();
        self.pubmed.reset();
        self.jats.reset();
        self.member_records = 0;
        self.in_record = false;
        self.stage = Stage::Prolog;
        Ok(())
    }

    /// Takes events until a record or the document ends.
    fn record(&mut self, monitor: &Monitor) -> Result<()> {
        loop {
            let event = self.tokens.next(&mut self.source, monitor)?;
            if event == Event::Eof {
                // The window has met the end of the source, so all of a file has been read.
                self.stage = match self.source {
                    Source::Tar(_) => Stage::Before,
                    _ => Stage::Ended,
                };
                return Ok(());
            }
            let kind = match self.stage {
                Stage::Inside(kind) => kind,
                _ => {
                    let kind = Kind::of_root(self.tokens.name())
                        .map_err(|e| e.at(None, Some(self.tokens.line_of_tag())))?;
                    self.kind = self.kind.or(Some(kind));
                    self.stage = Stage::Inside(kind);
                    if self.kind != Some(kind) {
                        return Err(Error::format(
                            "the tar holds both PubMed and JATS: make one of each",
                        ));
                    }
                    kind
                }
            };
            let left_out = self.is_left_out(); // Of the record that begins, if one does.
            let (tokens, record) = (&mut self.tokens, &mut self.record);
            let step = match kind {
                Kind::Pubmed => self.pubmed.event(event, tokens, record)?,
                Kind::Jats => self.jats.event(event, tokens, record)?,
            };
            match step {
                Step::Going => {}
                Step::Began => {
                    if left_out {
                        match kind {
                            Kind::Pubmed => self.pubmed.leave_out(tokens),
                            Kind::Jats => self.jats.leave_out(tokens),
                        }
                    } else {
                        self.in_record = true;
                    }
                    self.records += 1;
                    self.member_records += 1;
                }
                Step::Ended => {
                    self.tokens.begin_unit(false);
                    self.in_record = false;
                    return self.append(kind);
                }
            }
        }
    }

    /// Whether the record that has just begun is one to leave out.
    fn is_left_out(&self) -> bool {
        let byte = usize::try_from(self.records / 8).ok();
        let byte = byte.and_then(|at| self.options.left_out.get(at));
        byte.is_some_and(|byte| byte >> (self.records % 8) & 1 == 1)
    }

    fn append(&mut self, kind: Kind) -> Result<()> {
        let made_up = match kind {
            Kind::Pubmed => String::new(),
            Kind::Jats => self.made_up_id(),
        };
        let appended = self
            .record
            .append(kind.name(), &made_up, &self.options, &mut self.batch);
        match appended {
            Err(error @ Error::Format { .. }) if self.options.skip => {
                let line = self.record.line;
                self.reject(line, &error)
            }
            Err(error) => Err(self.of_member(error)),
            Ok(()) => Ok(()),
        }
    }

    fn made_up_id(&self) -> String {
        let prefix = &self.options.id_prefix;
        let row = self.member_records - 1;
        match &self.member {
            None => format!("{prefix}{row}"),
            Some(member) => {
                let prefix = prefix.strip_suffix(':').unwrap_or(prefix);
                format!("{prefix}/{member}:{row}")
            }
        }
    }

    fn reject(&mut self, line: u64, error: &Error) -> Result<()> {
        let member = self.member.as_ref();
        let reason = member.map_or_else(|| error.to_string(), |name| format!("member {name}: {error}"));
        limits::reserve(&mut self.batch.rejected, 1, "the rejected records")?;
        self.batch.rejected.push(Rejected { line, reason });
        Ok(())
    }

    /// Passes over a document that cannot be read on, if the options say so and it is no PubMed file: of those, later
    /// records decide on earlier ones.
    fn give_up(&mut self, error: Error) -> Result<()> {
        let line = match &error {
            Error::Format { line, .. } | Error::Limit { line, .. } => *line,
            _ => return Err(error),
        };
        let mixed = matches!(self.stage, Stage::Inside(kind) if self.kind != Some(kind));
        let pubmed = self.stage == Stage::Inside(Kind::Pubmed);
        if !self.options.skip || pubmed || mixed || self.tokens.source_failed() {
            let line = line.unwrap_or_else(|| self.tokens.line());
            return Err(self.of_member(error.at(None, Some(line))));
        }
        self.reject(line.unwrap_or_else(|| self.tokens.line()), &error)?;
        if !self.in_record {
            self.records += 1;
        }
        self.stage = match self.source {
            Source::Tar(_) => Stage::Before,
            _ => Stage::Draining,
        };
        Ok(())
    }

    /// The error with the tar's member in its message.
    fn of_member(&self, error: Error) -> Error {
        name_member(error, self.member.as_deref())
    }
}

/// The error with the member of a tar in its message.
pub(super) fn name_member(mut error: Error, member: Option<&str>) -> Error {
    if let (Some(name), Error::Format { message: text, .. } | Error::Limit { what: text, .. }) =
        (member, &mut error)
    {
        *text = format!("member {name}: {text}");
    }
    error
}
