//! Whole documents through [`XmlReader`].

mod damage;
mod jats;
mod pubmed;
mod tar;

use super::source::Source;
use super::*;
use crate::columns::{OptionalTexts, TextColumn};
use biollm_core::decode::Compression;
use biollm_core::{Error, Monitor, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug, Default, PartialEq, Eq)]
struct Row {
    id: String,
    text: String,
    source: String,
    title: String,
    year: Option<i32>,
    languages: Vec<String>,
    publication_types: Vec<String>,
    journal: Option<String>,
    pmid: Option<String>,
    pmc: Option<String>,
    doi: Option<String>,
    /// (title, what the range holds).
    sections: Vec<(String, String)>,
}

type Rows = (Vec<Row>, Vec<(u64, String)>);

fn strings(column: &TextColumn) -> Vec<String> {
    let rows = column.offsets.windows(2);
    rows.map(|w| String::from_utf8(column.data[w[0] as usize..w[1] as usize].to_vec()).unwrap())
        .collect()
}

fn optional(column: &OptionalTexts, row: usize) -> Option<String> {
    let text = strings(&column.texts)[row].clone();
    let valid = column.validity[row / 8] >> (row % 8) & 1 == 1;
    assert_eq!(valid, !text.is_empty());
    valid.then_some(text)
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn rows(batch: &XmlBatch) -> Vec<Row> {
    let (ids, texts, sources) = (strings(&batch.id), strings(&batch.text), strings(&batch.source));
    let (titles, section_titles) = (strings(&batch.title), strings(&batch.sections.titles));
    (0..batch.rows)
        .map(|i| Row {
            id: ids[i].clone(),
            text: texts[i].clone(),
            source: sources[i].clone(),
            title: titles[i].clone(),
            year: (batch.year.validity[i / 8] >> (i % 8) & 1 == 1).then(|| batch.year.values[i]),
            languages: strings(&batch.languages.items)[range(&batch.languages.offsets, i)].to_vec(),
            publication_types: strings(&batch.publication_types.items)
                [range(&batch.publication_types.offsets, i)]
            .to_vec(),
            journal: optional(&batch.journal, i),
            pmid: optional(&batch.pmid, i),
            pmc: optional(&batch.pmc, i),
            doi: optional(&batch.doi, i),
            sections: range(&batch.sections.offsets, i)
                .map(|at| {
                    let (start, end) = (
                        batch.sections.starts[at] as usize,
                        batch.sections.ends[at] as usize,
                    );
                    (section_titles[at].clone(), texts[i][start..end].to_string())
                })
                .collect(),
        })
        .collect()
}

fn drain(mut reader: XmlReader) -> Result<Rows> {
    let monitor = Monitor::new();
    let (mut out, mut rejected) = (Vec::new(), Vec::new());
    while let Some(batch) = reader.next_batch(&monitor)? {
        out.extend(rows(&batch));
        rejected.extend(batch.rejected.into_iter().map(|r| (r.line, r.reason)));
    }
    assert!(reader.ended());
    Ok((out, rejected))
}

fn with_pieces(xml: &[u8], piece: usize, options: &XmlOptions) -> Result<Rows> {
    let source = Source::Pieces(xml.to_vec(), piece);
    drain(XmlReader::new(source, Path::new("f.xml"), options.clone())?)
}

/// Reads a document in pieces of many sizes, which must all give the same.
fn read_with(xml: impl AsRef<[u8]>, options: &XmlOptions) -> Result<Rows> {
    let xml = xml.as_ref();
    let whole = with_pieces(xml, 1 << 20, options);
    if xml.len() < 20_000 {
        for piece in [1, 2, 3, 5, 7, 64] {
            let got = with_pieces(xml, piece, options);
            assert_eq!(shown(&got), shown(&whole), "in pieces of {piece}");
        }
    }
    whole
}

/// An outcome, but for how far over a limit something was when that was seen.
fn shown(outcome: &Result<Rows>) -> String {
    match outcome {
        Err(Error::Limit {
            what, limit, line, ..
        }) => format!("{what} {limit} {line:?}"),
        other => format!("{other:?}"),
    }
}

fn read(xml: impl AsRef<[u8]>) -> Result<Rows> {
    let mut options = XmlOptions::new();
    options.id_prefix = "f.xml:".into();
    read_with(xml, &options)
}

/// The one row of a document.
fn one(xml: impl AsRef<[u8]>) -> Row {
    let (mut rows, rejected) = read(xml).unwrap();
    assert!(rejected.is_empty() && rows.len() == 1, "{rows:?} {rejected:?}");
    rows.remove(0)
}

/// A file that is removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(data: &[u8]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("biollm-xml-{}-{number}.xml", std::process::id()));
        std::fs::write(&path, data).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn read_file(data: &[u8], options: &XmlOptions) -> Result<Rows> {
    let scratch = Scratch::new(data);
    drain(XmlReader::open(
        &scratch.0,
        Some(Path::new("f")),
        options.clone(),
    )?)
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn format_error(outcome: Result<Rows>) -> (String, u64) {
    match outcome {
        Err(Error::Format {
            message, path, line, ..
        }) => {
            assert!(path.is_some());
            (message, line.unwrap())
        }
        other => panic!("{other:?}"),
    }
}
