//! Statistics of texts for document filters.

use crate::border::{self, Count};
use crate::buffers::{Buffer, TextChunks};
use biollm_core::{Error, Pool, limits};
use biollm_select::{Column, Groups, measure};
use pyo3::prelude::*;

/// The statistics Gopher's quality and repetition rules look at: `(name, "int64" | "float64", values)` for each,
/// the values one a row. `progress(done, total)` counts documents.
#[pyfunction]
#[pyo3(signature = (texts, *, quality=true, repetition=true, max_document_bytes=None, threads=None, progress=None))]
fn gopher_statistics(
    py: Python<'_>,
    texts: TextChunks,
    quality: bool,
    repetition: bool,
    max_document_bytes: Option<Count>,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<(&'static str, &'static str, Buffer)>> {
    let columns = border::run(py, progress, move |monitor| {
        let limit = max_document_bytes.map_or(limits::MAX_DOCUMENT_BYTES as u64, |n| n.0);
        let ceiling = limits::MAX_DOCUMENT_BYTES_CEILING;
        if limit > ceiling as u64 {
            return Err(Error::limit(
                "max_document_bytes",
                limit,
                ceiling as u64,
                "give less, or None for the default",
            ));
        }
        let pool = Pool::new(threads.map(Count::size))?;
        let texts = texts.texts(limit as usize, &pool, monitor)?;
        measure(&texts, Groups { quality, repetition }, &pool, monitor)
    })?;
    let column = |column| match column {
        Column::Counts(name, values) => (name, "int64", Buffer::from(values)),
        Column::Ratios(name, values) => (name, "float64", Buffer::from(values)),
    };
    Ok(columns.into_iter().map(column).collect())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(gopher_statistics, module)?)
}
