//! Articles of JATS (NISO Z39.96) and of its forerunners, the NLM journal publishing DTDs.
//!
//! A block element ends the paragraph at hand where it begins and where it ends; all others are inline. Nothing is
//! kept but the text: of `alternatives` the text is taken back when a better child comes.

use super::flow::{Flow, Mark};
use super::names::local;
use super::pubmed::Step;
use super::record::{Record, Section, is_digits, pmc, reserve_section, set_first, year};
use super::tokens::{Event, Tokens};
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
    Block,
    Inline,
    /// The number of its section.
    Sec(usize),
    /// The title of that section, and how many paragraphs there were before it.
    SecTitle(usize, usize),
    /// The rank of the child taken so far.
    Alternatives(u8),
    TexMath(Mark),
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

/// A section whose paragraphs are numbers, so that they can be taken back.
#[derive(Clone, Copy, Debug)]
struct OpenSection {
    title: Option<usize>,
    first: usize,
    behind: usize,
}

/// The text that is being walked through, and its sections.
#[derive(Debug, Default)]
struct Walk {
    flow: Flow,
    sections: Vec<OpenSection>,
    /// Where to go back to when a better alternative comes, the innermost last.
    alternatives: Vec<(Mark, usize)>,
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

/// How good a child of `alternatives` is: the smaller, the better.
const TAKEN_FIRST: u8 = 3;
const NONE_TAKEN: u8 = 4;

/// Whether an element is dropped with all it holds.
fn is_dropped(name: &[u8]) -> bool {
    matches!(
        name,
        b"label"
            | b"fn"
            | b"fn-group"
            | b"table-wrap"
            | b"table-wrap-group"
            | b"table"
            | b"fig"
            | b"fig-group"
            | b"graphic"
            | b"inline-graphic"
            | b"media"
            | b"inline-media"
            | b"supplementary-material"
            | b"inline-supplementary-material"
            | b"object-id"
            | b"permissions"
            | b"attrib"
            | b"sec-meta"
            | b"ref-list"
            | b"annotation"
            | b"annotation-xml"
            | b"index-term"
            | b"x"
            | b"sub-article"
            | b"response"
            | b"floats-group"
            | b"back"
    )
}

/// Whether an element stands apart from the text around it.
fn is_block(name: &[u8]) -> bool {
    matches!(
        name,
        b"sec"
            | b"p"
            | b"title"
            | b"list"
            | b"list-item"
            | b"def-list"
            | b"def-item"
            | b"term"
            | b"def"
            | b"disp-quote"
            | b"boxed-text"
            | b"statement"
            | b"verse-group"
            | b"verse-line"
            | b"preformat"
            | b"code"
            | b"speech"
            | b"speaker"
            | b"array"
    )
}

impl Walk {
    fn clear(&mut self) {
        self.flow.clear();
        self.sections.clear();
        self.alternatives.clear();
    }

    /// The sections that have paragraphs, as ranges of the text.
    fn finished(&self, sections: &mut Vec<Section>) -> Result<()> {
        let paragraphs = &self.flow.paragraphs;
        for section in &self.sections {
            if section.behind <= section.first {
                continue;
            }
            let (Some(first), Some(last)) =
                (paragraphs.get(section.first), paragraphs.get(section.behind - 1))
            else {
                return Err(Error::Internal("a section without its paragraphs".into()));
            };
            let title = section.title.and_then(|at| paragraphs.get(at)).copied();
            reserve_section(sections)?;
            sections.push(Section {
                title: title.unwrap_or((first.0, first.0)),
                start: first.0,
                end: last.1,
            });
        }
        Ok(())
    }

    /// Takes the text back to where an `alternatives` began.
    fn back_to(&mut self, mark: Mark, sections: usize) {
        self.flow.back_to(mark);
        self.sections.truncate(sections);
        for section in &mut self.sections {
            section.title = section.title.filter(|&at| at < mark.paragraphs);
        }
    }
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
                    (Some(Place::Alternatives(_)), _) | (_, None) => {}
                    (_, Some(which)) => self.walks[which as usize].flow.push(tokens.text())?,
                }
                Ok(Step::Going)
            }
            Event::Eof => Ok(Step::Going),
        }
    }

    fn start(&mut self, tokens: &mut Tokens, record: &mut Record) -> Result<Step> {
        let place = match self.walking {
            Some(which) => self.walk(which, local(tokens.name()))?,
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
    fn walk(&mut self, which: Which, name: &[u8]) -> Result<Option<Place>> {
        let walk = &mut self.walks[which as usize];
        let parent = self.places.last_mut();
        if let Some(Place::Alternatives(taken)) = parent {
            let rank = match name {
                b"textual-form" => 0,
                b"tex-math" => 1,
                b"math" => 2,
                _ => TAKEN_FIRST,
            };
            if rank >= *taken {
                return Ok(None);
            }
            *taken = rank;
            if let Some(&(mark, sections)) = walk.alternatives.last() {
                walk.back_to(mark, sections);
            }
        }
        if is_dropped(name) {
            return Ok(None);
        }
        let flow = &mut walk.flow;
        Ok(Some(match name {
            b"break" => {
                flow.push(b" ")?;
                Place::Inline
            }
            b"tex-math" => Place::TexMath(flow.mark()),
            b"alternatives" => {
                limits::reserve(&mut walk.alternatives, 1, "open elements")?;
                walk.alternatives.push((flow.mark(), walk.sections.len()));
                Place::Alternatives(NONE_TAKEN)
            }
            _ if which.has_blocks() && is_block(name) => {
                flow.end_paragraph()?;
                let first = flow.paragraphs.len();
                match (name, self.places.last()) {
                    (b"sec", _) => {
                        reserve_section(&mut walk.sections)?;
                        walk.sections.push(OpenSection {
                            title: None,
                            first,
                            behind: first,
                        });
                        Place::Sec(walk.sections.len() - 1)
                    }
                    (b"title", Some(&Place::Sec(number))) => Place::SecTitle(number, first),
                    _ => Place::Block,
                }
            }
            _ => Place::Inline,
        }))
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
            (place, Some(which)) => self.end_in_walk(which, place)?,
            _ => {}
        }
        Ok(Step::Going)
    }

    fn end_in_walk(&mut self, which: Which, place: Place) -> Result<()> {
        let walk = &mut self.walks[which as usize];
        match place {
            Place::Block | Place::Sec(_) | Place::SecTitle(..) => walk.flow.end_paragraph()?,
            Place::Alternatives(_) => {
                walk.alternatives.pop();
            }
            Place::TexMath(mark) => {
                self.scratch.clear();
                if let Some(inner) = inside_document(walk.flow.since(mark)) {
                    limits::reserve(&mut self.scratch, inner.len(), "a formula")?;
                    self.scratch.extend_from_slice(inner);
                    walk.flow.back_to(mark);
                    walk.flow.push(&self.scratch)?;
                }
            }
            _ => {}
        }
        let paragraphs = walk.flow.paragraphs.len();
        match place {
            Place::Sec(number) => {
                if let Some(section) = walk.sections.get_mut(number) {
                    section.behind = paragraphs;
                }
            }
            Place::SecTitle(number, first) => {
                if let Some(section) = walk.sections.get_mut(number)
                    && paragraphs > first
                {
                    section.title = section.title.or(Some(first));
                }
            }
            _ => {}
        }
        Ok(())
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

/// What a TeX document holds, without its preamble.
fn inside_document(tex: &[u8]) -> Option<&[u8]> {
    const BEGIN: &[u8] = b"\\begin{document}";
    let begin = memchr::memmem::find(tex, BEGIN)? + BEGIN.len();
    let length = memchr::memmem::find(&tex[begin..], b"\\end{document}")?;
    Some(tex[begin..begin + length].trim_ascii())
}
