//! What is no element and no text: comments, instructions, the XML declaration, the document type; and CDATA
//! sections, which are text in another dress.

use super::doctype;
use super::markup::xml_declaration;
use super::names::{is_name, is_space, name_length};
use super::tokens::{Event, Inside, Look, Tokens};
use biollm_core::{Error, Result};

impl Tokens {
    /// `<!`: a comment, a CDATA section, or the document type.
    pub(super) fn exclamation(&mut self) -> Result<Look> {
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
    pub(super) fn instruction(&mut self) -> Result<Look> {
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
    pub(super) fn comment(&mut self) -> Result<Look> {
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
    pub(super) fn rest_of(&mut self, end: &[u8]) -> Look {
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
