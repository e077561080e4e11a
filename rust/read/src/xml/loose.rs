//! Passing over the rest of a record by its end tag alone: for a first pass that a strict one follows.

use super::markup;
use super::names::is_inside_name;
use super::tokens::{Look, Tokens};
use biollm_core::{Error, Result};

impl Tokens {
    /// Passes over the rest of the element that is the third from within, counted from where an element has just
    /// ended: the record whose citation's PMID that was.
    pub(super) fn skip_record(&mut self) {
        self.skipping = Some(self.starts.len().saturating_sub(2));
        self.loose = Some(0);
    }

    /// Looks for the end tag of the element that is passed over. A `<` stands nowhere but before markup, so it is
    /// enough to look at those, and to step over comments, instructions and CDATA sections.
    pub(super) fn loosely(&mut self) -> Result<Look> {
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
                    let tag = markup::start_tag(data, &self.declared, &mut self.attributes);
                    match tag.map_err(|wrong| wrong.error)? {
                        None => return self.more_of_a_tag("a start tag"),
                        Some(tag) => {
                            self.window.start += tag.length;
                            self.loose = self.loose.map(|nested| nested + usize::from(!tag.empty));
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
}
