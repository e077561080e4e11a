//! One line of JSON Lines: its top-level fields as spans of the line, all of it validated (RFC 8259), nothing
//! built. No recursion: nesting is a stack of bits, at most [`limits::MAX_JSON_DEPTH`] deep.
//!
//! What Python's `json.loads` takes, this takes, but for `NaN`, `Infinity` (not JSON) and deeper nesting.

mod string;

pub use string::RawString;

use biollm_core::{Error, Monitor, Result, limits};
use string::{hex4, plain_length};

/// Bytes between two looks at the stop token.
const CHECK_BYTES: usize = 1 << 20;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `"…"`
    String,
    /// A number.
    Number,
    /// `true` or `false`
    Bool,
    /// `null`
    Null,
    /// `{…}`
    Object,
    /// `[…]`
    Array,
}

impl Kind {
    /// What to call it in a message.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Bool => "true or false",
            Kind::Null => "null",
            Kind::Object => "an object",
            Kind::Array => "an array",
        }
    }
}

/// One `"key": value` of the top-level object.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The key.
    pub key: RawString<'a>,
    /// What the value is.
    pub kind: Kind,
    /// The value verbatim; of a string, what stands between the quotes.
    pub value: RawString<'a>,
    /// Key, colon and value verbatim.
    pub span: &'a str,
}

/// Validates `line` as one JSON object and gives its top-level fields to `visit`, in order (of equal keys, all).
/// Nothing visited counts before the whole line is found valid.
pub fn each_field<'a>(
    line: &'a str,
    monitor: &'a Monitor,
    mut visit: impl FnMut(Field<'a>) -> Result<()>,
) -> Result<()> {
    let mut cursor = Cursor {
        text: line,
        bytes: line.as_bytes(),
        at: 0,
        check_at: CHECK_BYTES,
        monitor,
    };
    cursor.skip_blanks();
    if cursor.peek() != Some(b'{') {
        return Err(match cursor.peek() {
            Some(_) => cursor.wrong("expected '{': each line is one JSON object"),
            None => cursor.wrong("the line ends before its value"),
        });
    }
    cursor.at += 1;
    cursor.skip_blanks();
    if cursor.peek() == Some(b'}') {
        cursor.at += 1;
    } else {
        loop {
            let start = cursor.at;
            let key = cursor.key()?;
            let from = cursor.at;
            let (kind, escaped) = cursor.value()?;
            let value = &line[from..cursor.at];
            let raw = if kind == Kind::String {
                &value[1..value.len() - 1]
            } else {
                value
            };
            visit(Field {
                key,
                kind,
                value: RawString { raw, escaped },
                span: &line[start..cursor.at],
            })?;
            cursor.skip_blanks();
            match cursor.peek() {
                Some(b',') => {
                    cursor.at += 1;
                    cursor.skip_blanks();
                }
                Some(b'}') => {
                    cursor.at += 1;
                    break;
                }
                _ => return Err(cursor.wrong("expected ',' or '}'")),
            }
        }
    }
    cursor.skip_blanks();
    if cursor.at < cursor.bytes.len() {
        return Err(cursor.wrong("more follows the object: each line is one JSON object"));
    }
    Ok(())
}

struct Cursor<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Where to look at the stop token next.
    check_at: usize,
    monitor: &'a Monitor,
}

impl<'a> Cursor<'a> {
    fn wrong(&self, what: &str) -> Error {
        Error::format(format!(
            "not valid JSON: {what} (byte {} of the line)",
            self.at + 1
        ))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Looks at the stop token now and then.
    fn tick(&mut self) -> Result<()> {
        if self.at >= self.check_at {
            self.monitor.check()?;
            self.check_at = self.at + CHECK_BYTES;
        }
        Ok(())
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// A key, its colon, and the blanks before the value.
    fn key(&mut self) -> Result<RawString<'a>> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("expected a key in double quotes"));
        }
        let from = self.at + 1;
        let escaped = self.string()?;
        let raw = &self.text[from..self.at - 1];
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.wrong("expected ':'"));
        }
        self.at += 1;
        self.skip_blanks();
        Ok(RawString { raw, escaped })
    }

    /// Passes the value that begins here; gives its kind, and whether it is a string with escapes.
    fn value(&mut self) -> Result<(Kind, bool)> {
        let kind = match self.peek() {
            Some(b'"') => return Ok((Kind::String, self.string()?)),
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            _ => return Ok((self.scalar()?, false)),
        };
        // The object around it is level 1; bit 0 of `objects` is the innermost of the other levels.
        let (mut objects, mut depth) = (0u128, 1usize);
        loop {
            // At the start of a value.
            self.tick()?;
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    depth += 1;
                    if depth > limits::MAX_JSON_DEPTH {
                        let limit = limits::MAX_JSON_DEPTH as u64;
                        let hint = "flatten the record, or leave the nested field out";
                        return Err(Error::limit("depth of nested JSON", depth as u64, limit, hint));
                    }
                    objects = objects << 1 | u128::from(open == b'{');
                    self.at += 1;
                    self.skip_blanks();
                    if self.peek() != Some(if open == b'{' { b'}' } else { b']' }) {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                    // An empty container: its end is met below.
                }
                Some(b'"') => {
                    self.string()?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            // Behind a value.
            loop {
                self.skip_blanks();
                let in_object = objects & 1 == 1;
                match self.peek() {
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    Some(b',') => {
                        self.at += 1;
                        self.skip_blanks();
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    _ => {
                        return Err(self.wrong(if in_object {
                            "expected ',' or '}'"
                        } else {
                            "expected ',' or ']'"
                        }));
                    }
                }
                self.at += 1;
                objects >>= 1;
                depth -= 1;
                if depth == 1 {
                    return Ok((kind, false));
                }
            }
        }
    }

    /// Passes a string, at its opening quote; says whether it holds escapes.
    fn string(&mut self) -> Result<bool> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.tick()?;
            let block = &self.bytes[self.at..self.bytes.len().min(self.at + CHECK_BYTES)];
            self.at += plain_length(block);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    match self.bytes.get(self.at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                        Some(b'u') if hex4(&self.bytes[self.at + 2..]).is_some() => self.at += 6,
                        _ => return Err(self.wrong("an unknown escape in a string")),
                    }
                }
                Some(0x20..) => {}
                Some(_) => return Err(self.wrong("a control character in a string, which must be escaped")),
                None => return Err(self.wrong("the line ends inside a string")),
            }
        }
    }

    fn scalar(&mut self) -> Result<Kind> {
        let rest = &self.bytes[self.at..];
        for (word, kind) in [("true", Kind::Bool), ("false", Kind::Bool), ("null", Kind::Null)] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(kind);
            }
        }
        match rest.first() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'N' | b'I') => Err(self.wrong("NaN and Infinity are not JSON")),
            Some(_) => Err(self.wrong("expected a value")),
            None => Err(self.wrong("the line ends before its value")),
        }
    }

    fn number(&mut self) -> Result<Kind> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<()> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from {
            Err(self.wrong("expected a digit"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
