//! The reader of document files.

use crate::border::{self, Count, FilePath, Text};
use crate::buffers::Buffer;
use crate::exclusive::Exclusive;
use biollm_core::decode::Compression;
use biollm_core::{Monitor, limits};
use biollm_read::{Batch, Format, Options, Reader};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use std::path::Path;

/// (offsets, data) of a text column: int64 and UTF-8.
type Column = (Buffer, Buffer);

/// Rows; the columns id, text, source (with its validity bitmap) and meta; (line, reason) of what was passed over.
type Documents = (
    usize,
    Column,
    Column,
    (Buffer, Buffer, Buffer),
    Column,
    Vec<(u64, String)>,
);

/// Reads documents from one file (`path`), or from bytes that are pushed in (`path=None`; `name` stands for the file
/// in messages). Calls from two threads at once, and calls in a forked child, raise.
#[pyclass(frozen, module = "biollm._native")]
pub struct DocumentReader {
    reader: Exclusive<Reader>,
}

#[pymethods]
impl DocumentReader {
    #[new]
    #[pyo3(
        signature = (
            path, *, name=None, format=Text("jsonl"), compression=Text("none"), text, id=None, source=None,
            id_prefix=Text(""), max_document_bytes=None, skip=false
        ),
        text_signature = "(path, *, name=None, format='jsonl', compression='none', text, id=None, source=None, \
                          id_prefix='', max_document_bytes=None, skip=False)"
    )]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        path: Option<FilePath>,
        name: Option<FilePath>,
        format: Text<'_>,
        compression: Text<'_>,
        text: Vec<Bound<'_, PyAny>>,
        id: Option<Text<'_>>,
        source: Option<Text<'_>>,
        id_prefix: Text<'_>,
        max_document_bytes: Option<Count>,
        skip: bool,
    ) -> PyResult<Self> {
        let owned = |text: Text<'_>| text.0.to_string();
        let (format, compression, id_prefix) = (owned(format), owned(compression), owned(id_prefix));
        let (id, source) = (id.map(owned), source.map(owned));
        let text = text
            .iter()
            .map(|name| Ok(owned(name.extract()?)))
            .collect::<PyResult<Vec<String>>>()?;
        let reader = border::run(py, None, move |_| {
            let options = Options {
                format: Format::by_name(&format)?,
                compression: Compression::by_name(&compression)?,
                text,
                id,
                source,
                id_prefix,
                max_document_bytes: max_document_bytes.map_or(limits::MAX_DOCUMENT_BYTES, Count::size),
                skip,
            };
            match (path, name) {
                (Some(path), _) => Reader::open(&path.0, options),
                (None, Some(name)) => Reader::fed(&name.0, options),
                (None, None) => Reader::fed(Path::new("<stream>"), options),
            }
        })?;
        Ok(Self {
            reader: Exclusive::new("DocumentReader", reader),
        })
    }

    /// The next documents. `None` at the end, or where what was pushed does not yet fill a batch.
    /// `progress(done, total)` counts bytes of the file.
    #[pyo3(signature = (progress=None))]
    fn next_batch(&self, py: Python<'_>, progress: Option<Py<PyAny>>) -> PyResult<Option<Documents>> {
        let batch = border::run(py, progress, |monitor: &Monitor| {
            self.reader.lock()?.next_batch(monitor)
        })?;
        Ok(batch.map(columns))
    }

    /// Hands over the next bytes of the stream as they are (compressed, if it is), at most 8 MiB at a time.
    fn push(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        py.detach(|| biollm_core::pool::guarded(|| self.reader.lock()?.push(data)))
            .map_err(|e| border::to_python(py, e))
    }

    /// Declares the end of what is pushed.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        border::guard(py, || {
            self.reader.lock()?.finish();
            Ok(())
        })
    }

    /// Whether everything has been read and handed out.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        border::guard(py, || Ok(self.reader.lock()?.ended()))
    }

    /// Bytes read or pushed so far, as they are in the file.
    #[getter]
    fn bytes_read(&self, py: Python<'_>) -> PyResult<u64> {
        border::guard(py, || Ok(self.reader.lock()?.bytes_read()))
    }

    /// xxh3-128 of the file's bytes as 32 hexadecimal digits, once all of them have been read; before that `None`.
    #[getter]
    fn xxh3_128(&self, py: Python<'_>) -> PyResult<Option<String>> {
        border::guard(py, || Ok(self.reader.lock()?.xxh3_128_hex()))
    }

    fn __reduce__(&self) -> PyResult<()> {
        let message =
            "a DocumentReader does not pickle: make a new one with the same arguments where it is needed";
        Err(PyTypeError::new_err(message))
    }
}

fn columns(batch: Batch) -> Documents {
    let pair = |column: biollm_read::TextColumn| (Buffer::from(column.offsets), Buffer::from(column.data));
    let (offsets, data) = pair(batch.source.texts);
    let source = (offsets, data, Buffer::from(batch.source.validity));
    let rejected = batch.rejected.into_iter().map(|r| (r.line, r.reason)).collect();
    (
        batch.rows,
        pair(batch.id),
        pair(batch.text),
        source,
        pair(batch.meta),
        rejected,
    )
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<DocumentReader>()
}
