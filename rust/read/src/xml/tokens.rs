//! A pull tokenizer of XML 1.0: well-formedness is checked, also of what is passed over; nothing is kept but the
//! names of the open elements and the token at hand. Long texts, comments and CDATA sections come in pieces or not
//! at all, so memory is bounded by the longest tag taken.

use super::doctype::{self, Declared};
use super::entities::{self, MAX_REFERENCE_BYTES, Resolved};
use super::names::{MAX_NAME_BYTES, is_inside_name, is_name, is_space, name_length, text_stop, value_stop};
use super::source::Source;
use super::window::Window;
use crate::options::RAISE_LIMIT;
use biollm_core::{Error, Monitor, Result, limits};

/// Deepest nesting of elements.
pub(super) const MAX_DEPTH: usize = 512;

/// Longest start tag, attributes and all.
pub(super) const MAX_TAG_BYTES: usize = 4 << 20;

/// Most attributes of an element.
pub(super) const MAX_ATTRIBUTES: usize = 1000;

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
enum Inside {
    Content,
    Comment,
    Instruction,
    CData,
}

/// One attribute: ranges from the tag's start.
struct Attribute {
    name: (usize, usize),
    value: (usize, usize),
    has_reference: bool,
}

/// What one look at the data gave.
enum Look {
    Event(Event),
    /// Something without an event was taken.
    Again,
    /// The token does not end in the data at hand.
    More,
}

/// See the module.
pub(super) struct Tokens {
    window: Window,
    inside: Inside,
    /// The names of the open elements, one behind the other, and where each begins.
    names: Vec<u8>,
    starts: Vec<usize>,
    attributes: Vec<Attribute>,
    /// The last start tag and its name, in the window.
    tag: usize,
    name: (usize, usize),
    /// The last text, in the window, or what the last reference stands for.
    text: (usize, usize),
    resolved: Option<Resolved>,
    scratch: [u8; 4],
    /// The last start tag was that of an empty element.
    empty: bool,
    /// Pass over everything until so few elements are open.
    skipping: Option<usize>,
    /// Passing over it looks for nothing but its end tag; so many elements of its name are open in it.
    loose: Option<usize>,
    declared: Declared,
    began: bool,
    doctype_seen: bool,
    root_seen: bool,
    max_unit_bytes: u64,
    /// Where the record at hand, or what stands between two, began.
    unit: u64,
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
        })
    }

    /// Makes it as new for the next document.
    pub(super) fn reset(&mut self) {
        self.window.reset();
        self.inside = Inside::Content;
        self.names.clear();
        self.starts.clear();
        (self.empty, self.skipping, self.loose, self.unit) = (false, None, None, 0);
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

    /// Passes over the rest of the element that is the third from within, counted from where an element has just
    /// ended: the record whose citation's PMID that was.
    pub(super) fn skip_record(&mut self) {
        self.skipping = Some(self.starts.len().saturating_sub(2));
        self.loose = Some(0);
    }

    /// Counts the bytes of a record, or of what stands between two, from the token at hand.
    pub(super) fn begin_unit(&mut self, with_tag: bool) {
        let back = if with_tag { self.window.start - self.tag } else { 0 };
        self.unit = self.window.position() - back as u64;
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
        if bytes > self.max_unit_bytes {
            return Err(self.too_long(bytes));
        }
        Ok(())
    }

    #[cold]
    fn too_long(&self, bytes: u64) -> Error {
        let what = "bytes of XML of a record, or between two,";
        Error::limit(what, bytes, self.max_unit_bytes, RAISE_LIMIT).at(None, Some(self.line()))
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
    fn wrong(&self, at: usize, message: impl Into<String>) -> Error {
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

    /// Looks for the end tag of the element that is passed over. A `<` stands nowhere but before markup, so it is
    /// enough to look at those, and to step over comments, instructions and CDATA sections.
    fn loosely(&mut self) -> Result<Look> {
        let depth = self.skipping.unwrap_or(0);
        let name = match (self.starts.get(depth), self.starts.get(depth + 1)) {
            (Some(&start), Some(&end)) => &self.names[start..end],
            _ => return Err(Error::Internal("passing over an element that is not open".into())),
        };
        let data = self.window.data();
        let is_name =
            |text: &[u8]| text.starts_with(name) && text.get(name.len()).is_some_and(|&b| !is_inside_name(b));
        let mut at = 0;
        loop {
            let Some(found) = memchr::memchr(b'<', &data[at..]) else {
                self.window.start = self.window.valid;
                return Ok(Look::Again);
            };
            at += found;
            let rest = &data[at + 1..];
            match rest.first() {
                Some(b'/') if is_name(&rest[1..]) => match self.loose {
                    Some(0) | None => {
                        // From here on all is as usual.
                        let open = self.starts.get(depth + 1).copied();
                        self.names.truncate(open.unwrap_or(self.names.len()));
                        self.starts.truncate(depth + 1);
                        self.loose = None;
                        break;
                    }
                    Some(nested) => self.loose = Some(nested - 1),
                },
                Some(b'!') => {
                    self.window.start += at;
                    return self.exclamation();
                }
                Some(b'?') => {
                    self.window.start += at;
                    return self.instruction();
                }
                Some(_) if is_name(rest) => {
                    // One of the same name inside: a strict look tells whether it is empty.
                    self.window.start += at;
                    let data = self.window.data();
                    self.attributes.clear();
                    let tag = scan_start_tag(data, &self.declared, &mut self.attributes);
                    match tag.map_err(|(_, error)| error)? {
                        None => return self.more_of_a_tag("a start tag"),
                        Some((_, end, empty)) => {
                            self.window.start += end;
                            self.loose = self.loose.map(|nested| nested + usize::from(!empty));
                            return Ok(Look::Again);
                        }
                    }
                }
                // A name that the window may cut waits for the rest.
                _ if rest.len() < name.len() + 2 => {
                    self.window.start += at;
                    return Ok(if at == 0 { Look::More } else { Look::Again });
                }
                _ => {}
            }
            at += 1;
        }
        self.window.start += at;
        Ok(Look::Again)
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
    fn more_of_a_tag(&self, what: &str) -> Result<Look> {
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
        let name = match scan_start_tag(data, &self.declared, &mut self.attributes) {
            Ok(Some(tag)) => tag,
            Ok(None) => return self.more_of_a_tag("a start tag"),
            Err((at, error)) => return Err(error.at(None, Some(self.window.line_at(self.window.start + at)))),
        };
        let (length, end, empty) = name;
        if self.starts.is_empty() && self.root_seen {
            return Err(self.wrong(self.window.start, "a second root element"));
        }
        if self.starts.len() >= MAX_DEPTH {
            let (value, limit) = (MAX_DEPTH as u64 + 1, MAX_DEPTH as u64);
            let error = Error::limit("depth of elements", value, limit, "flatten the document");
            return Err(error.at(None, Some(self.line())));
        }
        (self.began, self.root_seen) = (true, true);
        let name = &data[1..=length];
        limits::reserve(&mut self.names, length, "names of open elements")?;
        self.starts.push(self.names.len());
        self.names.extend_from_slice(name);
        self.tag = self.window.start;
        self.name = (self.tag + 1, self.tag + 1 + length);
        self.empty = empty;
        self.window.start += end;
        Ok(Look::Event(Event::Start))
    }

    /// `<!`: a comment, a CDATA section, or the document type.
    fn exclamation(&mut self) -> Result<Look> {
        self.began = true;
        let data = self.window.data();
        for (opening, inside) in [
            (&b"<!--"[..], Inside::Comment),
            (b"<![CDATA[", Inside::CData),
            (doctype::OPENING, Inside::Content),
        ] {
            if !data.starts_with(opening) {
                if opening.starts_with(data) {
                    return Ok(Look::More);
                }
                continue;
            }
            match inside {
                Inside::Content => return self.doctype(),
                Inside::CData if self.starts.is_empty() => break,
                _ => {}
            }
            self.window.start += opening.len();
            self.inside = inside;
            return Ok(Look::Again);
        }
        Err(self.wrong(self.window.start, "a <! that begins nothing that may stand here"))
    }

    fn doctype(&mut self) -> Result<Look> {
        if self.doctype_seen || self.root_seen {
            return Err(self.wrong(self.window.start, "a DOCTYPE where none may stand"));
        }
        let data = self.window.data();
        match doctype::parse(data) {
            Err(error) => Err(error.at(None, Some(self.line()))),
            Ok(None) if data.len() > doctype::MAX_DOCTYPE_BYTES => {
                let (value, limit) = (data.len() as u64, doctype::MAX_DOCTYPE_BYTES as u64);
                let hint = "leave out its internal subset";
                Err(Error::limit("bytes of the DOCTYPE", value, limit, hint).at(None, Some(self.line())))
            }
            Ok(None) => Ok(Look::More),
            Ok(Some((length, declared))) => {
                self.window.start += length;
                self.declared = declared;
                self.doctype_seen = true;
                Ok(Look::Again)
            }
        }
    }

    /// `<?`: the XML declaration, or an instruction for nobody here.
    fn instruction(&mut self) -> Result<Look> {
        let data = self.window.data();
        let length = name_length(&data[2..]);
        let target = &data[2..2 + length];
        let Some(&behind) = data.get(2 + length) else {
            return self.more_of_a_tag("a processing instruction");
        };
        if length == 0 || !is_name(target) || !(is_space(behind) || behind == b'?') {
            return Err(self.wrong(self.window.start, "a <? that begins no processing instruction"));
        }
        if !target.eq_ignore_ascii_case(b"xml") {
            self.began = true;
            self.window.start += 2 + length;
            self.inside = Inside::Instruction;
            return Ok(Look::Again);
        }
        if self.began || target != b"xml" {
            return Err(self.wrong(
                self.window.start,
                "an XML declaration that does not stand at the start of the file",
            ));
        }
        let Some(end) = memchr::memmem::find(data, b"?>") else {
            return self.more_of_a_tag("the XML declaration");
        };
        let encoding = xml_declaration(&data[5..end]).map_err(|e| self.wrong(self.window.start, e))?;
        let encoding = encoding.map(<[u8]>::to_vec);
        self.window.start += end + 2;
        self.began = true;
        if let Some(name) = encoding {
            self.window.declare(&name).map_err(|e| e.at(None, Some(1)))?;
        }
        Ok(Look::Again)
    }

    /// Goes on in a comment.
    fn comment(&mut self) -> Result<Look> {
        let data = self.window.data();
        let Some(at) = memchr::memmem::find(data, b"--") else {
            // The last byte may be the first of the two.
            let taken = data.len() - 1;
            self.window.start += taken;
            return Ok(if taken == 0 { Look::More } else { Look::Again });
        };
        match data.get(at + 2) {
            None if at == 0 => return Ok(Look::More),
            None => self.window.start += at,
            Some(b'>') => {
                self.window.start += at + 3;
                self.inside = Inside::Content;
            }
            Some(_) => return Err(self.wrong(self.window.start + at, "-- inside a comment")),
        }
        Ok(Look::Again)
    }

    /// Goes on in a CDATA section, which is text, or in an instruction, which is nothing.
    fn rest_of(&mut self, end: &[u8]) -> Look {
        let data = self.window.data();
        let (length, taken, ended) = match memchr::memmem::find(data, end) {
            Some(at) => (at, at + end.len(), true),
            // The last bytes may be the first of the end.
            None => {
                let length = data.len().saturating_sub(end.len() - 1);
                (length, length, false)
            }
        };
        if taken == 0 {
            return Look::More;
        }
        let is_text = self.inside == Inside::CData && length > 0;
        self.text = (self.window.start, self.window.start + length);
        self.resolved = None;
        self.window.start += taken;
        if ended {
            self.inside = Inside::Content;
        }
        if is_text {
            Look::Event(Event::Text)
        } else {
            Look::Again
        }
    }
}

/// Reads the start tag at the start of `data`: the length of its name, its own length, and whether the element is
/// empty by it; `None` where the data ends inside. An error comes with its place.
fn scan_start_tag(
    data: &[u8],
    declared: &Declared,
    attributes: &mut Vec<Attribute>,
) -> std::result::Result<Option<(usize, usize, bool)>, (usize, Error)> {
    let wrong = |at: usize, what: &str| Err((at, Error::format(what)));
    let name = checked_name(data, 1, "a < that begins no tag (write &lt;)")?;
    let mut at = 1 + name;
    loop {
        let space = data[at..].iter().take_while(|&&b| is_space(b)).count();
        at += space;
        match data.get(at) {
            None => return Ok(None),
            Some(b'>') => return finish(data, attributes, name, at + 1, false),
            Some(b'/') => match data.get(at + 1) {
                None => return Ok(None),
                Some(b'>') => return finish(data, attributes, name, at + 2, true),
                Some(_) => return wrong(at, "a / inside a tag"),
            },
            Some(_) if space == 0 => return wrong(at, "no space before an attribute, or no > after a name"),
            Some(_) => {}
        }
        let key = (
            at,
            at + checked_name(data, at, "no name where an attribute should begin")?,
        );
        at = key.1;
        for step in [b'=', b'"'] {
            at += data[at..].iter().take_while(|&&b| is_space(b)).count();
            match (step, data.get(at)) {
                (_, None) => return Ok(None),
                (b'=', Some(b'=')) => at += 1,
                (b'"', Some(b'"' | b'\'')) => {}
                _ => return wrong(at, "an attribute without a quoted value"),
            }
        }
        let quote = data[at];
        let first = at + 1;
        at = first;
        let mut has_reference = false;
        loop {
            let Some(found) = value_stop(&data[at..]) else {
                return Ok(None);
            };
            at += found;
            match data[at] {
                stop if stop == quote => break,
                b'<' => return wrong(at, "a < inside an attribute (write &lt;)"),
                b'&' => {
                    has_reference = true;
                    let most = data.len().min(at + MAX_REFERENCE_BYTES + 2);
                    match memchr::memchr2(b';', quote, &data[at..most]) {
                        Some(length) if data[at + length] == b';' => {
                            entities::resolve(&data[at + 1..at + length], declared).map_err(|e| (at, e))?;
                            at += length + 1;
                        }
                        None if most == data.len() => return Ok(None),
                        _ => return wrong(at, "a & that begins no reference (write &amp;)"),
                    }
                }
                _ => at += 1,
            }
        }
        if attributes.len() >= MAX_ATTRIBUTES {
            let (value, limit) = (MAX_ATTRIBUTES as u64 + 1, MAX_ATTRIBUTES as u64);
            return Err((
                at,
                Error::limit("attributes of a tag", value, limit, "give fewer"),
            ));
        }
        attributes.push(Attribute {
            name: key,
            value: (first, at),
            has_reference,
        });
        at += 1;
    }
}

/// The length of the name at `at`. It may go on behind the data: the caller finds that out.
fn checked_name(data: &[u8], at: usize, what: &str) -> std::result::Result<usize, (usize, Error)> {
    let length = name_length(&data[at..]);
    if length > MAX_NAME_BYTES {
        let error = Error::limit(
            "bytes of a name",
            length as u64,
            MAX_NAME_BYTES as u64,
            "shorten it",
        );
        return Err((at, error));
    }
    if length == 0 || !is_name(&data[at..at + length]) {
        return Err((at, Error::format(what)));
    }
    Ok(length)
}

/// A start tag that is whole: no attribute may stand in it twice.
fn finish(
    data: &[u8],
    attributes: &[Attribute],
    name: usize,
    end: usize,
    empty: bool,
) -> std::result::Result<Option<(usize, usize, bool)>, (usize, Error)> {
    let name_of = |a: &Attribute| &data[a.name.0..a.name.1];
    let twice = match attributes {
        [] | [_] => false,
        [a, b] => name_of(a) == name_of(b),
        many if many.len() <= 8 => {
            let equals = |i: usize| many[..i].iter().any(|a| name_of(a) == name_of(&many[i]));
            (1..many.len()).any(equals)
        }
        many => {
            let mut names: Vec<&[u8]> = many.iter().map(name_of).collect();
            names.sort_unstable();
            names.windows(2).any(|pair| pair[0] == pair[1])
        }
    };
    if twice {
        return Err((0, Error::format("an attribute stands twice in a tag")));
    }
    Ok(Some((name, end, empty)))
}

/// Checks what stands between `<?xml` and `?>`; gives the encoding it names.
fn xml_declaration(text: &[u8]) -> std::result::Result<Option<&[u8]>, &'static str> {
    const WRONG: &str = "the XML declaration is not well-formed";
    let mut rest = text;
    let mut encoding = None;
    let mut last = 0;
    loop {
        let trimmed = rest.trim_ascii_start();
        if trimmed.is_empty() {
            return if last > 0 { Ok(encoding) } else { Err(WRONG) };
        }
        if trimmed.len() == rest.len() {
            return Err(WRONG);
        }
        let equals = memchr::memchr(b'=', trimmed).ok_or(WRONG)?;
        let key = trimmed[..equals].trim_ascii();
        let place = 1 + [&b"version"[..], b"encoding", b"standalone"]
            .iter()
            .position(|&known| known == key)
            .ok_or(WRONG)?;
        // In this order, the version always.
        if place <= last || (last == 0 && place != 1) {
            return Err(WRONG);
        }
        last = place;
        let value = trimmed[equals + 1..].trim_ascii_start();
        let (&quote, value) = value.split_first().ok_or(WRONG)?;
        if quote != b'"' && quote != b'\'' {
            return Err(WRONG);
        }
        let end = memchr::memchr(quote, value).ok_or(WRONG)?;
        let content = &value[..end];
        match place {
            1 if !content.starts_with(b"1.")
                || content.len() < 3
                || !content[2..].iter().all(u8::is_ascii_digit) =>
            {
                return Err("a version of XML that is not 1.x");
            }
            2 if !content.first().is_some_and(u8::is_ascii_alphabetic) => return Err(WRONG),
            2 => encoding = Some(content),
            3 if content != b"yes" && content != b"no" => return Err(WRONG),
            _ => {}
        }
        rest = &value[end + 1..];
    }
}
