//! Start tags and the XML declaration, read out of bytes that hold them whole.

use super::doctype::Declared;
use super::entities::{self, MAX_REFERENCE_BYTES};
use super::names::{MAX_NAME_BYTES, is_name, is_space, name_length, value_stop};
use biollm_core::Error;

/// Most attributes of an element.
const MAX_ATTRIBUTES: usize = 1000;

/// One attribute: ranges from the tag's start.
pub(super) struct Attribute {
    pub(super) name: (usize, usize),
    pub(super) value: (usize, usize),
    pub(super) has_reference: bool,
}

/// A start tag that is whole.
pub(super) struct StartTag {
    /// The length of its name.
    pub(super) name: usize,
    /// Its own length.
    pub(super) length: usize,
    /// The element is empty by it.
    pub(super) empty: bool,
}

/// What is wrong, and how far behind the start of the tag.
pub(super) struct Misplaced {
    pub(super) at: usize,
    pub(super) error: Error,
}

type Step<T> = std::result::Result<T, Box<Misplaced>>;

fn misplaced<T>(at: usize, error: Error) -> Step<T> {
    Err(Box::new(Misplaced { at, error }))
}

/// Reads the start tag at the start of `data`; `None` where the data ends inside.
pub(super) fn start_tag(
    data: &[u8],
    declared: &Declared,
    attributes: &mut Vec<Attribute>,
) -> Step<Option<StartTag>> {
    let wrong = |at: usize, what: &str| misplaced(at, Error::format(what));
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
                            if let Err(error) = entities::resolve(&data[at + 1..at + length], declared) {
                                return misplaced(at, error);
                            }
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
            return misplaced(
                at,
                Error::limit("attributes of a tag", value, limit, "give fewer"),
            );
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
fn checked_name(data: &[u8], at: usize, what: &str) -> Step<usize> {
    let length = name_length(&data[at..]);
    if length > MAX_NAME_BYTES {
        let error = Error::limit(
            "bytes of a name",
            length as u64,
            MAX_NAME_BYTES as u64,
            "shorten it",
        );
        return misplaced(at, error);
    }
    if length == 0 || !is_name(&data[at..at + length]) {
        return misplaced(at, Error::format(what));
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
) -> Step<Option<StartTag>> {
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
        return misplaced(0, Error::format("an attribute stands twice in a tag"));
    }
    Ok(Some(StartTag {
        name,
        length: end,
        empty,
    }))
}

/// Checks what stands between `<?xml` and `?>`; gives the encoding it names.
pub(super) fn xml_declaration(text: &[u8]) -> std::result::Result<Option<&[u8]>, &'static str> {
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
