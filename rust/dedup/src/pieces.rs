//! Lines, paragraphs and sentences that an earlier document has: all but those of the first document are to be cut.

use crate::whole::{Keys, first_rows};
use biollm_core::{Error, Monitor, Pool, Result, limits};
use biollm_text::{Normalization, Normalizer, Texts};
use unicode_segmentation::UnicodeSegmentation;

/// Documents split by one task.
const GRAIN: usize = 256;

/// Pieces between two looks at the monitor.
const CHECK_PIECES: usize = 1 << 10;

/// The longest sentence; a longer one comes in parts. What the segmentation looks ahead is bounded so too, since it may
/// look as far for each character.
const MAX_SENTENCE_BYTES: usize = 1 << 12;

/// What documents are cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// What a line feed ends.
    Line,
    /// Lines that hold more than white space, and the blank ones behind them.
    Paragraph,
    /// The segments of UAX 29.
    Sentence,
}

/// Which pieces are looked at, and how they are compared; white space at their ends never counts.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// What documents are cut into.
    pub unit: Unit,
    /// The fewest characters of a piece, without white space at its ends; shorter ones always stay. None is empty.
    pub min_length: usize,
    /// What is done to a piece before it is compared.
    pub normalization: Normalization,
}

/// Repeated pieces by (row, start), and what they leave.
#[derive(Default)]
pub struct Repeats {
    /// The row of each.
    pub row: Vec<i64>,
    /// Its first byte.
    pub start: Vec<i64>,
    /// The byte behind it and what separates it from the next one.
    pub end: Vec<i64>,
    /// The row that has it first.
    pub first_row: Vec<i64>,
    /// For each document 1 if it stays: 0 where something is cut and only white space is left.
    pub keep: Vec<u8>,
    /// Pieces looked at.
    pub pieces: u64,
}

/// A piece: its row, where it begins and ends without white space, and where the next one begins.
#[derive(Clone, Copy)]
struct Piece {
    row: u32,
    start: u32,
    end: u32,
    from: u32,
    next: u32,
}

/// Finds the pieces that an earlier document has. Within the first document that has a piece it may be repeated. The
/// result does not depend on the number of threads. Progress counts two units a piece.
pub fn dedup_pieces(texts: &Texts<'_>, options: Pieces, pool: &Pool, monitor: &Monitor) -> Result<Repeats> {
    let parts = pool.map_chunks(texts.len(), GRAIN, monitor, |rows| {
        let mut pieces = Vec::new();
        for row in rows {
            split(texts.get(row), row, options, &mut pieces, monitor)?;
        }
        Ok(pieces)
    })?;
    let count = parts.iter().map(Vec::len).sum();
    if count > limits::MAX_ROWS {
        let hint = "raise min_length, or split the input";
        return Err(Error::limit(
            "pieces of documents",
            count as u64,
            limits::MAX_ROWS as u64,
            hint,
        ));
    }
    let mut pieces = limits::with_capacity(count, "pieces of documents")?;
    for part in parts {
        pieces.extend(part);
    }
    let keys = PieceKeys {
        texts,
        pieces: &pieces,
        normalization: options.normalization,
    };
    let first = first_rows(&keys, count, pool, monitor)?;
    let mut repeats = Repeats {
        keep: limits::filled(texts.len(), 1, "kept documents")?,
        pieces: count as u64,
        ..Repeats::default()
    };
    let mut i = 0;
    while i < count {
        monitor.check()?;
        let row = pieces[i].row;
        let text = texts.get(row as usize);
        let (mut cut_to, mut cut, mut left) = (0, false, false);
        while i < count && pieces[i].row == row {
            let piece = pieces[i];
            let first_row = pieces[first[i] as usize].row;
            if first_row != row {
                left = left || !text[cut_to..piece.from as usize].trim().is_empty();
                (cut, cut_to) = (true, piece.next as usize);
                for (column, value) in [
                    (&mut repeats.row, row),
                    (&mut repeats.start, piece.from),
                    (&mut repeats.end, piece.next),
                    (&mut repeats.first_row, first_row),
                ] {
                    limits::reserve(column, 1, "repeated pieces")?;
                    column.push(i64::from(value));
                }
            }
            i += 1;
        }
        if cut && !left && text[cut_to..].trim().is_empty() {
            repeats.keep[row as usize] = 0;
        }
    }
    Ok(repeats)
}

struct PieceKeys<'a> {
    texts: &'a Texts<'a>,
    pieces: &'a [Piece],
    normalization: Normalization,
}

impl PieceKeys<'_> {
    fn text(&self, i: usize) -> &str {
        let piece = self.pieces[i];
        &self.texts.get(piece.row as usize)[piece.start as usize..piece.end as usize]
    }
}

impl Keys for PieceKeys<'_> {
    type Scratch = Normalizer;

    fn key<'a>(
        &'a self,
        i: usize,
        scratch: &'a mut Normalizer,
        monitor: &Monitor,
    ) -> Result<Option<&'a [u8]>> {
        scratch
            .normalize(self.text(i), self.normalization, monitor)
            .map(Some)
    }

    fn source(&self, i: usize) -> &[u8] {
        self.text(i).as_bytes()
    }
}

/// Adds the pieces of a text that are long enough.
fn split(text: &str, row: usize, options: Pieces, pieces: &mut Vec<Piece>, monitor: &Monitor) -> Result<()> {
    let (mut from, mut count) = (0, 0);
    while from < text.len() {
        if count % CHECK_PIECES == 0 {
            monitor.check()?;
        }
        count += 1;
        let rest = &text[from..];
        let length = match options.unit {
            Unit::Line => line(rest),
            Unit::Paragraph => paragraph(rest, monitor)?,
            Unit::Sentence => sentence(rest),
        };
        let piece = &rest[..length];
        let start = from + (length - piece.trim_start().len());
        let content = piece.trim();
        if content.len() >= options.min_length.max(1)
            && content.chars().take(options.min_length).count() >= options.min_length
        {
            limits::reserve(pieces, 1, "pieces of documents")?;
            pieces.push(Piece {
                row: row as u32,
                start: start as u32,
                end: (start + content.len()) as u32,
                from: from as u32,
                next: (from + length) as u32,
            });
        }
        from += length;
    }
    Ok(())
}

/// The bytes of the first line, with its line feed.
fn line(text: &str) -> usize {
    memchr::memchr(b'\n', text.as_bytes()).map_or(text.len(), |at| at + 1)
}

/// The bytes of the first paragraph, with the blank lines behind it; blank lines before it are a part of it.
fn paragraph(text: &str, monitor: &Monitor) -> Result<usize> {
    let (mut at, mut begun, mut ended) = (0, false, false);
    let mut lines = 0usize;
    while at < text.len() {
        if lines.is_multiple_of(CHECK_PIECES) {
            monitor.check()?;
        }
        lines += 1;
        let length = line(&text[at..]);
        let blank = text[at..at + length].trim().is_empty();
        if !blank && ended {
            break;
        }
        begun |= !blank;
        ended |= begun && blank;
        at += length;
    }
    Ok(at)
}

/// The bytes of the first sentence, with the white space behind it.
fn sentence(text: &str) -> usize {
    let window = &text[..floor_char(text, 2 * MAX_SENTENCE_BYTES)];
    let sentence = window.split_sentence_bounds().next().unwrap_or(window);
    floor_char(sentence, MAX_SENTENCE_BYTES)
}

/// The largest character boundary of `text` at or before `at`.
fn floor_char(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Normalization = Normalization {
        nfc: true,
        case: true,
        space: true,
    };

    fn repeats(
        rows: &[&str],
        unit: Unit,
        min_length: usize,
        threads: usize,
    ) -> (Vec<(i64, String, i64)>, Vec<u8>) {
        let (mut offsets, mut data) = (vec![0i64], Vec::new());
        for row in rows {
            data.extend_from_slice(row.as_bytes());
            offsets.push(data.len() as i64);
        }
        let pool = Pool::new(Some(threads)).unwrap();
        let texts = Texts::new([(&offsets[..], &data[..])], 1 << 20, &pool, &Monitor::new()).unwrap();
        let options = Pieces {
            unit,
            min_length,
            normalization: ALL,
        };
        let found = dedup_pieces(&texts, options, &pool, &Monitor::new()).unwrap();
        let spans = found
            .row
            .iter()
            .zip(&found.start)
            .zip(&found.end)
            .zip(&found.first_row);
        let cut =
            |row: i64, start: i64, end: i64| rows[row as usize][start as usize..end as usize].to_string();
        (
            spans
                .map(|(((&row, &start), &end), &first)| (row, cut(row, start, end), first))
                .collect(),
            found.keep,
        )
    }

    fn cut(row: i64, text: &str, first: i64) -> (i64, String, i64) {
        (row, text.to_string(), first)
    }

    #[test]
    fn lines() {
        let rows = [
            "Menu\nA b\nmenu\n",
            "x\n  MENU \r\n\n",
            "menu\n",
            "\n",
            "a",
            "a  B\nmenu",
            "",
        ];
        let (spans, keep) = repeats(&rows, Unit::Line, 3, 2);
        let want = [
            cut(1, "  MENU \r\n", 0),
            cut(2, "menu\n", 0),
            cut(5, "a  B\n", 0),
            cut(5, "menu", 0),
        ];
        assert_eq!(spans, want);
        assert_eq!(keep, [1, 1, 0, 1, 1, 0, 1]);
        assert!(repeats(&rows, Unit::Line, 5, 1).0.is_empty());
    }

    #[test]
    fn paragraphs() {
        let rows = [
            "one\ntwo\n\n \nthree",
            "three\n\none\n two",
            "\n\nthree\n\n\nfour\n",
            "one",
        ];
        let (spans, keep) = repeats(&rows, Unit::Paragraph, 1, 1);
        assert_eq!(
            spans,
            [
                cut(1, "three\n\n", 0),
                cut(1, "one\n two", 0),
                cut(2, "\n\nthree\n\n\n", 0)
            ]
        );
        assert_eq!(keep, [1, 0, 1, 1]);
    }

    #[test]
    fn sentences() {
        let rows = [
            "It is so. 입원하였다. Dr. Who?  Yes!",
            "Well. It is  SO.",
            "입원하였다. Dr. Who?",
        ];
        let (spans, keep) = repeats(&rows, Unit::Sentence, 3, 1);
        assert_eq!(spans[0], cut(1, "It is  SO.", 0));
        assert_eq!(spans[1], cut(2, "입원하였다. ", 0));
        assert_eq!(keep, [1, 1, 0]);
    }

    #[test]
    fn long_sentences_come_in_parts_of_whole_characters() {
        for unit in ["한", ".)", "a", ". ", "\u{301}"] {
            let text = unit.repeat(20_000);
            let (spans, keep) = repeats(&[&text, &text], Unit::Sentence, 1, 2);
            let whole: String = spans.iter().map(|(_, piece, _)| piece.as_str()).collect();
            assert_eq!(whole, text);
            assert_eq!(keep, [1, 0]);
            assert!(
                spans
                    .iter()
                    .all(|(row, piece, _)| *row == 1 && piece.len() <= MAX_SENTENCE_BYTES)
            );
        }
    }
}
