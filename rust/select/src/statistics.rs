//! The statistics, document by document, and as columns.
//!
//! Definitions are those of datatrove 0.10 (Gopher, arXiv 2112.11446, section A1.1 and table A1), with these
//! differences. Words are the segments of UAX #29 (spaCy's English tokens there), blank ones dropped, marks of
//! punctuation kept: "..." is three of them. A letter is a character with the Unicode property Alphabetic
//! (`str.isalpha` there, which leaves out combining vowels and letter-like numbers). Repeated 5- to 10-grams are
//! equal word by word (there: once joined without blanks). A ratio whose denominator is 0 is 0.

use crate::characters::{count, is_punctuation, is_space};
use crate::interner::Interner;
use crate::lines::{line_ends, repeats};
use crate::repeats::RepeatedNgrams;
use biollm_core::{Monitor, Pool, Result, limits};
use biollm_text::{Texts, words};
use std::sync::{Mutex, PoisonError};

/// Documents of one task.
const GRAIN: usize = 32;

/// Of which the rule on stop words wants two; upper case does not count.
const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

/// Which statistics to measure; `characters` always is.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// Words, symbols and line ends.
    pub quality: bool,
    /// Repeated lines, paragraphs and n-grams.
    pub repetition: bool,
}

/// The number of code points.
const CHARACTERS: usize = 1;
const COMMON_NAMES: [&str; CHARACTERS] = ["characters"];

const QUALITY_COUNT: usize = 3;
/// All segments; those not made of punctuation alone; distinct stop words.
const QUALITY_COUNT_NAMES: [&str; QUALITY_COUNT] = ["segments", "words", "stop_words"];

const QUALITY: usize = 6;
const QUALITY_NAMES: [&str; QUALITY] = [
    "mean_word_length",
    "hash_ratio",
    "ellipsis_ratio",
    "bullet_line_fraction",
    "ellipsis_line_fraction",
    "alphabetic_fraction",
];

const REPETITION: usize = 13;
const REPETITION_NAMES: [&str; REPETITION] = [
    "duplicate_paragraph_fraction",
    "duplicate_paragraph_character_fraction",
    "duplicate_line_fraction",
    "duplicate_line_character_fraction",
    "top_2_gram_character_fraction",
    "top_3_gram_character_fraction",
    "top_4_gram_character_fraction",
    "duplicate_5_gram_character_fraction",
    "duplicate_6_gram_character_fraction",
    "duplicate_7_gram_character_fraction",
    "duplicate_8_gram_character_fraction",
    "duplicate_9_gram_character_fraction",
    "duplicate_10_gram_character_fraction",
];

/// One statistic of all documents, in their order.
#[derive(Debug, PartialEq)]
pub enum Column {
    /// A count.
    Counts(&'static str, Vec<i64>),
    /// A mean, ratio or fraction.
    Ratios(&'static str, Vec<f64>),
}

/// The statistics of one document.
#[derive(Default)]
struct Document {
    characters: [i64; CHARACTERS],
    quality_counts: [i64; QUALITY_COUNT],
    quality: [f64; QUALITY],
    repetition: [f64; REPETITION],
}

/// Measures every text; one column a statistic, in the order of the names above.
pub fn measure(texts: &Texts<'_>, groups: Groups, pool: &Pool, monitor: &Monitor) -> Result<Vec<Column>> {
    monitor.set_total(texts.len() as u64);
    let idle: Mutex<Vec<Workspace<'_>>> = Mutex::new(Vec::new());
    let chunks = pool.map_chunks(texts.len(), GRAIN, monitor, |rows| {
        let free = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut workspace = free.unwrap_or_else(Workspace::new);
        let mut documents = limits::with_capacity(rows.len(), "statistics of documents")?;
        for row in rows {
            documents.push(workspace.measure(texts.get(row), groups, monitor)?);
            monitor.advance(1);
        }
        idle.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(workspace);
        Ok(documents)
    })?;

    let mut columns = Vec::new();
    let all = || chunks.iter().flatten();
    let mut counts = |name, value: &dyn Fn(&Document) -> i64| -> Result<()> {
        let mut column = limits::with_capacity(texts.len(), "a column of statistics")?;
        column.extend(all().map(value));
        columns.push(Column::Counts(name, column));
        Ok(())
    };
    for (i, name) in COMMON_NAMES.into_iter().enumerate() {
        counts(name, &|d| d.characters[i])?;
    }
    if groups.quality {
        for (i, name) in QUALITY_COUNT_NAMES.into_iter().enumerate() {
            counts(name, &|d| d.quality_counts[i])?;
        }
    }
    let mut ratios = |name, value: &dyn Fn(&Document) -> f64| -> Result<()> {
        let mut column = limits::with_capacity(texts.len(), "a column of statistics")?;
        column.extend(all().map(value));
        columns.push(Column::Ratios(name, column));
        Ok(())
    };
    if groups.quality {
        for (i, name) in QUALITY_NAMES.into_iter().enumerate() {
            ratios(name, &|d| d.quality[i])?;
        }
    }
    if groups.repetition {
        for (i, name) in REPETITION_NAMES.into_iter().enumerate() {
            ratios(name, &|d| d.repetition[i])?;
        }
    }
    Ok(columns)
}

/// What one thread works with, kept from document to document.
struct Workspace<'a> {
    seen: Interner<'a>,
    /// The segments as numbers.
    segments: Vec<u32>,
    /// Of each distinct segment: how often it occurs, and what it is.
    counts: Vec<u32>,
    /// Its characters.
    lengths: Vec<u32>,
    kinds: Vec<Kind>,
    ngrams: RepeatedNgrams,
}

/// What a segment is.
#[derive(Clone, Copy)]
struct Kind {
    /// Not made of punctuation alone.
    word: bool,
    /// Holds a letter.
    alphabetic: bool,
    stop_word: bool,
}

impl Kind {
    fn of(segment: &str) -> Self {
        Self {
            word: !segment.chars().all(is_punctuation),
            alphabetic: segment.chars().any(char::is_alphabetic),
            stop_word: STOP_WORDS.contains(&segment),
        }
    }
}

impl<'a> Workspace<'a> {
    fn new() -> Self {
        Self {
            seen: Interner::new(),
            segments: Vec::new(),
            counts: Vec::new(),
            lengths: Vec::new(),
            kinds: Vec::new(),
            ngrams: RepeatedNgrams::default(),
        }
    }

    fn measure(&mut self, text: &'a str, groups: Groups, monitor: &'a Monitor) -> Result<Document> {
        let mut document = Document::default();
        let characters = count(text);
        document.characters = [characters as i64];
        if groups.repetition {
            self.measure_pieces(text, characters, &mut document.repetition, monitor)?;
        }
        self.number_segments(text, monitor)?;
        if groups.quality {
            self.measure_quality(text, &mut document, monitor)?;
        }
        if groups.repetition {
            self.measure_ngrams(characters, &mut document.repetition, monitor)?;
        }
        Ok(document)
    }

    fn measure_pieces(
        &mut self,
        text: &'a str,
        characters: u64,
        repetition: &mut [f64; REPETITION],
        monitor: &Monitor,
    ) -> Result<()> {
        let paragraphs = repeats(text.trim_matches(is_space), 2, &mut self.seen, monitor)?;
        let lines = repeats(text, 1, &mut self.seen, monitor)?;
        repetition[..4].copy_from_slice(&[
            ratio(paragraphs.repeated, paragraphs.pieces),
            ratio(paragraphs.repeated_characters, characters),
            ratio(lines.repeated, lines.pieces),
            ratio(lines.repeated_characters, characters),
        ]);
        Ok(())
    }

    fn number_segments(&mut self, text: &'a str, monitor: &'a Monitor) -> Result<()> {
        self.seen.clear()?;
        self.segments.clear();
        self.counts.clear();
        self.lengths.clear();
        self.kinds.clear();
        let mut all = words(text).watched(monitor);
        while let Some((_, segment, is_word)) = all.next_segment() {
            // Most words are ASCII at both ends; others may begin or end in a space that joins words (U+202F).
            let bare = is_word
                && segment
                    .as_bytes()
                    .iter()
                    .take(1)
                    .chain(segment.as_bytes().last())
                    .all(u8::is_ascii);
            let segment = if bare {
                segment
            } else {
                segment.trim_matches(is_space)
            };
            if segment.is_empty() {
                continue;
            }
            let number = self.seen.intern(segment)?;
            if self.segments.len() == self.segments.capacity() {
                limits::reserve(&mut self.segments, 1, "words of a document")?;
            }
            self.segments.push(number);
            match self.counts.get_mut(number as usize) {
                Some(count) => *count += 1,
                None => {
                    self.counts.push(1);
                    self.lengths.push(count(segment) as u32);
                    self.kinds.push(Kind::of(segment));
                }
            }
        }
        monitor.check()
    }

    fn measure_quality(&mut self, text: &str, document: &mut Document, monitor: &Monitor) -> Result<()> {
        let (mut words, mut word_characters, mut alphabetic, mut stop_words) = (0u64, 0u64, 0u64, 0i64);
        for ((kind, &count), &length) in self.kinds.iter().zip(&self.counts).zip(&self.lengths) {
            let count = u64::from(count);
            if kind.word {
                words += count;
                word_characters += count * u64::from(length);
            }
            alphabetic += if kind.alphabetic { count } else { 0 };
            stop_words += i64::from(kind.stop_word);
        }
        monitor.check()?;
        let segments = self.segments.len() as u64;
        let hashes = memchr::memchr_iter(b'#', text.as_bytes()).count() as u64;
        let dots = memchr::memmem::find_iter(text.as_bytes(), b"...").count() as u64;
        let ellipses = memchr::memmem::find_iter(text.as_bytes(), "…").count() as u64;
        let ends = line_ends(text, monitor)?;
        document.quality_counts = [segments as i64, words as i64, stop_words];
        document.quality = [
            ratio(word_characters, words),
            ratio(hashes, segments),
            ratio(dots + ellipses, segments),
            ratio(ends.bullets, ends.lines),
            ratio(ends.ellipses, ends.lines),
            ratio(alphabetic, segments),
        ];
        Ok(())
    }

    fn measure_ngrams(
        &mut self,
        characters: u64,
        repetition: &mut [f64; REPETITION],
        monitor: &Monitor,
    ) -> Result<()> {
        self.ngrams.begin(&self.segments, &self.counts, monitor)?;
        for (n, statistic) in (2..).zip(&mut repetition[4..]) {
            self.ngrams.advance(&self.segments, monitor)?;
            let repeated = if n <= 4 {
                self.ngrams.top_characters(&self.segments, &self.lengths)
            } else {
                self.ngrams
                    .duplicate_characters(&self.segments, &self.lengths, monitor)?
            };
            *statistic = ratio(repeated, characters);
        }
        Ok(())
    }
}

/// a / b as Python divides integers below 2^53; 0 where b is 0.
fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Groups = Groups {
        quality: true,
        repetition: true,
    };

    fn columns(texts: &[&str], groups: Groups, threads: usize) -> Vec<Column> {
        let mut offsets = vec![0i64];
        for text in texts {
            offsets.push(offsets[offsets.len() - 1] + text.len() as i64);
        }
        let data = texts.concat();
        let (pool, monitor) = (Pool::new(Some(threads)).unwrap(), Monitor::new());
        let parts = [(offsets.as_slice(), data.as_bytes())];
        let texts = Texts::new(parts, limits::MAX_DOCUMENT_BYTES, &pool, &monitor).unwrap();
        measure(&texts, groups, &pool, &monitor).unwrap()
    }

    fn value(text: &str, name: &str) -> f64 {
        let found = columns(&[text], ALL, 1)
            .into_iter()
            .find_map(|column| match column {
                Column::Counts(n, v) if n == name => Some(v[0] as f64),
                Column::Ratios(n, v) if n == name => Some(v[0]),
                _ => None,
            });
        found.unwrap()
    }

    #[test]
    fn quality_by_hand() {
        let text = "- The heart, of 3 mice # ...\nand naïve…\n";
        assert_eq!(value(text, "characters"), 40.0);
        // - The heart , of 3 mice # . . . and naïve …
        assert_eq!(value(text, "segments"), 14.0);
        assert_eq!(value(text, "words"), 7.0);
        assert_eq!(value(text, "mean_word_length"), 23.0 / 7.0);
        assert_eq!(value(text, "stop_words"), 2.0); // not The
        assert_eq!(value(text, "hash_ratio"), 1.0 / 14.0);
        assert_eq!(value(text, "ellipsis_ratio"), 2.0 / 14.0);
        assert_eq!(value(text, "bullet_line_fraction"), 0.5);
        assert_eq!(value(text, "ellipsis_line_fraction"), 1.0);
        assert_eq!(value(text, "alphabetic_fraction"), 6.0 / 14.0);
    }

    #[test]
    fn repetition_by_hand() {
        let text = "é b\né b\n\né b\n\nc";
        assert_eq!(value(text, "characters"), 15.0);
        assert_eq!(value(text, "duplicate_line_fraction"), 2.0 / 4.0);
        assert_eq!(value(text, "duplicate_line_character_fraction"), 6.0 / 15.0);
        assert_eq!(value(text, "duplicate_paragraph_fraction"), 0.0);
        assert_eq!(value(text, "top_2_gram_character_fraction"), 9.0 / 15.0); // "é b" three times
        assert_eq!(value(text, "top_3_gram_character_fraction"), 10.0 / 15.0); // "é b é" twice
        assert_eq!(
            value(
                "a b c d e ".repeat(3).trim(),
                "duplicate_5_gram_character_fraction"
            ),
            10.0 / 29.0
        );
        assert_eq!(value("a\u{202f} a", "top_2_gram_character_fraction"), 3.0 / 4.0); // "a a"
        assert_eq!(value("a b c d e", "top_4_gram_character_fraction"), 7.0 / 9.0);
    }

    #[test]
    fn empty_and_blank_documents() {
        for text in ["", " ", "\n\n"] {
            for column in columns(&[text], ALL, 1) {
                match column {
                    Column::Counts("characters", v) => assert_eq!(v, [text.len() as i64]),
                    Column::Counts(_, v) => assert_eq!(v, [0]),
                    Column::Ratios("duplicate_line_fraction", v) => {
                        assert_eq!(v, [if text == "\n\n" { 0.5 } else { 0.0 }]);
                    }
                    Column::Ratios(_, v) => assert_eq!(v, [0.0]),
                }
            }
        }
        assert_eq!(
            columns(&[], ALL, 2).len(),
            1 + QUALITY_COUNT + QUALITY + REPETITION
        );
    }

    #[test]
    fn groups_and_threads() {
        let texts: Vec<String> = (0..500)
            .map(|i| "the cat sat on the mat. ".repeat(i % 37))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let all = columns(&texts, ALL, 1);
        assert_eq!(columns(&texts, ALL, 4), all);
        let quality = columns(
            &texts,
            Groups {
                quality: true,
                repetition: false,
            },
            1,
        );
        assert_eq!(quality, all[..1 + QUALITY_COUNT + QUALITY]);
        let repetition = columns(
            &texts,
            Groups {
                quality: false,
                repetition: true,
            },
            1,
        );
        assert_eq!(repetition[0], all[0]);
        assert_eq!(repetition[1..], all[1 + QUALITY_COUNT + QUALITY..]);
    }

    #[test]
    fn a_stopped_monitor_ends_a_long_document() {
        let text = "a b ".repeat(1 << 20);
        let monitor = Monitor::new();
        monitor.stop();
        assert!(Workspace::new().measure(&text, ALL, &monitor).is_err());
    }
}
