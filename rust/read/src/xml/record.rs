//! The fields of one record, whatever kind of file it comes from.

use super::columns::XmlBatch;
use super::flow::BLANK_LINE;
use super::options::{Identifier, Part, XmlOptions};
use biollm_core::{Error, Result, limits};

/// A section of a part: ranges of bytes in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) title: (usize, usize),
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Most sections of a part of a record: far more than any article has.
const MAX_SECTIONS: usize = 100_000;

/// Makes place for one more section.
pub(super) fn reserve_section<T>(sections: &mut Vec<T>) -> Result<()> {
    if sections.len() >= MAX_SECTIONS {
        let (found, limit) = (MAX_SECTIONS as u64 + 1, MAX_SECTIONS as u64);
        return Err(Error::limit(
            "sections of a record",
            found,
            limit,
            "split the record",
        ));
    }
    limits::reserve(sections, 1, "sections")
}

/// Texts one behind the other.
#[derive(Debug, Default)]
pub(super) struct Items {
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Items {
    /// Appends one that is not empty.
    pub(super) fn push(&mut self, item: &[u8]) -> Result<()> {
        if item.is_empty() {
            return Ok(());
        }
        limits::reserve(&mut self.data, item.len(), "items of a record")?;
        limits::reserve(&mut self.ends, 1, "items of a record")?;
        self.data.extend_from_slice(item);
        self.ends.push(self.data.len());
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let item = &self.data[start..end];
            start = end;
            item
        })
    }

    fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }
}

/// See the module. An empty text is one that the record does not have.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The line it begins at.
    pub(super) line: u64,
    pub(super) title: Vec<u8>,
    pub(super) abstracts: Vec<u8>,
    pub(super) abstract_sections: Vec<Section>,
    pub(super) body: Vec<u8>,
    pub(super) body_sections: Vec<Section>,
    pub(super) year: Option<i32>,
    pub(super) languages: Items,
    pub(super) publication_types: Items,
    pub(super) journal: Vec<u8>,
    pub(super) pmid: Vec<u8>,
    pub(super) pmc: Vec<u8>,
    pub(super) doi: Vec<u8>,
}

impl Record {
    /// Makes it as new, its memory kept.
    pub(super) fn clear(&mut self, line: u64) {
        for text in [
            &mut self.title,
            &mut self.abstracts,
            &mut self.body,
            &mut self.journal,
            &mut self.pmid,
            &mut self.pmc,
            &mut self.doi,
        ] {
            text.clear();
        }
        self.abstract_sections.clear();
        self.body_sections.clear();
        self.languages.clear();
        self.publication_types.clear();
        (self.line, self.year) = (line, None);
    }

    /// Appends the record to the columns, or says what it lacks. `made_up` is its id where it has none.
    pub(super) fn append(
        &self,
        kind: &'static str,
        made_up: &str,
        options: &XmlOptions,
        batch: &mut XmlBatch,
    ) -> Result<()> {
        let id = self
            .id(kind, made_up, options)
            .map_err(|e| e.at(None, Some(self.line)))?;
        batch.id.extend(id)?;
        batch.id.end_row()?;
        let source = if options.source_is_journal && !self.journal.is_empty() {
            &self.journal
        } else {
            kind.as_bytes()
        };
        batch.source.extend(source)?;
        batch.source.end_row()?;
        batch.title.extend(&self.title)?;
        batch.title.end_row()?;
        for part in &options.text {
            let (text, sections) = match part {
                Part::Title => (&self.title, &[][..]),
                Part::Abstract => (&self.abstracts, &self.abstract_sections[..]),
                Part::Body => (&self.body, &self.body_sections[..]),
            };
            if text.is_empty() {
                continue;
            }
            if !batch.text.open_row().is_empty() {
                batch.text.extend(BLANK_LINE)?;
            }
            let before = batch.text.open_row().len();
            batch.text.extend(text)?;
            for section in sections {
                let title = text.get(section.title.0..section.title.1).unwrap_or_default();
                batch
                    .sections
                    .push(title, before + section.start, before + section.end)?;
            }
        }
        batch.text.end_row()?;
        batch.sections.end_row()?;
        batch.year.push(self.year)?;
        for (column, items) in [
            (&mut batch.languages, &self.languages),
            (&mut batch.publication_types, &self.publication_types),
        ] {
            for item in items.iter() {
                column.push(item)?;
            }
            column.end_row()?;
        }
        for (column, text) in [
            (&mut batch.journal, &self.journal),
            (&mut batch.pmid, &self.pmid),
            (&mut batch.pmc, &self.pmc),
            (&mut batch.doi, &self.doi),
        ] {
            column.texts.extend(text)?;
            column.end_row(!text.is_empty())?;
        }
        batch.rows += 1;
        Ok(())
    }

    fn id<'a>(&'a self, kind: &str, made_up: &'a str, options: &XmlOptions) -> Result<&'a [u8]> {
        if kind == "pubmed" && self.pmid.is_empty() {
            return Err(Error::format_field("pmid", "the record has no PMID of digits"));
        }
        let (name, id) = match options.id {
            Some(Identifier::Pmid) => ("pmid", &self.pmid),
            Some(Identifier::Pmc) => ("pmc", &self.pmc),
            Some(Identifier::Doi) => ("doi", &self.doi),
            None if kind == "pubmed" => ("pmid", &self.pmid),
            None => {
                let known = [&self.pmc, &self.doi, &self.pmid];
                return Ok(known
                    .iter()
                    .find(|id| !id.is_empty())
                    .map_or(made_up.as_bytes(), |id| id));
            }
        };
        if id.is_empty() {
            let message = format!("the record has no {name}, which is to be its id");
            return Err(Error::format_field(name, message));
        }
        Ok(id)
    }
}

/// Sets a field that the record does not have yet: the first one counts.
pub(super) fn set_first(field: &mut Vec<u8>, value: &[u8]) -> Result<()> {
    if field.is_empty() {
        limits::reserve(field, value.len(), "a field of a record")?;
        field.extend_from_slice(value);
    }
    Ok(())
}

/// Four digits and nothing else.
pub(super) fn year(text: &[u8]) -> Option<i32> {
    let [a, b, c, d] = *text else { return None };
    [a, b, c, d].iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + i32::from(digit - b'0'))
    })
}

/// Whether it is digits, at least one.
pub(super) fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// "PMC" and digits, whether or not the file writes "PMC"; `None` for anything else.
pub(super) fn pmc(text: &[u8]) -> Option<Vec<u8>> {
    let digits = match text.split_at_checked(3) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"pmc") => rest,
        _ => text,
    };
    is_digits(digits).then(|| [b"PMC", digits].concat())
}
