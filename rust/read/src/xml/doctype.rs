//! The document type declaration: passed over, but for the names of the entities it declares. Nothing it names is
//! ever fetched, nothing it declares expanded; attribute defaults are not applied.

use super::names::{is_name, is_space, name_length};
use biollm_core::{Error, Result};

/// Longest declaration taken, its internal subset included.
pub(super) const MAX_DOCTYPE_BYTES: usize = 1 << 20;

/// What it begins with.
pub(super) const OPENING: &[u8] = b"<!DOCTYPE";

/// The entities that a file declares itself, sorted.
pub(super) type Declared = Vec<Box<[u8]>>;

enum Stop {
    /// The data ends inside.
    More,
    Wrong(&'static str),
}

/// Reads the declaration at the start of `data`: its length and the general entities it declares, or `None` where
/// the data ends inside it.
pub(super) fn parse(data: &[u8]) -> Result<Option<(usize, Declared)>> {
    let mut cursor = Cursor {
        data,
        at: OPENING.len(),
        declared: Vec::new(),
    };
    match cursor.doctype() {
        Ok(()) => {
            cursor.declared.sort_unstable();
            Ok(Some((cursor.at, cursor.declared)))
        }
        Err(Stop::More) => Ok(None),
        Err(Stop::Wrong(what)) => Err(Error::format(format!("the DOCTYPE is not well-formed: {what}"))),
    }
}

struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
    declared: Declared,
}

type Step<T> = std::result::Result<T, Stop>;

impl<'a> Cursor<'a> {
    fn doctype(&mut self) -> Step<()> {
        self.space()?;
        self.name()?;
        self.optional_space();
        if self.takes(b"SYSTEM")? {
            self.space()?;
            self.literal()?;
        } else if self.takes(b"PUBLIC")? {
            self.space()?;
            self.public_identifier()?;
            self.space()?;
            self.literal()?;
        }
        self.optional_space();
        if self.takes(b"[")? {
            self.subset()?;
            self.optional_space();
        }
        if self.takes(b">")? {
            Ok(())
        } else {
            Err(Stop::Wrong("no > where it should end"))
        }
    }

    /// The internal subset, up to and with its `]`.
    fn subset(&mut self) -> Step<()> {
        loop {
            self.optional_space();
            if self.takes(b"]")? {
                return Ok(());
            }
            if self.takes(b"%")? {
                self.name()?;
                if !self.takes(b";")? {
                    return Err(Stop::Wrong("a parameter entity without ;"));
                }
            } else if self.takes(b"<!--")? {
                self.skip_behind(b"--")?;
                if !self.takes(b">")? {
                    return Err(Stop::Wrong("-- inside a comment"));
                }
            } else if self.takes(b"<?")? {
                self.name()?;
                if !self.takes(b"?>")? {
                    self.space()?;
                    self.skip_behind(b"?>")?;
                }
            } else if self.takes(b"<!ENTITY")? {
                self.space()?;
                let parameter = self.takes(b"%")?;
                if parameter {
                    self.space()?;
                }
                let name = self.name()?;
                if !parameter {
                    self.declared.push(name.into());
                }
                self.declaration()?;
            } else if self.takes(b"<!ELEMENT")? || self.takes(b"<!ATTLIST")? || self.takes(b"<!NOTATION")? {
                self.space()?;
                self.declaration()?;
            } else {
                return Err(Stop::Wrong("an unknown declaration"));
            }
        }
    }

    /// The rest of a declaration, up to and with its `>`.
    fn declaration(&mut self) -> Step<()> {
        loop {
            let found = memchr::memchr3(b'>', b'"', b'\'', &self.data[self.at..]).ok_or(Stop::More)?;
            if memchr::memchr(b'<', &self.data[self.at..self.at + found]).is_some() {
                return Err(Stop::Wrong("< inside a declaration"));
            }
            self.at += found;
            if self.data[self.at] == b'>' {
                self.at += 1;
                return Ok(());
            }
            self.literal()?;
        }
    }

    fn literal(&mut self) -> Step<()> {
        match self.data.get(self.at) {
            None => Err(Stop::More),
            Some(&quote @ (b'"' | b'\'')) => {
                self.at += 1;
                self.skip_behind(&[quote])
            }
            Some(_) => Err(Stop::Wrong("no quoted literal where there must be one")),
        }
    }

    fn public_identifier(&mut self) -> Step<()> {
        let start = self.at;
        self.literal()?;
        let quoted = &self.data[start + 1..self.at - 1];
        let may_stand = |b: &u8| b.is_ascii_alphanumeric() || b" \r\n-'()+,./:=?;!*#@$_%".contains(b);
        if quoted.iter().all(may_stand) {
            Ok(())
        } else {
            Err(Stop::Wrong(
                "a character that may not stand in a public identifier",
            ))
        }
    }

    fn skip_behind(&mut self, end: &[u8]) -> Step<()> {
        let found = memchr::memmem::find(&self.data[self.at..], end).ok_or(Stop::More)?;
        self.at += found + end.len();
        Ok(())
    }

    fn name(&mut self) -> Step<&'a [u8]> {
        let length = name_length(&self.data[self.at..]);
        if self.at + length == self.data.len() {
            return Err(Stop::More);
        }
        let name = &self.data[self.at..self.at + length];
        if length == 0 || !is_name(name) {
            return Err(Stop::Wrong("no name where there must be one"));
        }
        self.at += length;
        Ok(name)
    }

    fn space(&mut self) -> Step<()> {
        match self.data.get(self.at) {
            None => Err(Stop::More),
            Some(&byte) if is_space(byte) => {
                self.optional_space();
                Ok(())
            }
            Some(_) => Err(Stop::Wrong("no space where there must be one")),
        }
    }

    fn optional_space(&mut self) {
        while self.data.get(self.at).is_some_and(|&b| is_space(b)) {
            self.at += 1;
        }
    }

    /// Steps behind `what` if it stands here.
    fn takes(&mut self, what: &[u8]) -> Step<bool> {
        let rest = &self.data[self.at..];
        if rest.starts_with(what) {
            self.at += what.len();
            return Ok(true);
        }
        if what.starts_with(rest) {
            return Err(Stop::More);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(doctype: &str) -> Option<Vec<String>> {
        let (length, declared) = parse(doctype.as_bytes()).unwrap()?;
        assert_eq!(length, doctype.len());
        Some(
            declared
                .iter()
                .map(|name| String::from_utf8(name.to_vec()).unwrap())
                .collect(),
        )
    }

    const FULL: &str = "<!DOCTYPE a PUBLIC \"-//X//EN\" 'x>.dtd' [ <!-- ]> --> <?pi ]>?><?p?> %more;\n\
                        <!ELEMENT a (#PCDATA)> <!ATTLIST a b CDATA \"]>\"> <!ENTITY one '>'> <!ENTITY % two \"x\">\n\
                        <!ENTITY three SYSTEM \"file:///etc/passwd\"> <!NOTATION n SYSTEM 'n'> ] >";

    #[test]
    fn every_cut_asks_for_more() {
        for cut in OPENING.len()..FULL.len() {
            assert!(matches!(parse(&FULL.as_bytes()[..cut]), Ok(None)), "{cut}");
        }
        assert_eq!(declared(FULL).unwrap(), ["one", "three"]);
        for plain in [
            "<!DOCTYPE a>",
            "<!DOCTYPE a SYSTEM 'x'>",
            "<!DOCTYPE a []>",
            "<!DOCTYPE\na PUBLIC '' \"\" >",
        ] {
            assert!(declared(plain).unwrap().is_empty(), "{plain}");
        }
    }

    #[test]
    fn damaged_ones() {
        for wrong in [
            "<!DOCTYPE>",
            "<!DOCTYPEa>",
            "<!DOCTYPE 1>",
            "<!DOCTYPE a b>",
            "<!DOCTYPE a PUBLIC 'x'>",
            "<!DOCTYPE a SYSTEM x>",
            "<!DOCTYPE a [<a>]>",
            "<!DOCTYPE a [x]>",
            "<!DOCTYPE a [<!ENTITY>]>",
            "<!DOCTYPE a [<!ENTITY x <]>",
            "<!DOCTYPE a [<!-- -- -->]>",
            "<!DOCTYPE a [%x ;]>",
            "<!DOCTYPE a []x>",
            "<!DOCTYPE a PUBLIC '<' 'x'>",
            "<!DOCTYPE a [<? x?>]>",
            "<!DOCTYPE a [<?x+ ?>]>",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
