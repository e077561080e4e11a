//! The text of a part of an article: its paragraphs, its sections, and what is dropped.

use super::flow::{Flow, Mark};
use super::record::{Section, reserve_section};
use biollm_core::{Error, Result, limits};

/// How good a child of `alternatives` is: the smaller, the better.
const TAKEN_FIRST: u8 = 3;
const NONE_TAKEN: u8 = 4;

/// Where an element of a walk stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    Block,
    Inline,
    /// The number of its section.
    Section(usize),
    /// The title of that section, and how many paragraphs there were before it.
    Title(usize, usize),
    /// The rank of the child taken so far.
    Alternatives(u8),
    TexMath(Mark),
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
pub(super) struct Walk {
    pub(super) flow: Flow,
    sections: Vec<OpenSection>,
    /// Where to go back to when a better alternative comes, the innermost last.
    alternatives: Vec<(Mark, usize)>,
    scratch: Vec<u8>,
}

impl Walk {
    pub(super) fn clear(&mut self) {
        self.flow.clear();
        self.sections.clear();
        self.alternatives.clear();
    }

    /// The sections that have paragraphs, as ranges of the text.
    pub(super) fn finished(&self, sections: &mut Vec<Section>) -> Result<()> {
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

    /// Where an element stands whose parent stands there; `None`: it is dropped.
    pub(super) fn start(
        &mut self,
        parent: Option<&mut Spot>,
        name: &[u8],
        blocks: bool,
    ) -> Result<Option<Spot>> {
        let mut title_of = None;
        match parent {
            Some(Spot::Alternatives(taken)) => {
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
                if let Some(&(mark, sections)) = self.alternatives.last() {
                    // Sections that began before have their titles from before.
                    self.flow.back_to(mark);
                    self.sections.truncate(sections);
                }
            }
            Some(Spot::Section(number)) if name == b"title" => title_of = Some(*number),
            _ => {}
        }
        if is_dropped(name) {
            return Ok(None);
        }
        let flow = &mut self.flow;
        Ok(Some(match name {
            b"break" => {
                flow.push(b" ")?;
                Spot::Inline
            }
            b"tex-math" => Spot::TexMath(flow.mark()),
            b"alternatives" => {
                limits::reserve(&mut self.alternatives, 1, "open elements")?;
                self.alternatives.push((flow.mark(), self.sections.len()));
                Spot::Alternatives(NONE_TAKEN)
            }
            _ if blocks && is_block(name) => {
                flow.end_paragraph()?;
                let first = flow.paragraphs.len();
                match title_of {
                    Some(number) => Spot::Title(number, first),
                    None if name == b"sec" => {
                        reserve_section(&mut self.sections)?;
                        self.sections.push(OpenSection {
                            title: None,
                            first,
                            behind: first,
                        });
                        Spot::Section(self.sections.len() - 1)
                    }
                    None => Spot::Block,
                }
            }
            _ => Spot::Inline,
        }))
    }

    /// Ends an element.
    pub(super) fn end(&mut self, spot: Spot) -> Result<()> {
        match spot {
            Spot::Inline => {}
            Spot::Block => self.flow.end_paragraph()?,
            Spot::Section(number) => {
                self.flow.end_paragraph()?;
                if let Some(section) = self.sections.get_mut(number) {
                    section.behind = self.flow.paragraphs.len();
                }
            }
            Spot::Title(number, first) => {
                self.flow.end_paragraph()?;
                if let Some(section) = self.sections.get_mut(number)
                    && self.flow.paragraphs.len() > first
                {
                    section.title = section.title.or(Some(first));
                }
            }
            Spot::Alternatives(_) => {
                self.alternatives.pop();
            }
            Spot::TexMath(mark) => {
                if let Some(inner) = inside_document(self.flow.since(mark)) {
                    self.scratch.clear();
                    limits::reserve(&mut self.scratch, inner.len(), "a formula")?;
                    self.scratch.extend_from_slice(inner);
                    self.flow.back_to(mark);
                    self.flow.push(&self.scratch)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether an element is dropped with all it holds.
pub(super) fn is_dropped(name: &[u8]) -> bool {
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
pub(super) fn is_block(name: &[u8]) -> bool {
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

/// What a TeX document holds, without its preamble.
fn inside_document(tex: &[u8]) -> Option<&[u8]> {
    const BEGIN: &[u8] = b"\\begin{document}";
    let begin = memchr::memmem::find(tex, BEGIN)? + BEGIN.len();
    let length = memchr::memmem::find(&tex[begin..], b"\\end{document}")?;
    Some(tex[begin..begin + length].trim_ascii())
}
