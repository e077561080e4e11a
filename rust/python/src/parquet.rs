//! What a Parquet file says of its sizes, before it is decoded.

use crate::border::{self, Count, FilePath};
use crate::buffers::Buffer;
use biollm_core::{Error, Monitor};
use biollm_read::parquet_pages::{self as headers, Chunk};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Longest footer, and longest dictionary page, in bytes: the ceiling of `max_document_bytes`.
const MAX_BYTES: usize = biollm_core::limits::MAX_DOCUMENT_BYTES_CEILING;

/// A page of so many bytes is walked in under a millisecond: not worth a thread.
const SHORT_BYTES: usize = 1 << 20;

/// (offset, bytes compressed, bytes uncompressed, values) of a dictionary page.
type Dictionary = (u64, u32, u32, u32);

/// The pages of column chunks, each (offset, length, values): of each its dictionary page (offset, bytes compressed,
/// bytes uncompressed, values) or None, and of its data pages four u32: bytes compressed, bytes uncompressed, values,
/// encoding. `progress(done, total)` counts chunks.
#[pyfunction]
#[pyo3(signature = (path, chunks, progress=None))]
fn parquet_pages(
    py: Python<'_>,
    path: FilePath,
    chunks: Vec<Bound<'_, PyTuple>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<(Option<Dictionary>, Buffer)>> {
    let chunks = chunks.iter().map(chunk).collect::<PyResult<Vec<Chunk>>>()?;
    let found = border::run(py, progress, move |monitor| {
        monitor.set_total(chunks.len() as u64);
        headers::pages(&path.0, &chunks, monitor)
    })?;
    let plain = |d: headers::Dictionary| (d.offset, d.compressed, d.uncompressed, d.values);
    Ok(found
        .into_iter()
        .map(|pages| (pages.dictionary.map(plain), Buffer::from(pages.data)))
        .collect())
}

fn chunk(place: &Bound<'_, PyTuple>) -> PyResult<Chunk> {
    if place.len() != 3 {
        return Err(PyTypeError::new_err("a chunk is (offset, length, values)"));
    }
    let number = |i: usize| place.get_item(i)?.extract::<Count>().map(|count| count.0);
    Ok(Chunk {
        offset: number(0)?,
        length: number(1)?,
        values: number(2)?,
    })
}

/// Of a footer's bytes: how many bytes a reader takes for it, about, and how deep groups nest in its schema.
#[pyfunction]
fn parquet_footer(py: Python<'_>, data: &[u8]) -> PyResult<(u64, u64)> {
    border::run(py, None, |monitor| {
        bounded(data)?;
        headers::footer(data, monitor).map(|footer| (footer.memory, footer.depth))
    })
}

/// Bytes of the longest of `values` byte arrays that lie plain in a decompressed page.
#[pyfunction]
fn parquet_longest_value(py: Python<'_>, data: &[u8], values: Count) -> PyResult<u64> {
    if data.len() <= SHORT_BYTES {
        return border::guard(py, || headers::longest_value(data, values.0, &Monitor::new()));
    }
    border::run(py, None, |monitor| {
        bounded(data)?;
        headers::longest_value(data, values.0, monitor)
    })
}

fn bounded(data: &[u8]) -> biollm_core::Result<()> {
    if data.len() > MAX_BYTES {
        return Err(Error::limit(
            "bytes",
            data.len() as u64,
            MAX_BYTES as u64,
            "this is no sound Parquet",
        ));
    }
    Ok(())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(parquet_pages, module)?)?;
    module.add_function(wrap_pyfunction!(parquet_footer, module)?)?;
    module.add_function(wrap_pyfunction!(parquet_longest_value, module)?)
}
