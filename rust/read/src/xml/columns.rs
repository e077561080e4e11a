//! The columns of PubMed and JATS records, as Arrow lays them out.

use crate::columns::{OptionalTexts, Rejected, TextColumn};
use biollm_core::{Error, Result, limits};

/// A column of lists of texts.
#[derive(Debug)]
pub struct TextLists {
    /// Row `i` holds items `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<i32>,
    /// The items of all rows.
    pub items: TextColumn,
}

/// A column of 32-bit numbers some of which may be missing.
#[derive(Debug, Default)]
pub struct OptionalNumbers {
    /// The numbers; a missing one is 0.
    pub values: Vec<i32>,
    /// Bit `i` (least significant first) says whether row `i` is there.
    pub validity: Vec<u8>,
}

/// A column of lists of sections: a title, and a range of bytes of the row's text.
#[derive(Debug)]
pub struct Sections {
    /// Row `i` holds sections `offsets[i]..offsets[i + 1]`.
    pub offsets: Vec<i32>,
    /// The titles of all rows.
    pub titles: TextColumn,
    /// Their first bytes.
    pub starts: Vec<i64>,
    /// The bytes behind their last.
    pub ends: Vec<i64>,
}

impl Default for TextLists {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            items: TextColumn::default(),
        }
    }
}

impl Default for Sections {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            titles: TextColumn::default(),
            starts: Vec::new(),
            ends: Vec::new(),
        }
    }
}

/// Ends a row of lists, whose items number `items` in all.
fn end_list(offsets: &mut Vec<i32>, items: usize) -> Result<()> {
    let end = i32::try_from(items).map_err(|_| {
        let limit = i32::MAX as u64;
        Error::limit(
            "items of lists in a batch",
            items as u64,
            limit,
            "lower max_document_bytes",
        )
    })?;
    limits::reserve(offsets, 1, "a list's offsets")?;
    offsets.push(end);
    Ok(())
}

impl TextLists {
    /// Appends an item to the row that is being written.
    pub fn push(&mut self, item: &[u8]) -> Result<()> {
        self.items.extend(item)?;
        self.items.end_row()
    }

    /// Ends the row.
    pub fn end_row(&mut self) -> Result<()> {
        end_list(&mut self.offsets, self.items.offsets.len() - 1)
    }
}

impl OptionalNumbers {
    /// Appends a row.
    pub fn push(&mut self, value: Option<i32>) -> Result<()> {
        let row = self.values.len();
        if row.is_multiple_of(8) {
            limits::reserve(&mut self.validity, 1, "a validity bitmap")?;
            self.validity.push(0);
        }
        self.validity[row / 8] |= u8::from(value.is_some()) << (row % 8);
        limits::reserve(&mut self.values, 1, "a column of numbers")?;
        self.values.push(value.unwrap_or(0));
        Ok(())
    }
}

impl Sections {
    /// Appends a section to the row that is being written.
    pub fn push(&mut self, title: &[u8], start: usize, end: usize) -> Result<()> {
        self.titles.extend(title)?;
        self.titles.end_row()?;
        limits::reserve(&mut self.starts, 1, "sections")?;
        limits::reserve(&mut self.ends, 1, "sections")?;
        self.starts.push(start as i64);
        self.ends.push(end as i64);
        Ok(())
    }

    /// Ends the row.
    pub fn end_row(&mut self) -> Result<()> {
        end_list(&mut self.offsets, self.starts.len())
    }
}

/// Some records, in the order of the file.
#[derive(Debug, Default)]
pub struct XmlBatch {
    /// How many.
    pub rows: usize,
    /// Names.
    pub id: TextColumn,
    /// Texts.
    pub text: TextColumn,
    /// "pubmed", "jats", or the journal.
    pub source: TextColumn,
    /// Titles.
    pub title: TextColumn,
    /// Years of publication.
    pub year: OptionalNumbers,
    /// Languages, as the file writes them.
    pub languages: TextLists,
    /// Types of publication, as the file writes them.
    pub publication_types: TextLists,
    /// Names of journals.
    pub journal: OptionalTexts,
    /// Digits.
    pub pmid: OptionalTexts,
    /// "PMC" and digits.
    pub pmc: OptionalTexts,
    /// Digital object identifiers.
    pub doi: OptionalTexts,
    /// Sections of the text.
    pub sections: Sections,
    /// The records passed over since the last batch.
    pub rejected: Vec<Rejected>,
}

impl XmlBatch {
    /// Bytes in the columns, about.
    pub fn bytes(&self) -> usize {
        let optional = [&self.journal, &self.pmid, &self.pmc, &self.doi].map(|c| c.texts.data.len());
        let lists = [&self.languages, &self.publication_types]
            .map(|c| c.items.data.len() + 8 * c.items.offsets.len());
        let texts = [&self.id, &self.text, &self.source, &self.title].map(|c| c.data.len());
        let sections = self.sections.titles.data.len() + 24 * self.sections.starts.len();
        let all = optional.iter().chain(&lists).chain(&texts);
        all.sum::<usize>() + sections + 100 * self.rows
    }
}
