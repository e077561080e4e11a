//! The first pass over PubMed files: nothing but the PMIDs of records and deletions.

use super::flow::Flow;
use super::names::local;
use super::options::check_max_document_bytes;
use super::reader::{Kind, name_member};
use super::record::is_digits;
use super::source::Source;
use super::tokens::{Event, Tokens};
use super::versions::{self, Events};
use biollm_core::decode::Compression;
use biollm_core::{Error, Monitor, Pool, Result, limits};
use std::path::{Path, PathBuf};

pub use super::versions::Scanned;

/// A file to scan.
#[derive(Clone, Debug)]
pub struct ScanFile {
    /// Where it is.
    pub path: PathBuf,
    /// What stands for it in messages, and in the order of files.
    pub name: Option<PathBuf>,
    /// How it is compressed.
    pub compression: Compression,
    /// Whether it is a tar of XML files.
    pub tar: bool,
}

/// How to scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions {
    /// Most bytes of XML of a record.
    pub max_document_bytes: usize,
    /// Whether a member of a tar that is not well-formed, and not PubMed's, is passed over.
    pub skip: bool,
    /// Threads, one a file; `None`: all cores.
    pub threads: Option<usize>,
}

impl ScanFile {
    fn shown(&self) -> &Path {
        self.name.as_deref().unwrap_or(&self.path)
    }
}

/// Which records of each file, in the order given, a later one puts out of force. Later is what stands in a file
/// whose base name comes later (in equal ones, the file given later), or further down in the same file.
pub fn scan_pubmed(files: &[ScanFile], options: &ScanOptions, monitor: &Monitor) -> Result<Vec<Scanned>> {
    check_max_document_bytes(options.max_document_bytes)?;
    let pool = Pool::new(options.threads)?;
    let mut total = 0u64;
    for file in files {
        // A missing file is the reader's to report too, but before any work.
        let metadata = std::fs::metadata(&file.path).map_err(|e| Error::file(&file.path, e))?;
        total = total.saturating_add(metadata.len());
    }
    monitor.set_total(total);
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by_key(|&i| (files[i].shown().file_name(), i));
    let events = pool.map_chunks(files.len(), 1, monitor, |range| {
        // In the order in which they hold: `resolve` takes them so.
        let file = &files[order[range.start]];
        scan_file(file, options, monitor).map_err(|e| e.at(Some(file.shown()), None))
    })?;
    let resolved = versions::resolve(&events, monitor)?;
    let mut out = limits::with_capacity(files.len(), "results of files")?;
    out.resize_with(files.len(), Scanned::default);
    for (&place, scanned) in order.iter().zip(resolved) {
        out[place] = scanned;
    }
    Ok(out)
}

/// The records and deletions of a file; none where it is no PubMed file.
fn scan_file(file: &ScanFile, options: &ScanOptions, monitor: &Monitor) -> Result<Events> {
    let mut source = Source::open(&file.path, file.compression, file.tar)?;
    let mut scan = Scan {
        tokens: Tokens::lenient(options.max_document_bytes)?,
        places: Vec::new(),
        pmid: Flow::default(),
        events: Events::default(),
        is_pubmed: false,
    };
    loop {
        let mut member = None;
        if let Source::Tar(tar) = &mut source {
            member = tar.next_member(monitor)?;
            if member.is_none() {
                return Ok(scan.events);
            }
        }
        let outcome = scan.document(&mut source, monitor);
        let goes_on = match outcome {
            Ok(kind) => kind == Kind::Pubmed,
            Err(error @ (Error::Format { .. } | Error::Limit { .. })) => {
                if scan.is_pubmed || scan.tokens.source_failed() {
                    let line = scan.tokens.line();
                    return Err(name_member(error.at(None, Some(line)), member.as_deref()));
                }
                // What cannot be read and is not PubMed's is for the reader to report.
                options.skip
            }
            Err(error) => return Err(error),
        };
        if !goes_on || !file.tar {
            return Ok(scan.events);
        }
    }
}

/// An element on the path to a PMID.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Set,
    Record,
    Citation,
    Deletions,
    Pmid,
    Deleted,
    Inner,
}

struct Scan {
    tokens: Tokens,
    places: Vec<Place>,
    pmid: Flow,
    events: Events,
    /// The document at hand is PubMed's.
    is_pubmed: bool,
}

impl Scan {
    /// Scans a document; one that is not PubMed's no further than to its root.
    fn document(&mut self, source: &mut Source, monitor: &Monitor) -> Result<Kind> {
        self.tokens.reset();
        self.places.clear();
        self.is_pubmed = false;
        loop {
            match self.tokens.next(source, monitor)? {
                Event::Eof => return Ok(Kind::Pubmed),
                Event::Start => {
                    if self.places.is_empty() && Kind::of_root(self.tokens.name())? != Kind::Pubmed {
                        return Ok(Kind::Jats);
                    }
                    self.is_pubmed = true;
                    self.start();
                }
                Event::Text => {
                    if matches!(
                        self.places.last(),
                        Some(Place::Pmid | Place::Deleted | Place::Inner)
                    ) {
                        self.pmid.push(self.tokens.text())?;
                    }
                }
                Event::End => self.end()?,
            }
        }
    }

    fn start(&mut self) {
        let name = local(self.tokens.name());
        let place = match (self.places.last(), name) {
            (None | Some(Place::Set), b"PubmedArticle" | b"PubmedBookArticle") => Place::Record,
            (None, _) => Place::Set,
            (Some(Place::Set), b"DeleteCitation") => Place::Deletions,
            (Some(Place::Record), b"MedlineCitation" | b"BookDocument") => Place::Citation,
            (Some(Place::Citation), b"PMID") => Place::Pmid,
            (Some(Place::Deletions), b"PMID") => Place::Deleted,
            (Some(Place::Pmid | Place::Deleted | Place::Inner), _) => Place::Inner,
            _ => return self.tokens.skip_element(),
        };
        match place {
            Place::Record => self.tokens.begin_unit(true),
            Place::Pmid | Place::Deleted => self.pmid.clear(),
            _ => {}
        }
        self.places.push(place);
    }

    fn end(&mut self) -> Result<()> {
        match self.places.pop() {
            Some(Place::Deleted) => self.events.deletion(&self.pmid.text),
            Some(Place::Record) => {
                self.tokens.begin_unit(false);
                // No PMID was met: the bad record is counted all the same.
                self.events.record(b"")
            }
            Some(Place::Pmid) if is_digits(&self.pmid.text) => {
                self.events.record(&self.pmid.text)?;
                // The rest of the record is of no interest.
                self.places.truncate(self.places.len().saturating_sub(2));
                self.tokens.skip_record();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
