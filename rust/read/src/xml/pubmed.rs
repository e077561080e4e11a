//! PubMed's records: `PubmedArticle` and `PubmedBookArticle` (NLM's DTD of 2025). The path of each element decides;
//! what stands on no path is passed over, so a PMID in a list of references is never taken for the record's own.

use super::flow::Flow;
use super::names::local;
use super::record::{Record, Section, is_digits, pmc, reserve_section, set_first, year};
use super::tokens::{Event, Tokens};
use biollm_core::{Error, Result, limits};

/// What an event meant for the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Going,
    /// A record begins with the element that began last.
    Began,
    /// A record is whole.
    Ended,
}

/// An element on the path to what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Set,
    Record,
    MedlineCitation,
    BookDocument,
    Article,
    Journal,
    JournalIssue,
    PubDate,
    ArticleDate,
    Book,
    Abstract,
    PublicationTypeList,
    PubmedData,
    /// Of the record, rather than of a book's document.
    ArticleIdList {
        own: bool,
    },
    Leaf(Leaf),
    /// Inside a leaf.
    Inner,
}

/// An element whose text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    Pmid,
    Title,
    BookTitle,
    Journal,
    Year,
    MedlineDate,
    ArticleYear,
    Abstract,
    Language,
    PublicationType,
    Doi { own: bool },
    Pmc { own: bool },
    Location,
}

/// Gathers one record at a time.
#[derive(Debug, Default)]
pub(super) struct Pubmed {
    places: Vec<Place>,
    /// The text of the leaf at hand.
    flow: Flow,
    /// The label of the abstract's part at hand.
    label: Flow,
    scratch: Vec<u8>,
    title_seen: bool,
    /// What counts where the first choice is missing.
    book_title: Vec<u8>,
    document_doi: Vec<u8>,
    document_pmc: Vec<u8>,
    location: Vec<u8>,
    medline_year: Option<i32>,
    article_year: Option<i32>,
}

impl Pubmed {
    /// Whether a root of that name holds PubMed records.
    pub(super) fn is_root(name: &[u8]) -> bool {
        matches!(
            name,
            b"PubmedArticleSet" | b"PubmedBookArticleSet" | b"PubmedArticle"
        )
    }

    /// Forgets all of the last document.
    pub(super) fn reset(&mut self) {
        self.places.clear();
    }

    /// Passes over the record that has just begun.
    pub(super) fn leave_out(&mut self, tokens: &mut Tokens) {
        self.places.pop();
        tokens.skip_element();
    }

    /// Takes an event in.
    #[inline]
    pub(super) fn event(&mut self, event: Event, tokens: &mut Tokens, record: &mut Record) -> Result<Step> {
        match event {
            Event::Start => self.start(tokens, record),
            Event::End => self.end(record),
            Event::Text => {
                if let Some(Place::Leaf(_) | Place::Inner) = self.places.last() {
                    self.flow.push(tokens.text())?;
                }
                Ok(Step::Going)
            }
            Event::Eof => Ok(Step::Going),
        }
    }

    fn start(&mut self, tokens: &mut Tokens, record: &mut Record) -> Result<Step> {
        let name = local(tokens.name());
        let place = match self.places.last() {
            Some(Place::Leaf(_) | Place::Inner) => match name {
                b"annotation" | b"annotation-xml" => None,
                _ => Some(Place::Inner),
            },
            None if name != b"PubmedArticle" => Some(Place::Set),
            None | Some(Place::Set) => {
                matches!(name, b"PubmedArticle" | b"PubmedBookArticle").then_some(Place::Record)
            }
            Some(&top) => child(top, name),
        };
        let place = match place {
            Some(Place::Leaf(Leaf::Doi { own })) => self.identifier(tokens, own)?,
            Some(Place::Leaf(Leaf::Location)) => self.location(tokens)?,
            Some(Place::Leaf(Leaf::Title)) if std::mem::replace(&mut self.title_seen, true) => None,
            other => other,
        };
        let Some(place) = place else {
            tokens.skip_element();
            return Ok(Step::Going);
        };
        limits::reserve(&mut self.places, 1, "open elements")?;
        self.places.push(place);
        match place {
            Place::Record => {
                self.begin(tokens, record);
                return Ok(Step::Began);
            }
            Place::Leaf(leaf) => {
                self.flow.clear();
                if leaf == Leaf::Abstract {
                    self.label.clear();
                    self.scratch.clear();
                    if tokens.attribute(b"Label", &mut self.scratch)? {
                        self.label.push(&self.scratch)?;
                    }
                }
            }
            _ => {}
        }
        Ok(Step::Going)
    }

    fn begin(&mut self, tokens: &mut Tokens, record: &mut Record) {
        tokens.begin_unit(true);
        record.clear(tokens.line_of_tag());
        self.title_seen = false;
        for text in [
            &mut self.book_title,
            &mut self.document_doi,
            &mut self.document_pmc,
            &mut self.location,
        ] {
            text.clear();
        }
        (self.medline_year, self.article_year) = (None, None);
    }

    /// What an `ArticleId` is, by its type.
    fn identifier(&mut self, tokens: &Tokens, own: bool) -> Result<Option<Place>> {
        self.scratch.clear();
        tokens.attribute(b"IdType", &mut self.scratch)?;
        Ok(match self.scratch.as_slice() {
            b"doi" => Some(Place::Leaf(Leaf::Doi { own })),
            b"pmc" => Some(Place::Leaf(Leaf::Pmc { own })),
            _ => None,
        })
    }

    /// Whether an `ELocationID` is a valid DOI.
    fn location(&mut self, tokens: &Tokens) -> Result<Option<Place>> {
        let doi = tokens.attribute_is(b"EIdType", b"doi", &mut self.scratch)?
            && !tokens.attribute_is(b"ValidYN", b"N", &mut self.scratch)?;
        Ok(doi.then_some(Place::Leaf(Leaf::Location)))
    }

    fn end(&mut self, record: &mut Record) -> Result<Step> {
        match self.places.pop() {
            Some(Place::Leaf(leaf)) => {
                self.leaf(leaf, record)?;
                Ok(Step::Going)
            }
            Some(Place::Record) => {
                self.complete(record)?;
                Ok(Step::Ended)
            }
            Some(_) => Ok(Step::Going),
            None => Err(Error::Internal("an end without an element".into())),
        }
    }

    /// Takes in the text of a leaf that has ended.
    fn leaf(&mut self, leaf: Leaf, record: &mut Record) -> Result<()> {
        let text = self.flow.text.as_slice();
        match leaf {
            Leaf::Pmid if is_digits(text) => set_first(&mut record.pmid, text),
            Leaf::Pmid => Ok(()),
            Leaf::Title => set_first(&mut record.title, text),
            Leaf::BookTitle => set_first(&mut self.book_title, text),
            Leaf::Journal => set_first(&mut record.journal, text),
            Leaf::Year => {
                record.year = record.year.or(year(text));
                Ok(())
            }
            Leaf::MedlineDate => {
                let four = text.split(|b| !b.is_ascii_digit()).find_map(year);
                self.medline_year = self.medline_year.or(four);
                Ok(())
            }
            Leaf::ArticleYear => {
                self.article_year = self.article_year.or(year(text));
                Ok(())
            }
            Leaf::Abstract => self.abstract_text(record),
            Leaf::Language => record.languages.push(text),
            Leaf::PublicationType => record.publication_types.push(text),
            Leaf::Doi { own: true } => set_first(&mut record.doi, text),
            Leaf::Doi { own: false } => set_first(&mut self.document_doi, text),
            Leaf::Pmc { own } => match pmc(text) {
                Some(id) if own => set_first(&mut record.pmc, &id),
                Some(id) => set_first(&mut self.document_pmc, &id),
                None => Ok(()),
            },
            Leaf::Location => set_first(&mut self.location, text),
        }
    }

    /// Appends a part of the abstract: a paragraph, and a section.
    fn abstract_text(&mut self, record: &mut Record) -> Result<()> {
        if self.flow.is_empty() {
            return Ok(());
        }
        let (label, text) = (self.label.text.as_slice(), self.flow.text.as_slice());
        limits::reserve(&mut record.abstracts, label.len() + text.len() + 3, "an abstract")?;
        reserve_section(&mut record.abstract_sections)?;
        if !record.abstracts.is_empty() {
            record.abstracts.push(b'\n');
        }
        let start = record.abstracts.len();
        if !label.is_empty() {
            record.abstracts.extend_from_slice(label);
            record.abstracts.extend_from_slice(b": ");
        }
        record.abstracts.extend_from_slice(text);
        record.abstract_sections.push(Section {
            title: (start, start + label.len()),
            start,
            end: record.abstracts.len(),
        });
        Ok(())
    }

    /// Fills in what stood in the second place.
    fn complete(&mut self, record: &mut Record) -> Result<()> {
        set_first(&mut record.journal, &self.book_title)?;
        if !self.title_seen {
            set_first(&mut record.title, &self.book_title)?;
        }
        for other in [&self.document_doi, &self.location] {
            set_first(&mut record.doi, other)?;
        }
        set_first(&mut record.pmc, &self.document_pmc)?;
        record.year = record.year.or(self.medline_year).or(self.article_year);
        Ok(())
    }
}

/// Where an element stands by its parent's place and its name; `None`: nowhere of interest.
fn child(parent: Place, name: &[u8]) -> Option<Place> {
    Some(match (parent, name) {
        (Place::Record, b"MedlineCitation") => Place::MedlineCitation,
        (Place::Record, b"BookDocument") => Place::BookDocument,
        (Place::Record, b"PubmedData" | b"PubmedBookData") => Place::PubmedData,
        (Place::MedlineCitation | Place::BookDocument, b"PMID") => Place::Leaf(Leaf::Pmid),
        (Place::MedlineCitation, b"Article") => Place::Article,
        (Place::Article | Place::BookDocument, b"ArticleTitle") => Place::Leaf(Leaf::Title),
        (Place::Article | Place::BookDocument, b"Abstract") => Place::Abstract,
        (Place::Article | Place::BookDocument, b"Language") => Place::Leaf(Leaf::Language),
        (Place::BookDocument | Place::PublicationTypeList, b"PublicationType") => {
            Place::Leaf(Leaf::PublicationType)
        }
        (Place::BookDocument, b"Book") => Place::Book,
        (Place::BookDocument, b"ArticleIdList") => Place::ArticleIdList { own: false },
        (Place::PubmedData, b"ArticleIdList") => Place::ArticleIdList { own: true },
        (Place::Article, b"Journal") => Place::Journal,
        (Place::Article, b"ELocationID") => Place::Leaf(Leaf::Location),
        (Place::Article, b"PublicationTypeList") => Place::PublicationTypeList,
        (Place::Article, b"ArticleDate") => Place::ArticleDate,
        (Place::Journal, b"JournalIssue") => Place::JournalIssue,
        (Place::Journal, b"Title") => Place::Leaf(Leaf::Journal),
        (Place::JournalIssue | Place::Book, b"PubDate") => Place::PubDate,
        (Place::PubDate, b"Year") => Place::Leaf(Leaf::Year),
        (Place::PubDate, b"MedlineDate") => Place::Leaf(Leaf::MedlineDate),
        (Place::ArticleDate, b"Year") => Place::Leaf(Leaf::ArticleYear),
        (Place::Book, b"BookTitle") => Place::Leaf(Leaf::BookTitle),
        (Place::Abstract, b"AbstractText") => Place::Leaf(Leaf::Abstract),
        (Place::ArticleIdList { own }, b"ArticleId") => Place::Leaf(Leaf::Doi { own }),
        _ => return None,
    })
}
