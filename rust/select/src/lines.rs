//! Statistics of lines and paragraphs.

use crate::characters::{count, is_space};
use crate::interner::Interner;
use biollm_core::{Monitor, Result};

/// Lines, or bytes of text, between two looks at the monitor.
const CHECK_EVERY: usize = 1 << 16;

/// What the rules ask of the ends of lines.
#[derive(Default, Debug, PartialEq)]
pub struct LineEnds {
    /// Lines as Python's `str.splitlines` cuts them.
    pub lines: u64,
    /// Those that begin with • or - behind white space.
    pub bullets: u64,
    /// Those that end in ... or … before white space.
    pub ellipses: u64,
}

/// Counts the lines that begin with a bullet or end in an ellipsis.
pub fn line_ends(text: &str, monitor: &Monitor) -> Result<LineEnds> {
    let mut ends = LineEnds::default();
    let mut rest = text;
    while !rest.is_empty() {
        if ends.lines.is_multiple_of(CHECK_EVERY as u64) {
            monitor.check()?;
        }
        let (end, behind) = line_end(rest.as_bytes());
        let line = &rest[..end];
        rest = &rest[behind..];
        ends.lines += 1;
        ends.bullets += u64::from(line.trim_start_matches(is_space).starts_with(['•', '-']));
        let line = line.trim_end_matches(is_space);
        ends.ellipses += u64::from(line.ends_with("...") || line.ends_with('…'));
    }
    Ok(ends)
}

/// Where the first line ends and the next one begins, as Python's `str.splitlines` has it.
fn line_end(bytes: &[u8]) -> (usize, usize) {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&b| MAY_END_A_LINE[b as usize]) {
        let end = from + at;
        let length = match bytes[end..] {
            [b'\r', b'\n', ..] => 2,
            [0xC2, 0x85, ..] => 2,                // U+0085 next line
            [0xE2, 0x80, 0xA8 | 0xA9, ..] => 3,   // U+2028 line separator, U+2029 paragraph separator
            [0x0A..=0x0D | 0x1C..=0x1E, ..] => 1, // line feed, tabulation, form feed, return; FS, GS, RS
            _ => 0,
        };
        if length > 0 {
            return (end, end + length);
        }
        from = end + 1;
    }
    (bytes.len(), bytes.len())
}

/// First bytes of what ends a line in `str.splitlines`.
static MAY_END_A_LINE: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = matches!(b, 0x0A..=0x0D | 0x1C..=0x1E | 0xC2 | 0xE2);
        b += 1;
    }
    table
};

/// Pieces of a text, and those of them that occurred before.
#[derive(Default, Debug, PartialEq)]
pub struct Repeats {
    /// All pieces.
    pub pieces: u64,
    /// Pieces equal to an earlier one.
    pub repeated: u64,
    /// The characters of these.
    pub repeated_characters: u64,
}

/// The repeats among the pieces between runs of at least `newlines` newlines (Python: `re.split("\n{newlines,}")`):
/// 1 for lines, 2 for paragraphs. A text that begins or ends with such a run has an empty piece there.
pub fn repeats<'a>(
    text: &'a str,
    newlines: usize,
    seen: &mut Interner<'a>,
    monitor: &Monitor,
) -> Result<Repeats> {
    let mut repeats = Repeats::default();
    let bytes = text.as_bytes();
    seen.clear()?;
    let (mut start, mut from) = (0, 0);
    loop {
        monitor.check()?;
        let run = memchr::memchr(b'\n', &bytes[from..]).map(|at| {
            let first = from + at;
            let behind = bytes[first..]
                .iter()
                .position(|&b| b != b'\n')
                .map_or(bytes.len(), |n| first + n);
            (first, behind)
        });
        let end = match run {
            Some((first, behind)) if behind - first < newlines => {
                from = behind;
                continue;
            }
            Some((first, _)) => first,
            None => bytes.len(),
        };
        let piece = &text[start..end];
        let distinct = seen.len();
        repeats.pieces += 1;
        if (seen.intern(piece)? as usize) < distinct {
            repeats.repeated += 1;
            repeats.repeated_characters += count(piece);
        }
        match run {
            Some((_, behind)) => (start, from) = (behind, behind),
            None => return Ok(repeats),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> (u64, u64, u64) {
        let e = line_ends(text, &Monitor::new()).unwrap();
        (e.lines, e.bullets, e.ellipses)
    }

    fn found(text: &str, newlines: usize) -> (u64, u64, u64) {
        let r = repeats(text, newlines, &mut Interner::new(), &Monitor::new()).unwrap();
        (r.pieces, r.repeated, r.repeated_characters)
    }

    #[test]
    fn lines_end_as_in_python() {
        assert_eq!(ends(""), (0, 0, 0));
        assert_eq!(ends("\n"), (1, 0, 0));
        assert_eq!(ends("a\n\nb"), (3, 0, 0));
        assert_eq!(ends("a\r\nb\rc\u{b}d\u{1c}e\u{85}f\u{2028}g\u{2029}"), (7, 0, 0));
        assert_eq!(ends("a\n\rb"), (3, 0, 0));
        assert_eq!(ends("\t - a\n•b...\u{3000}\nc \u{1f}-\n\u{1f}-…"), (4, 3, 2));
    }

    #[test]
    fn pieces_as_re_split_gives_them() {
        assert_eq!(found("", 1), (1, 0, 0));
        assert_eq!(found("a\na\n\n\na", 1), (3, 2, 2));
        assert_eq!(found("\na\n", 1), (3, 1, 0)); // "", "a", ""
        assert_eq!(found("é\né\n\né\né\n\n\nb", 2), (3, 1, 3));
        assert_eq!(found("\n\n\n", 2), (2, 1, 0));
        assert_eq!(found("a\n", 2), (1, 0, 0));
    }
}
