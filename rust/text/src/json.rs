//! One line of JSON Lines: its top-level fields as spans of the line, all of it validated (RFC 8259), nothing
//! built. No recursion: nesting is a stack of bits, at most [`limits::MAX_JSON_DEPTH`] deep.
//!
//! What Python's `json.loads` takes, this takes, but for `NaN`, `Infinity` (not JSON) and deeper nesting.

use biollm_core::{Error, Monitor, Result, limits};

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

/// A string as it stands between its quotes.
#[derive(Clone, Copy, Debug)]
pub struct RawString<'a> {
    /// The characters, escapes among them.
    pub raw: &'a str,
    /// Whether there are escapes.
    pub escaped: bool,
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

impl RawString<'_> {
    /// Whether the string, unescaped, is `name`.
    pub fn is(&self, name: &str) -> bool {
        if !self.escaped {
            return self.raw == name;
        }
        let mut plain = Vec::new();
        // A key with a lone surrogate equals no name that is valid Unicode.
        self.unescape_into(&mut plain, &Monitor::new()).is_ok() && plain == name.as_bytes()
    }

    /// Appends the unescaped string to `out`, or says where a lone surrogate stands, which has no UTF-8 form.
    pub fn unescape_into(&self, out: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
        // Unescaping never lengthens: the shortest escape of a 3-byte character takes 6 bytes.
        limits::reserve(out, self.raw.len(), "a text")?;
        if !self.escaped {
            out.extend_from_slice(self.raw.as_bytes());
            return Ok(());
        }
        let bytes = self.raw.as_bytes();
        let (mut at, mut check_at) = (0, CHECK_BYTES);
        while let Some(skip) = memchr::memchr(b'\\', &bytes[at..]) {
            out.extend_from_slice(&bytes[at..at + skip]);
            at += skip + 2;
            if at >= check_at {
                monitor.check()?;
                check_at = at + CHECK_BYTES;
            }
            let plain = match bytes.get(at - 1) {
                Some(b'b') => 0x08,
                Some(b'f') => 0x0C,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'u') => {
                    let (character, length) = code_point(&bytes[at..]).ok_or_else(|| {
                        Error::format(format!("the escape at byte {} is half a surrogate pair", at - 1))
                    })?;
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    at += length;
                    continue;
                }
                Some(&itself) => itself,
                None => return Err(Error::Internal("an escape was not validated".into())),
            };
            out.push(plain);
        }
        out.extend_from_slice(&bytes[at..]);
        Ok(())
    }
}

/// The character whose `\u` has just been passed, and how many bytes its digits take (4, or 10 of a pair).
fn code_point(after: &[u8]) -> Option<(char, usize)> {
    let first = hex4(after)?;
    if !(0xD800..0xDC00).contains(&first) {
        return Some((char::from_u32(first)?, 4));
    }
    let rest = after.get(4..)?.strip_prefix(b"\\u")?;
    let second = hex4(rest)?.checked_sub(0xDC00).filter(|&low| low < 0x400)?;
    Some((char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + second)?, 10))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    let mut value = 0;
    for &digit in digits.first_chunk::<4>()? {
        value = value << 4 | char::from(digit).to_digit(16)?;
    }
    Some(value)
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

/// How many bytes come before the first quote, backslash or control character.
fn plain_length(bytes: &[u8]) -> usize {
    let special = |b: u8| b == b'"' || b == b'\\' || b < 0x20;
    let mut at = 0;
    // Whole blocks without a branch a byte: the compiler makes vector instructions of the inner fold.
    for block in bytes.chunks_exact(32) {
        if block.iter().fold(false, |any, &b| any | special(b)) {
            break;
        }
        at += 32;
    }
    at + bytes[at..]
        .iter()
        .position(|&b| special(b))
        .unwrap_or(bytes.len() - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Result<Vec<(String, Kind, String)>> {
        let mut all = Vec::new();
        each_field(line, &Monitor::new(), |f| {
            assert!(f.span.starts_with('"') && line.contains(f.span));
            all.push((f.key.raw.to_string(), f.kind, f.value.raw.to_string()));
            Ok(())
        })?;
        Ok(all)
    }

    fn unescaped(raw: &str) -> Result<String> {
        let mut out = Vec::new();
        RawString {
            raw,
            escaped: raw.contains('\\'),
        }
        .unescape_into(&mut out, &Monitor::new())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn fields_of_every_kind() {
        let line = r#" {"s":"a\"b" , "n":-1.5e+3,"t":true,"f" :false,"z":null,"o":{"a":[{}]},"l":[1,[2,"]"],{"b":"}"}]}
"#;
        let want = [
            ("s", Kind::String, r#"a\"b"#),
            ("n", Kind::Number, "-1.5e+3"),
            ("t", Kind::Bool, "true"),
            ("f", Kind::Bool, "false"),
            ("z", Kind::Null, "null"),
            ("o", Kind::Object, r#"{"a":[{}]}"#),
            ("l", Kind::Array, r#"[1,[2,"]"],{"b":"}"}]"#),
        ];
        let got = fields(line).unwrap();
        assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(want) {
            assert_eq!((g.0.as_str(), g.1, g.2.as_str()), w);
        }
        assert!(fields(" {} \r").unwrap().is_empty());
        assert!(fields("{ }").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        let bad = [
            "",
            " ",
            "[]",
            "1",
            "null",
            "\"a\"",
            "{",
            "{}{}",
            "{} x",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{'a':1}",
            "{a:1}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":-}",
            "{\"a\":1e}",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":-Infinity}",
            "{\"a\":tru}",
            "{\"a\":nul",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\t\"}",
            "{\"a\":\"\0\"}",
            "{\"a\":\"b}",
            "{\"a\":\"\\",
            "{\"a\":[}",
            "{\"a\":[1,]}",
            "{\"a\":[1 2]}",
            "{\"a\":{]}",
            "{\"a\":{\"b\":1]}",
            "{\"a\":[1}}",
            "{\"a\":1 \"b\":2}",
            "{\"a\":{,}}",
            "{\"a\":{\"b\"}}",
            "{\"a\":[,]}",
            "{\"a\":1}}",
            "{\"a\":\"\\u+123\"}",
            "\u{feff}{}",
            "{\"a\":1}\u{a0}",
        ];
        for line in bad {
            assert!(matches!(fields(line), Err(Error::Format { .. })), "{line:?}");
        }
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(fields(&nested(limits::MAX_JSON_DEPTH - 1)).is_ok());
        assert!(matches!(
            fields(&nested(limits::MAX_JSON_DEPTH)),
            Err(Error::Limit { .. })
        ));
        let objects = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
        assert!(fields(&objects(limits::MAX_JSON_DEPTH)).is_ok());
        assert!(matches!(
            fields(&objects(limits::MAX_JSON_DEPTH + 1)),
            Err(Error::Limit { .. })
        ));
        let bomb = format!("{{\"a\":{}", "[".repeat(10_000_000));
        assert!(matches!(fields(&bomb), Err(Error::Limit { .. })));
    }

    #[test]
    fn escapes() {
        let all = r#"\"\\\/\b\f\n\r\té\u00e9\u20AC\ud83e\uDDEC."#;
        assert_eq!(unescaped(all).unwrap(), "\"\\/\u{8}\u{c}\n\r\téé€🧬.");
        assert_eq!(unescaped("").unwrap(), "");
        assert_eq!(unescaped(r"\u0000").unwrap(), "\0");
        for lone in [
            r"\ud83e",
            r"\ud83ex",
            r"\ud83e\n",
            r"\ud83e\u0041",
            r"\uddec",
            r"\ud83e\ud83e\uddec",
        ] {
            assert!(matches!(unescaped(lone), Err(Error::Format { .. })), "{lone}");
        }
        let key = RawString {
            raw: r"t\u0065xt",
            escaped: true,
        };
        assert!(key.is("text") && !key.is("test"));
        assert!(
            !RawString {
                raw: r"\ud800",
                escaped: true
            }
            .is("x")
        );
    }

    #[test]
    fn a_stopped_monitor_ends_long_lines() {
        let monitor = Monitor::new();
        monitor.stop();
        for value in [
            format!("\"{}\"", "x".repeat(3 << 20)),
            format!("[{}0]", "0,".repeat(3 << 20)),
        ] {
            let r = each_field(&format!("{{\"a\":{value}}}"), &monitor, |_| Ok(()));
            assert!(matches!(r, Err(Error::Stopped)));
        }
        let escapes = "\\n".repeat(1 << 20);
        let r = RawString {
            raw: &escapes,
            escaped: true,
        }
        .unescape_into(&mut Vec::new(), &monitor);
        assert!(matches!(r, Err(Error::Stopped)));
    }

    #[test]
    fn long_strings_at_every_alignment() {
        for n in 0..100 {
            let text = "x".repeat(n);
            assert_eq!(fields(&format!("{{\"a\":\"{text}\"}}")).unwrap()[0].2, text);
            assert!(fields(&format!("{{\"a\":\"{text}\u{1f}\"}}")).is_err());
            assert_eq!(
                fields(&format!("{{\"a\":\"{text}\\\"é\"}}")).unwrap()[0].2,
                format!("{text}\\\"é")
            );
        }
    }
}
