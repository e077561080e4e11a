//! A pull tokenizer of XML 1.0: well-formedness is checked, also of what is passed over; nothing is kept but the
//! names of the open elements and the token at hand. Long texts, comments and CDATA sections come in pieces or not
//! at all, so memory is bounded by the longest tag taken.

use super::doctype::Declared;
use super::entities::{self, MAX_REFERENCE_BYTES, Resolved};
use super::markup::{self, Attribute};
use super::names::{is_space, text_stop};
use super::source::Source;
use super::window::Window;
use crate::options::RAISE_LIMIT;
use biollm_core::{Error, Monitor, Result, limits};

/// Deepest nesting of elements.
pub(super) const MAX_DEPTH: usize = 512;

/// Most tags, references and pieces of text of a record, or of what stands between two: what short ones cost in time
/// stays bounded. The largest articles have a tenth of it.
const MAX_TOKENS: u32 = 1 << 24;

/// Longest start tag, attributes and all.
pub(super) const MAX_TAG_BYTES: usize = 4 << 20;

/// What comes next in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// An element begins: [`Tokens::name`], [`Tokens::attribute`].
    Start,
    /// The innermost element ends; one that is empty by its tag has an end too.
    End,
    /// Some text, or a part of one: [`Tokens::text`].
    Text,
    /// The document has ended as it should.
    Eof,
}

/// What the tokenizer stands inside of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inside {
    Content,
    Comment,
    Instruction,
    CData,
}

/// What one look at the data gave.
pub(super) enum Look {
    Event(Event),
    /// Something without an event was taken.
    Again,
    /// The token does not end in the data at hand.
    More,
}

/// See the module.
pub(super) struct Tokens {
    pub(super) window: Window,
    pub(super) inside: Inside,
    /// The names of the open elements, one behind the other, and where each begins.
    pub(super) names: Vec<u8>,
    pub(super) starts: Vec<usize>,
    pub(super) attributes: Vec<Attribute>,
    /// The last start tag and its name, in the window.
    tag: usize,
    name: (usize, usize),
    /// The last text, in the window, or what the last reference stands for.
    pub(super) text: (usize, usize),
    pub(super) resolved: Option<Resolved>,
    scratch: [u8; 4],
    /// The last start tag was that of an empty element.
    empty: bool,
    /// Pass over everything until so few elements are open.
    pub(super) skipping: Option<usize>,
    /// Passing over it looks for nothing but its end tag; so many elements of its name are open in it.
    pub(super) loose: Option<usize>,
    pub(super) declared: Declared,
    pub(super) began: bool,
    pub(super) doctype_seen: bool,
    pub(super) root_seen: bool,
    max_unit_bytes: u64,
    /// Where the record at hand, or what stands between two, began, and how many tokens it has had.
    unit: u64,
    unit_tokens: u32,
}

impl Tokens {
    /// A tokenizer that gives up a record, or what stands between two, over `max_unit_bytes`.
    pub(super) fn new(max_unit_bytes: usize) -> Result<Self> {
        Self::with_window(max_unit_bytes, Window::new(true)?)
    }

    /// One for a first pass that a strict one follows: characters are not checked, nor what
    /// [`Tokens::skip_record`] passes over.
    pub(super) fn lenient(max_unit_bytes: usize) -> Result<Self> {
        Self::with_window(max_unit_bytes, Window::new(false)?)
    }

    fn with_window(max_unit_bytes: usize, window: Window) -> Result<Self> {
        Ok(Self {
            window,
            inside: Inside::Content,
            names: Vec::new(),
            starts: limits::with_capacity(MAX_DEPTH, "open elements")?,
            attributes: Vec::new(),
            tag: 0,
            name: (0, 0),
            text: (0, 0),
            resolved: None,
            scratch: [0; 4],
            empty: false,
            skipping: None,
            loose: None,
            declared: Vec::new(),
            began: false,
            doctype_seen: false,
            root_seen: false,
            max_unit_bytes: max_unit_bytes as u64,
            unit: 0,
            unit_tokens: 0,
        })
    }

    /// Makes it as new for the next document.
    pub(super) fn reset(&mut self) {
        self.window.reset();
        self.inside = Inside::Content;
        self.names.clear();
        self.starts.clear();
        (self.empty, self.skipping, self.loose) = (false, None, None);
        (self.unit, self.unit_tokens) = (0, 0);
        self.declared.clear();
        (self.began, self.doctype_seen, self.root_seen) = (false, false, false);
    }

    /// The line at hand, counted from 1.
    pub(super) fn line(&self) -> u64 {
        self.window.line_at(self.window.start)
    }

    /// The line of the tag of the element that began last.
    pub(super) fn line_of_tag(&mut self) -> u64 {
        self.window.line_after(self.tag)
    }

    /// Whether the last failure was the source's own.
    pub(super) fn source_failed(&self) -> bool {
        self.window.source_failed
    }

    /// The qualified name of the element that began last.
    #[inline]
    pub(super) fn name(&self) -> &[u8] {
        &self.window.buffer[self.name.0..self.name.1]
    }

    /// The last text.
    #[inline]
    pub(super) fn text(&mut self) -> &[u8] {
        match self.resolved {
            None => &self.window.buffer[self.text.0..self.text.1],
            Some(resolved) => resolved.bytes(&mut self.scratch),
        }
    }

    /// Appends the value of an attribute of the element that began last, its references resolved; false where it has
    /// none of that name.
    pub(super) fn attribute(&self, name: &[u8], value: &mut Vec<u8>) -> Result<bool> {
        let tag = &self.window.buffer[self.tag..self.window.start];
        let Some(found) = self
            .attributes
            .iter()
            .find(|a| tag.get(a.name.0..a.name.1) == Some(name))
        else {
            return Ok(false);
        };
        let mut rest = &tag[found.value.0..found.value.1];
        // A reference grows by a fifth at most.
        limits::reserve(value, rest.len() + rest.len() / 4, "an attribute")?;
        while found.has_reference
            && let Some(at) = memchr::memchr(b'&', rest)
        {
            let end = memchr::memchr(b';', &rest[at..]).map_or(rest.len(), |n| at + n);
            value.extend_from_slice(&rest[..at]);
            let resolved = entities::resolve(&rest[at + 1..end], &self.declared)?;
            value.extend_from_slice(resolved.bytes(&mut [0; 4]));
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        value.extend_from_slice(rest);
        Ok(true)
    }

    /// Whether the element that began last has an attribute of that value.
    pub(super) fn attribute_is(&self, name: &[u8], value: &[u8], scratch: &mut Vec<u8>) -> Result<bool> {
        scratch.clear();
        Ok(self.attribute(name, scratch)? && scratch == value)
    }

    /// Passes over the element that began last, its end too.
    pub(super) fn skip_element(&mut self) {
        self.skipping = Some(self.starts.len().saturating_sub(1));
    }

    /// Counts the bytes of a record, or of what stands between two, from the token at hand.
    pub(super) fn begin_unit(&mut self, with_tag: bool) {
        let back = if with_tag { self.window.start - self.tag } else { 0 };
        self.unit = self.window.position() - back as u64;
        self.unit_tokens = 0;
    }

    /// The next event. A call that was stopped is simply repeated.
    pub(super) fn next(&mut self, source: &mut Source, monitor: &Monitor) -> Result<Event> {
        loop {
            let event = self.step(source, monitor)?;
            let Some(depth) = self.skipping else {
                return Ok(event);
            };
            if self.starts.len() <= depth {
                self.skipping = None;
                if event == Event::Eof {
                    return Ok(event);
                }
            }
        }
    }

    fn step(&mut self, source: &mut Source, monitor: &Monitor) -> Result<Event> {
        if self.empty {
            self.empty = false;
            self.close();
            return Ok(Event::End);
        }
        loop {
            match self.look()? {
                Look::Event(event) => {
                    self.unit_tokens += 1;
                    self.check_unit()?;
                    return Ok(event);
                }
                Look::Again => self.check_unit()?,
                Look::More => {
                    if !self.window.refill(source, monitor)? {
                        return self.end();
                    }
                }
            }
        }
    }

    #[inline]
    fn check_unit(&self) -> Result<()> {
        let bytes = self.window.position() - self.unit;
        if bytes > self.max_unit_bytes || self.unit_tokens > MAX_TOKENS {
            return Err(self.too_long(bytes));
        }
        Ok(())
    }

    #[cold]
    fn too_long(&self, bytes: u64) -> Error {
        if bytes <= self.max_unit_bytes {
            let what = "tags and pieces of text of a record, or between two,";
            let (found, limit) = (u64::from(self.unit_tokens), u64::from(MAX_TOKENS));
            let error = Error::limit(what, found, limit, "split the record");
            return error.at(None, Some(self.line()));
        }
        let what = "bytes of XML of a record, or between two,";
        // At least so many: how many more were at hand depends on the blocks.
        let (found, limit) = (self.max_unit_bytes + 1, self.max_unit_bytes);
        Error::limit(what, found, limit, RAISE_LIMIT).at(None, Some(self.line()))
    }

    /// Nothing follows.
    fn end(&mut self) -> Result<Event> {
        let open = self.starts.last().map(|&start| &self.names[start..]);
        let message = match (self.inside, open) {
            (Inside::Comment, _) => "the file ends inside a comment".to_string(),
            (Inside::Instruction, _) => "the file ends inside a processing instruction".to_string(),
            (Inside::CData, _) => "the file ends inside a CDATA section".to_string(),
            _ if !self.window.data().is_empty() => {
                let begin = &self.window.data()[..self.window.data().len().min(40)];
                format!("the file ends inside {:?}", String::from_utf8_lossy(begin))
            }
            (_, Some(name)) => {
                format!(
                    "the file ends inside <{}>: it is cut off",
                    String::from_utf8_lossy(name)
                )
            }
            _ if !self.root_seen => "the file holds no XML element".to_string(),
            _ => return Ok(Event::Eof),
        };
        Err(self.wrong(self.window.valid, message))
    }

    /// An error at a place in the window.
    pub(super) fn wrong(&self, at: usize, message: impl Into<String>) -> Error {
        Error::format(message).at(None, Some(self.window.line_at(at)))
    }

    /// Takes the next token, if all of it is at hand.
    #[inline]
    fn look(&mut self) -> Result<Look> {
        let data = self.window.data();
        match (self.inside, data.first()) {
            (_, None) => Ok(Look::More),
            (Inside::Content, _) if self.loose.is_some() => self.loosely(),
            (Inside::Content, Some(b'<')) => match data.get(1) {
                None => Ok(Look::More),
                Some(b'/') => self.end_tag(),
                Some(b'!') => self.exclamation(),
                Some(b'?') => self.instruction(),
                Some(_) => self.start_tag(),
            },
            (Inside::Content, Some(b'&')) => self.reference(),
            (Inside::Content, Some(_)) => self.characters(),
            (Inside::Comment, _) => self.comment(),
            (Inside::Instruction, _) => Ok(self.rest_of(b"?>")),
            (Inside::CData, _) => Ok(self.rest_of(b"]]>")),
        }
    }

    fn characters(&mut self) -> Result<Look> {
        self.began = true;
        let data = self.window.data();
        if self.starts.is_empty() {
            let space = data.iter().take_while(|&&b| is_space(b)).count();
            if space < data.len() && data[space] != b'<' {
                return Err(self.wrong(
                    self.window.start + space,
                    "text outside of the root element: not XML?",
                ));
            }
            self.window.start += space;
            return Ok(Look::Again);
        }
        let mut from = 0;
        let end = loop {
            let Some(found) = text_stop(&data[from..]) else {
                break data.len();
            };
            let at = from + found;
            if data[at] != b']' {
                break at;
            }
            // "]]>" may not stand in text; one that the window cuts waits for the rest.
            match (data.get(at + 1), data.get(at + 2)) {
                (Some(b']'), Some(b'>')) => return Err(self.wrong(self.window.start + at, "]]> in a text")),
                (None, _) | (Some(b']'), None) => break at,
                _ => from = at + 1,
            }
        };
        if end == 0 {
            return Ok(Look::More);
        }
        self.text = (self.window.start, self.window.start + end);
        self.resolved = None;
        self.window.start += end;
        Ok(Look::Event(Event::Text))
    }

    fn reference(&mut self) -> Result<Look> {
        let data = self.window.data();
        if self.starts.is_empty() {
            return Err(self.wrong(self.window.start, "a reference outside of the root element"));
        }
        let most = data.len().min(MAX_REFERENCE_BYTES + 2);
        let Some(end) = memchr::memchr(b';', &data[..most]) else {
            if most < MAX_REFERENCE_BYTES + 2 {
                // A reference holds neither of these: no need to wait for the rest.
                if memchr::memchr2(b'<', b' ', &data[1..most]).is_none() {
                    return Ok(Look::More);
                }
            }
            return Err(self.wrong(self.window.start, "a & that begins no reference (write &amp;)"));
        };
        let resolved = entities::resolve(&data[1..end], &self.declared);
        self.resolved = Some(resolved.map_err(|e| e.at(None, Some(self.line())))?);
        self.window.start += end + 1;
        Ok(Look::Event(Event::Text))
    }

    fn end_tag(&mut self) -> Result<Look> {
        let data = self.window.data();
        let Some(&start) = self.starts.last() else {
            return Err(self.wrong(self.window.start, "an end tag where no element is open"));
        };
        let name = &self.names[start..];
        let behind = 2 + name.len();
        let taken = if data.get(behind) == Some(&b'>') && data[2..behind] == *name {
            behind + 1
        } else {
            let Some(end) = memchr::memchr(b'>', data) else {
                return self.more_of_a_tag("an end tag");
            };
            let mut found = &data[2..end];
            while let [rest @ .., last] = found
                && is_space(*last)
            {
                found = rest;
            }
            if found != name {
                let (name, found) = (
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(&found[..found.len().min(100)]),
                );
                let message = format!("</{found}> stands where <{name}> is open");
                return Err(self.wrong(self.window.start, message));
            }
            end + 1
        };
        self.window.start += taken;
        self.close();
        Ok(Look::Event(Event::End))
    }

    /// Forgets the innermost element.
    #[inline]
    fn close(&mut self) {
        if let Some(start) = self.starts.pop() {
            self.names.truncate(start);
        }
    }

    /// A tag that does not end in the window: wait for more of it, up to the limit.
    pub(super) fn more_of_a_tag(&self, what: &str) -> Result<Look> {
        let bytes = self.window.data().len();
        if bytes > MAX_TAG_BYTES {
            let what = format!("bytes of {what}");
            let error = Error::limit(what, bytes as u64, MAX_TAG_BYTES as u64, "shorten its attributes");
            return Err(error.at(None, Some(self.line())));
        }
        Ok(Look::More)
    }

    fn start_tag(&mut self) -> Result<Look> {
        self.attributes.clear();
        let data = &self.window.buffer[self.window.start..self.window.valid];
        let tag = match markup::start_tag(data, &self.declared, &mut self.attributes) {
            Ok(Some(tag)) => tag,
            Ok(None) => return self.more_of_a_tag("a start tag"),
            Err(wrong) => {
                let line = self.window.line_at(self.window.start + wrong.at);
                return Err(wrong.error.at(None, Some(line)));
            }
        };
        if self.starts.is_empty() && self.root_seen {
            return Err(self.wrong(self.window.start, "a second root element"));
        }
        if self.starts.len() >= MAX_DEPTH {
            let (value, limit) = (MAX_DEPTH as u64 + 1, MAX_DEPTH as u64);
            let error = Error::limit("depth of elements", value, limit, "flatten the document");
            return Err(error.at(None, Some(self.line())));
        }
        (self.began, self.root_seen) = (true, true);
        let name = &data[1..=tag.name];
        limits::reserve(&mut self.names, tag.name, "names of open elements")?;
        self.starts.push(self.names.len());
        self.names.extend_from_slice(name);
        self.tag = self.window.start;
        self.name = (self.tag + 1, self.tag + 1 + tag.name);
        self.empty = tag.empty;
        self.window.start += tag.length;
        Ok(Look::Event(Event::Start))
    }
}
