//! What the reader of PubMed and JATS is told.

use biollm_core::decode::Compression;
use biollm_core::{Error, Result, limits};

/// A part of a record that its text may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The title, with a subtitle.
    Title,
    /// The abstract.
    Abstract,
    /// The body; PubMed has none.
    Body,
}

/// The identifier that becomes the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// PubMed's number.
    Pmid,
    /// PubMed Central's, with "PMC" before the digits.
    Pmc,
    /// The digital object identifier.
    Doi,
}

/// How to read.
#[derive(Clone, Debug)]
pub struct XmlOptions {
    /// How the file is compressed.
    pub compression: Compression,
    /// Whether it is a tar of XML files.
    pub tar: bool,
    /// What makes up the text, joined by a blank line.
    pub text: Vec<Part>,
    /// The identifier that every record must have, to be its id; `None`: what there is.
    pub id: Option<Identifier>,
    /// Whether the source is the journal, rather than "pubmed" or "jats".
    pub source_is_journal: bool,
    /// What stands before the row number in an id that is made up.
    pub id_prefix: String,
    /// Most bytes of XML of a record.
    pub max_document_bytes: usize,
    /// Whether a bad record is passed over and counted, rather than an error.
    pub skip: bool,
    /// A bit a record, least significant first: those left out. Further ones are not.
    pub left_out: Vec<u8>,
}

impl XmlOptions {
    /// Plain files, all parts.
    pub fn new() -> Self {
        Self {
            compression: Compression::None,
            tar: false,
            text: vec![Part::Title, Part::Abstract, Part::Body],
            id: None,
            source_is_journal: false,
            id_prefix: String::new(),
            max_document_bytes: limits::MAX_DOCUMENT_BYTES,
            skip: false,
            left_out: Vec::new(),
        }
    }

    /// Sets the parts by their names; "text" alone is all of them.
    pub fn with_text(mut self, names: &[impl AsRef<str>]) -> Result<Self> {
        if let [name] = names
            && name.as_ref() == "text"
        {
            self.text = vec![Part::Title, Part::Abstract, Part::Body];
            return Ok(self);
        }
        let mut parts = Vec::new();
        for name in names {
            let part = match name.as_ref() {
                "title" => Part::Title,
                "abstract" => Part::Abstract,
                "body" => Part::Body,
                other => {
                    let message = format!(
                        "PubMed and JATS have no text {other:?}: give \"text\" (all of it), or any of \"title\", \
                         \"abstract\", \"body\""
                    );
                    return Err(Error::input("text", message));
                }
            };
            if parts.contains(&part) {
                let message = format!("text {:?} is named twice", name.as_ref());
                return Err(Error::input("text", message));
            }
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(Error::input("text", "no text field is named"));
        }
        self.text = parts;
        Ok(self)
    }

    /// Sets the id by its name.
    pub fn with_id(mut self, name: Option<&str>) -> Result<Self> {
        self.id = match name {
            None => None,
            Some("pmid") => Some(Identifier::Pmid),
            Some("pmc") => Some(Identifier::Pmc),
            Some("doi") => Some(Identifier::Doi),
            Some(other) => {
                let message =
                    format!("PubMed and JATS have no id {other:?}: give \"pmid\", \"pmc\" or \"doi\"");
                return Err(Error::input("id", message));
            }
        };
        Ok(self)
    }

    /// Sets the source by its name.
    pub fn with_source(mut self, name: Option<&str>) -> Result<Self> {
        self.source_is_journal = match name {
            None | Some("source") => false,
            Some("journal") => true,
            Some(other) => {
                let message =
                    format!("PubMed and JATS have no source {other:?}: give \"source\" or \"journal\"");
                return Err(Error::input("source", message));
            }
        };
        Ok(self)
    }

    /// Refuses what makes no sense.
    pub(super) fn check(&self) -> Result<()> {
        check_max_document_bytes(self.max_document_bytes)
    }
}

impl Default for XmlOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Refuses a limit of nothing, and one over the ceiling.
pub(super) fn check_max_document_bytes(max_document_bytes: usize) -> Result<()> {
    let ceiling = limits::MAX_DOCUMENT_BYTES_CEILING;
    if max_document_bytes == 0 {
        return Err(Error::input(
            "max_document_bytes",
            "max_document_bytes is 0: give at least 1",
        ));
    }
    if max_document_bytes > ceiling {
        let (value, limit) = (max_document_bytes as u64, ceiling as u64);
        return Err(Error::limit(
            "max_document_bytes",
            value,
            limit,
            "split longer documents",
        ));
    }
    Ok(())
}
