//! What a reader is told.

use biollm_core::decode::Compression;
use biollm_core::{Error, Result, limits};

/// Most fields that make up one text.
const MAX_TEXT_FIELDS: usize = 64;

pub(crate) const RAISE_LIMIT: &str = "raise max_document_bytes, or split the document";

/// How documents lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Jsonl,
    /// A document a line.
    Lines,
    /// The whole file is one document.
    Text,
}

impl Format {
    /// The format called `name`: "jsonl", "lines" or "text".
    pub fn by_name(name: &str) -> Result<Self> {
        match name {
            "jsonl" => Ok(Self::Jsonl),
            "lines" => Ok(Self::Lines),
            "text" => Ok(Self::Text),
            _ => Err(Error::input(
                "format",
                format!("unknown format {name:?}: jsonl, lines or text"),
            )),
        }
    }
}

/// How to read.
#[derive(Clone, Debug)]
pub struct Options {
    /// How documents lie in the file.
    pub format: Format,
    /// How the file is compressed.
    pub compression: Compression,
    /// The fields that make up the text, joined by a blank line. JSON Lines only.
    pub text: Vec<String>,
    /// The field that is the id; `None`: "id" where a record has one, else the row.
    pub id: Option<String>,
    /// The field that is the source; `None`: "source" where it is a string.
    pub source: Option<String>,
    /// What stands before the row number in an id that is made up.
    pub id_prefix: String,
    /// Longest line and longest document.
    pub max_document_bytes: usize,
    /// Whether a bad record is passed over and counted, rather than an error.
    pub skip: bool,
}

impl Options {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let ceiling = limits::MAX_DOCUMENT_BYTES_CEILING;
        if self.max_document_bytes == 0 {
            return Err(Error::input(
                "max_document_bytes",
                "max_document_bytes is 0: give at least 1",
            ));
        }
        if self.max_document_bytes > ceiling {
            let value = self.max_document_bytes as u64;
            return Err(Error::limit(
                "max_document_bytes",
                value,
                ceiling as u64,
                "split longer documents",
            ));
        }
        if self.text.is_empty() {
            return Err(Error::input("text", "no text field is named"));
        }
        if self.text.len() > MAX_TEXT_FIELDS {
            let (value, limit) = (self.text.len() as u64, MAX_TEXT_FIELDS as u64);
            return Err(Error::limit("text fields", value, limit, "name fewer"));
        }
        let mut names: Vec<&String> = self.text.iter().chain(&self.id).chain(&self.source).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let message = format!("field {:?} is named twice among text, id and source", pair[0]);
            return Err(Error::input("text", message));
        }
        Ok(())
    }
}
