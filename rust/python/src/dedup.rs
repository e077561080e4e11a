//! Deduplication.

use crate::border::{self, Count, Real, Text};
use crate::buffers::{Buffer, TextChunks, Words};
use biollm_core::{Error, Pool, limits};
use biollm_dedup::{Clusters, Copies, Keep, MinHash, Options, PieceUnit, Pieces, Shingling, Unit};
use biollm_text::Normalization;
use pyo3::prelude::*;

/// Cluster ids and representatives (int64, a row each); the pairs: a, b (int64), jaccard (float64); the histogram of
/// verified candidates (uint64, 20 bins); copies.
type Found = (Buffer, Buffer, Buffer, Buffer, Buffer, Buffer, u64);

/// Signs texts for `dedup_fuzzy`: bands + 3 values (uint64) a text. `progress(done, total)` counts texts.
#[pyfunction]
#[pyo3(signature = (
    texts, *, unit, ngram, num_perm, bands, seed, max_document_bytes=None, threads=None, progress=None
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
fn dedup_signatures(
    py: Python<'_>,
    texts: TextChunks,
    unit: Text<'_>,
    ngram: Count,
    num_perm: Count,
    bands: Count,
    seed: Count,
    max_document_bytes: Option<Count>,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Buffer> {
    let unit = unit.0.to_string();
    let signatures = border::run(py, progress, move |monitor| {
        let limit = document_limit(max_document_bytes)?;
        let shingling = Shingling::new(unit_by_name(&unit)?, ngram.size())?;
        let minhash = MinHash::new(num_perm.size(), bands.size(), seed.0)?;
        let pool = Pool::new(threads.map(Count::size))?;
        let texts = texts.texts(limit, &pool, monitor)?;
        biollm_dedup::dedup_signatures(&texts, shingling, &minhash, &pool, monitor)
    })?;
    Ok(signatures.into())
}

/// Clusters texts by MinHash LSH and exact verification. `signatures` are those of the first texts, where
/// `dedup_signatures` made them before, of a multiple of 128 texts each. `progress(done, total)` counts two units a
/// document.
#[pyfunction]
#[pyo3(signature = (
    texts, *, threshold, unit, ngram, num_perm, bands, seed, keep, signatures=None, max_document_bytes=None,
    threads=None, progress=None
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
fn dedup_fuzzy(
    py: Python<'_>,
    texts: TextChunks,
    threshold: Real,
    unit: Text<'_>,
    ngram: Count,
    num_perm: Count,
    bands: Count,
    seed: Count,
    keep: Text<'_>,
    signatures: Option<Words>,
    max_document_bytes: Option<Count>,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Found> {
    let (unit, keep) = (unit.0.to_string(), keep.0.to_string());
    let found = border::run(py, progress, move |monitor| {
        let limit = document_limit(max_document_bytes)?;
        let options = Options {
            shingling: Shingling::new(unit_by_name(&unit)?, ngram.size())?,
            threshold: threshold.0,
            num_perm: num_perm.size(),
            bands: bands.size(),
            seed: seed.0,
            keep: keep_by_name(&keep)?,
        };
        let pool = Pool::new(threads.map(Count::size))?;
        let texts = texts.texts(limit, &pool, monitor)?;
        let signed = match &signatures {
            Some(signatures) => signatures.slices("signatures")?,
            None => Vec::new(),
        };
        let Clusters {
            cluster,
            representative,
            pairs,
            copies,
            histogram,
        } = biollm_dedup::dedup_fuzzy(&texts, &signed, &options, &pool, monitor)?;
        let mut a = limits::with_capacity(pairs.len(), "pairs")?;
        let mut b = limits::with_capacity(pairs.len(), "pairs")?;
        let mut jaccard = limits::with_capacity(pairs.len(), "pairs")?;
        for pair in pairs {
            a.push(i64::from(pair.a));
            b.push(i64::from(pair.b));
            jaccard.push(pair.jaccard);
        }
        Ok((cluster, representative, a, b, jaccard, histogram.to_vec(), copies))
    })?;
    let (cluster, representative, a, b, jaccard, histogram, copies) = found;
    Ok((
        cluster.into(),
        representative.into(),
        a.into(),
        b.into(),
        jaccard.into(),
        histogram.into(),
        copies,
    ))
}

/// Cluster ids and representatives (int64, a row each); copies.
type Same = (Buffer, Buffer, u64);

/// Clusters texts that are equal: as they are, or once composed (`nfc`), in lower case (`case`), with single spaces
/// (`space`). `progress(done, total)` counts two units a document.
#[pyfunction]
#[pyo3(signature = (texts, *, nfc, case, space, keep, max_document_bytes=None, threads=None, progress=None))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
fn dedup_exact(
    py: Python<'_>,
    texts: TextChunks,
    nfc: bool,
    case: bool,
    space: bool,
    keep: Text<'_>,
    max_document_bytes: Option<Count>,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Same> {
    let keep = keep.0.to_string();
    let copies = border::run(py, progress, move |monitor| {
        let limit = document_limit(max_document_bytes)?;
        let keep = keep_by_name(&keep)?;
        let pool = Pool::new(threads.map(Count::size))?;
        let texts = texts.texts(limit, &pool, monitor)?;
        biollm_dedup::dedup_exact(&texts, Normalization { nfc, case, space }, keep, &pool, monitor)
    })?;
    Ok(same(copies))
}

/// Clusters texts whose URLs are equal once normalised; one with an empty URL is alone. `progress` as `dedup_exact`.
#[pyfunction]
#[pyo3(signature = (urls, texts, *, keep, max_document_bytes=None, threads=None, progress=None))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
fn dedup_url(
    py: Python<'_>,
    urls: TextChunks,
    texts: TextChunks,
    keep: Text<'_>,
    max_document_bytes: Option<Count>,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Same> {
    let keep = keep.0.to_string();
    let copies = border::run(py, progress, move |monitor| {
        let limit = document_limit(max_document_bytes)?;
        let keep = keep_by_name(&keep)?;
        let pool = Pool::new(threads.map(Count::size))?;
        let texts = texts.texts(limit, &pool, monitor)?;
        let urls = urls.texts(limit, &pool, monitor)?;
        biollm_dedup::dedup_url(&urls, &texts, keep, &pool, monitor)
    })?;
    Ok(same(copies))
}

/// Repeated pieces by (row, start): row, first byte, end, first row (int64 each); whether a row stays (uint8, one a row);
/// pieces looked at.
type Repeated = (Buffer, Buffer, Buffer, Buffer, Buffer, u64);

/// Finds the pieces of texts that an earlier text has. `progress(done, total)` counts two units a piece.
#[pyfunction]
#[pyo3(signature = (
    texts, *, unit, min_length, nfc, case, space, max_document_bytes=None, threads=None, progress=None
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
fn dedup_pieces(
    py: Python<'_>,
    texts: TextChunks,
    unit: Text<'_>,
    min_length: Count,
    nfc: bool,
    case: bool,
    space: bool,
    max_document_bytes: Option<Count>,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Repeated> {
    let unit = unit.0.to_string();
    let found = border::run(py, progress, move |monitor| {
        let limit = document_limit(max_document_bytes)?;
        let unit = match unit.as_str() {
            "line" => PieceUnit::Line,
            "paragraph" => PieceUnit::Paragraph,
            "sentence" => PieceUnit::Sentence,
            _ => {
                let message = format!("unit is {unit:?}: give \"line\", \"paragraph\" or \"sentence\"");
                return Err(Error::input("unit", message));
            }
        };
        let pool = Pool::new(threads.map(Count::size))?;
        let texts = texts.texts(limit, &pool, monitor)?;
        let options = Pieces {
            unit,
            min_length: min_length.size(),
            normalization: Normalization { nfc, case, space },
        };
        biollm_dedup::dedup_pieces(&texts, options, &pool, monitor)
    })?;
    Ok((
        found.row.into(),
        found.start.into(),
        found.end.into(),
        found.first_row.into(),
        found.keep.into(),
        found.pieces,
    ))
}

fn same(copies: Copies) -> Same {
    (copies.cluster.into(), copies.representative.into(), copies.copies)
}

fn document_limit(max_document_bytes: Option<Count>) -> biollm_core::Result<usize> {
    let limit = max_document_bytes.map_or(limits::MAX_DOCUMENT_BYTES as u64, |n| n.0);
    let ceiling = limits::MAX_DOCUMENT_BYTES_CEILING;
    if limit > ceiling as u64 {
        let hint = "give less, or None for the default";
        return Err(Error::limit("max_document_bytes", limit, ceiling as u64, hint));
    }
    Ok(limit as usize)
}

fn unit_by_name(name: &str) -> biollm_core::Result<Unit> {
    match name {
        "word" => Ok(Unit::Word),
        "alnum" => Ok(Unit::Alphanumeric),
        _ => Err(Error::input(
            "shingle",
            format!("a shingle of {name:?}: give \"word\" or \"alnum\""),
        )),
    }
}

fn keep_by_name(name: &str) -> biollm_core::Result<Keep> {
    match name {
        "first" => Ok(Keep::First),
        "longest" => Ok(Keep::Longest),
        "shortest" => Ok(Keep::Shortest),
        _ => Err(Error::input(
            "keep",
            format!("keep is {name:?}: give \"first\", \"longest\" or \"shortest\""),
        )),
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(dedup_signatures, module)?)?;
    module.add_function(wrap_pyfunction!(dedup_fuzzy, module)?)?;
    module.add_function(wrap_pyfunction!(dedup_exact, module)?)?;
    module.add_function(wrap_pyfunction!(dedup_url, module)?)?;
    module.add_function(wrap_pyfunction!(dedup_pieces, module)?)
}
