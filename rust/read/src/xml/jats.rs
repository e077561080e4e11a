//! Articles of JATS (NISO Z39.96) and of its forerunners, the NLM journal publishing DTDs.
//!
//! A block element ends the paragraph at hand where it begins and where it ends; all others are inline. Nothing is
//! kept but the text: of `alternatives` the text is taken back when a better child comes.

use super::flow::Flow;
use super::names::local;
use super::pubmed::Step;
use super::record::{Record, is_digits, pmc, set_first, year};
use super::tokens::{Event, Tokens};
use super::walk::{Spot, Walk};
use biollm_core::{Error, Result, limits};

/// An element on the path to what is read.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Outside of all articles.
    Outside,
    Article,
    Front,
    /// `journal-meta`, or an element in it.
    JournalMeta,
    ArticleMeta,
    TitleGroup,
    PubDate,
    Leaf(Leaf),
    /// Inside a leaf.
    Inner,
    /// Whose blocks or inline text is read.
    Root(Which),
    /// Inside one.
    Within(Spot),
}

/// A text that is walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Title,
    Subtitle,
    Abstract,
    Body,
}

impl Which {
    /// Titles are one paragraph, whatever stands in them.
    fn has_blocks(self) -> bool {
        matches!(self, Which::Abstract | Which::Body)
    }
}

/// An element whose plain text is read.
#[derive(Clone, Copy, Debug)]
enum Leaf {
    Journal,
    Year,
    Doi,
    Pmid,
    Pmc,
}

/// Gathers one article at a time.
#[derive(Debug, Default)]
pub(super) struct Jats {
    places: Vec<Place>,
    /// The text of the leaf at hand.
    leaf: Flow,
    /// One for each of [`Which`].
    walks: [Walk; 4],
    walking: Option<Which>,
    scratch: Vec<u8>,
    title_seen: bool,
    subtitle_seen: bool,
}

impl Jats {
    /// Whether a root of that name holds articles.
    pub(super) fn is_root(name: &[u8]) -> bool {
        matches!(name, b"article" | b"pmc-articleset" | b"OAI-PMH")
    }

    /// Forgets all of the last document.
    pub(super) fn reset(&mut self) {
        self.places.clear();
        self.walking = None;
    }

    /// Passes over the article that has just begun.
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
                match (self.places.last(), self.walking) {
                    (Some(Place::Leaf(_) | Place::Inner), _) => self.leaf.push(tokens.text())?,
                    (Some(Place::Within(Spot::Alternatives(_))), _) | (_, None) => {}
                    (_, Some(which)) => self.walks[which as usize].flow.push(tokens.text())?,
                }
                Ok(Step::Going)
            }
            Event::Eof => Ok(Step::Going),
        }
    }

    fn start(&mut self, tokens: &mut Tokens, record: &mut Record) -> Result<Step> {
        let place = match self.walking {
            Some(which) => self.within(which, local(tokens.name()))?,
            None => self.child(tokens)?,
        };
        let Some(place) = place else {
            tokens.skip_element();
            return Ok(Step::Going);
        };
        limits::reserve(&mut self.places, 1, "open elements")?;
        self.places.push(place);
        match place {
            Place::Article => {
                self.begin(tokens, record)?;
                return Ok(Step::Began);
            }
            Place::Leaf(_) => self.leaf.clear(),
            Place::Root(which) => self.walking = Some(which),
            _ => {}
        }
        Ok(Step::Going)
    }

    /// Where an element outside of all walks stands; `None`: nowhere of interest.
    fn child(&mut self, tokens: &Tokens) -> Result<Option<Place>> {
        let name = local(tokens.name());
        let Some(&top) = self.places.last() else {
            return Ok(Some(if name == b"article" {
                Place::Article
            } else {
                Place::Outside
            }));
        };
        Ok(match (top, name) {
            (Place::Outside, b"article") => Some(Place::Article),
            (Place::Outside, _) => Some(Place::Outside),
            (Place::Article, b"front") => Some(Place::Front),
            (Place::Article, b"body") => Some(Place::Root(Which::Body)),
            (Place::Front, b"journal-meta") => Some(Place::JournalMeta),
            (Place::Front, b"article-meta") => Some(Place::ArticleMeta),
            (Place::JournalMeta, b"journal-title") => Some(Place::Leaf(Leaf::Journal)),
            (Place::JournalMeta, _) => Some(Place::JournalMeta),
            (Place::ArticleMeta, b"title-group") => Some(Place::TitleGroup),
            (Place::ArticleMeta, b"pub-date") => Some(Place::PubDate),
            (Place::ArticleMeta, b"article-id") => self.identifier(tokens)?,
            (Place::ArticleMeta, b"abstract") => self.abstracts(tokens)?,
            (Place::TitleGroup, b"article-title") if !self.title_seen => {
                self.title_seen = true;
                Some(Place::Root(Which::Title))
            }
            (Place::TitleGroup, b"subtitle") if !self.subtitle_seen => {
                self.subtitle_seen = true;
                Some(Place::Root(Which::Subtitle))
            }
            (Place::PubDate, b"year") => Some(Place::Leaf(Leaf::Year)),
            (Place::Leaf(_) | Place::Inner, _) => Some(Place::Inner),
            _ => None,
        })
    }

    /// What an `article-id` is, by its type.
    fn identifier(&mut self, tokens: &Tokens) -> Result<Option<Place>> {
        self.scratch.clear();
        tokens.attribute(b"pub-id-type", &mut self.scratch)?;
        Ok(match self.scratch.as_slice() {
            b"doi" => Some(Place::Leaf(Leaf::Doi)),
            b"pmid" => Some(Place::Leaf(Leaf::Pmid)),
            b"pmc" | b"pmcid" => Some(Place::Leaf(Leaf::Pmc)),
            _ => None,
        })
    }

    /// Whether an `abstract` is one of the text, rather than one for a table of contents or a picture.
    fn abstracts(&mut self, tokens: &Tokens) -> Result<Option<Place>> {
        self.scratch.clear();
        tokens.attribute(b"abstract-type", &mut self.scratch)?;
        let other = matches!(
            self.scratch.as_slice(),
            b"graphical" | b"toc" | b"teaser" | b"short" | b"video"
        );
        Ok((!other).then_some(Place::Root(Which::Abstract)))
    }

    fn begin(&mut self, tokens: &mut Tokens, record: &mut Record) -> Result<()> {
        tokens.begin_unit(true);
        record.clear(tokens.line_of_tag());
        self.walks.iter_mut().for_each(Walk::clear);
        (self.title_seen, self.subtitle_seen) = (false, false);
        for (name, items) in [
            (&b"xml:lang"[..], &mut record.languages),
            (b"article-type", &mut record.publication_types),
        ] {
            self.scratch.clear();
            self.leaf.clear();
            tokens.attribute(name, &mut self.scratch)?;
            self.leaf.push(&self.scratch)?;
            if name == b"xml:lang" {
                self.leaf.text.make_ascii_lowercase();
            }
            items.push(&self.leaf.text)?;
        }
        Ok(())
    }

    /// Where an element of a walk stands; `None`: it is dropped.
    fn within(&mut self, which: Which, name: &[u8]) -> Result<Option<Place>> {
        let parent = match self.places.last_mut() {
            Some(Place::Within(spot)) => Some(spot),
            _ => None,
        };
        let walk = &mut self.walks[which as usize];
        Ok(walk.start(parent, name, which.has_blocks())?.map(Place::Within))
    }

    fn end(&mut self, record: &mut Record) -> Result<Step> {
        let Some(place) = self.places.pop() else {
            return Err(Error::Internal("an end without an element".into()));
        };
        match (place, self.walking) {
            (Place::Article, _) => {
                self.complete(record)?;
                return Ok(Step::Ended);
            }
            (Place::Leaf(leaf), _) => self.leaf(leaf, record)?,
            (Place::Root(which), _) => {
                self.walks[which as usize].flow.end_paragraph()?;
                self.walking = None;
            }
            (Place::Within(spot), Some(which)) => self.walks[which as usize].end(spot)?,
            _ => {}
        }
        Ok(Step::Going)
    }

    /// Takes in the text of a leaf that has ended.
    fn leaf(&mut self, leaf: Leaf, record: &mut Record) -> Result<()> {
        let text = self.leaf.text.as_slice();
        match leaf {
            Leaf::Journal => set_first(&mut record.journal, text),
            Leaf::Doi => set_first(&mut record.doi, text),
            Leaf::Pmid if is_digits(text) => set_first(&mut record.pmid, text),
            Leaf::Pmid => Ok(()),
            Leaf::Pmc => match pmc(text) {
                Some(id) => set_first(&mut record.pmc, &id),
                None => Ok(()),
            },
            Leaf::Year => {
                record.year = match (record.year, year(text)) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                Ok(())
            }
        }
    }

    /// Fills the record with the texts.
    fn complete(&mut self, record: &mut Record) -> Result<()> {
        let [title, subtitle, abstracts, body] = &mut self.walks;
        abstracts.finished(&mut record.abstract_sections)?;
        body.finished(&mut record.body_sections)?;
        std::mem::swap(&mut record.title, &mut title.flow.text);
        std::mem::swap(&mut record.abstracts, &mut abstracts.flow.text);
        std::mem::swap(&mut record.body, &mut body.flow.text);
        let subtitle = &subtitle.flow.text;
        if !subtitle.is_empty() {
            limits::reserve(&mut record.title, subtitle.len() + 2, "a title")?;
            if !record.title.is_empty() {
                record.title.extend_from_slice(b": ");
            }
            record.title.extend_from_slice(subtitle);
        }
        Ok(())
    }
}
