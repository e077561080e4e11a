//! The reader of PubMed and JATS, and the scan for the versions of PubMed records.

use crate::border::{self, Count, FilePath, Text};
use crate::buffers::{self, Buffer};
use crate::exclusive::Exclusive;
use biollm_core::decode::Compression;
use biollm_core::{Monitor, limits};
use biollm_read::{
    OptionalTexts, ScanFile, ScanOptions, TextColumn, XmlBatch, XmlOptions, XmlReader as Reader,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyTupleMethods};

/// A column: its name, its kind and its buffers, as `_native.pyi` says.
type Column<'py> = (&'static str, &'static str, Bound<'py, PyTuple>);

/// Rows; columns; (line, reason) of what was passed over.
type Records<'py> = (usize, Vec<Column<'py>>, Vec<(u64, String)>);

/// Reads the records of one PubMed or JATS file, or of a tar of such files. Calls from two threads at once, and calls
/// in a forked child, raise.
#[pyclass(frozen, module = "biollm._native")]
pub struct XmlReader {
    reader: Exclusive<Reader>,
}

#[pymethods]
impl XmlReader {
    #[new]
    #[pyo3(
        signature = (
            path, *, name=None, compression=Text("none"), tar=false, text, id=None, source=None, id_prefix=Text(""),
            max_document_bytes=None, skip=false, left_out=None
        ),
        text_signature = "(path, *, name=None, compression='none', tar=False, text, id=None, source=None, \
                          id_prefix='', max_document_bytes=None, skip=False, left_out=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        path: FilePath,
        name: Option<FilePath>,
        compression: Text<'_>,
        tar: bool,
        text: Vec<Bound<'_, PyAny>>,
        id: Option<Text<'_>>,
        source: Option<Text<'_>>,
        id_prefix: Text<'_>,
        max_document_bytes: Option<Count>,
        skip: bool,
        left_out: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let owned = |text: Text<'_>| text.0.to_string();
        let (compression, id_prefix) = (owned(compression), owned(id_prefix));
        let (id, source) = (id.map(owned), source.map(owned));
        let text = text
            .iter()
            .map(|name| Ok(owned(name.extract()?)))
            .collect::<PyResult<Vec<String>>>()?;
        let left_out = match left_out {
            Some(bits) => buffers::owned_bytes(&bits, "left_out")?,
            None => Vec::new(),
        };
        let reader = border::run(py, None, move |_| {
            let options = XmlOptions {
                compression: Compression::by_name(&compression)?,
                tar,
                id_prefix,
                max_document_bytes: max_document_bytes.map_or(limits::MAX_DOCUMENT_BYTES, Count::size),
                skip,
                left_out,
                ..XmlOptions::default()
            };
            let options = options
                .with_text(&text)?
                .with_id(id.as_deref())?
                .with_source(source.as_deref())?;
            Reader::open(&path.0, name.as_ref().map(|name| name.0.as_path()), options)
        })?;
        Ok(Self {
            reader: Exclusive::new("XmlReader", reader),
        })
    }

    /// The next records. `None` at the end. `progress(done, total)` counts bytes of the file.
    #[pyo3(signature = (progress=None))]
    fn next_batch<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Option<Records<'py>>> {
        let batch = border::run(py, progress, |monitor: &Monitor| {
            self.reader.lock()?.next_batch(monitor)
        })?;
        batch.map(|batch| columns(py, batch)).transpose()
    }

    /// "pubmed" or "jats", once the first root element has been read.
    #[getter]
    fn kind(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        border::guard(py, || Ok(self.reader.lock()?.kind()))
    }

    /// Whether everything has been read and handed out.
    #[getter]
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        border::guard(py, || Ok(self.reader.lock()?.ended()))
    }

    /// Bytes read so far, as they are in the file.
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
            "an XmlReader does not pickle: make a new one with the same arguments where it is needed";
        Err(PyTypeError::new_err(message))
    }
}

fn columns(py: Python<'_>, batch: XmlBatch) -> PyResult<Records<'_>> {
    let tuple = |buffers: Vec<Buffer>| PyTuple::new(py, buffers);
    let text = |c: TextColumn| tuple(vec![c.offsets.into(), c.data.into()]);
    let optional = |c: OptionalTexts| {
        tuple(vec![
            c.texts.offsets.into(),
            c.texts.data.into(),
            c.validity.into(),
        ])
    };
    let list = |c: biollm_read::xml::TextLists| {
        tuple(vec![
            c.offsets.into(),
            c.items.offsets.into(),
            c.items.data.into(),
        ])
    };
    let sections = batch.sections;
    let columns = vec![
        ("id", "text", text(batch.id)?),
        ("text", "text", text(batch.text)?),
        ("source", "text", text(batch.source)?),
        ("title", "text", text(batch.title)?),
        (
            "year",
            "int32",
            tuple(vec![batch.year.values.into(), batch.year.validity.into()])?,
        ),
        ("languages", "list_text", list(batch.languages)?),
        ("publication_types", "list_text", list(batch.publication_types)?),
        ("journal", "optional_text", optional(batch.journal)?),
        ("pmid", "optional_text", optional(batch.pmid)?),
        ("pmc", "optional_text", optional(batch.pmc)?),
        ("doi", "optional_text", optional(batch.doi)?),
        (
            "sections",
            "sections",
            tuple(vec![
                sections.offsets.into(),
                sections.titles.offsets.into(),
                sections.titles.data.into(),
                sections.starts.into(),
                sections.ends.into(),
            ])?,
        ),
    ];
    let rejected = batch.rejected.into_iter().map(|r| (r.line, r.reason)).collect();
    Ok((batch.rows, columns, rejected))
}

/// Which records of PubMed files a later one with the same PMID, or a later DeleteCitation, puts out of force.
#[pyfunction]
#[pyo3(signature = (files, *, max_document_bytes=None, skip=false, threads=None, progress=None))]
fn scan_pubmed(
    py: Python<'_>,
    files: Vec<Bound<'_, PyAny>>,
    max_document_bytes: Option<Count>,
    skip: bool,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<(u64, Buffer, u64, u64)>> {
    let files = files.iter().map(scan_file).collect::<PyResult<Vec<_>>>()?;
    let scanned = border::run(py, progress, move |monitor| {
        let mut out = Vec::new();
        for (path, compression, tar, name) in files {
            out.push(ScanFile {
                path: path.0,
                name: name.map(|name| name.0),
                compression: Compression::by_name(&compression)?,
                tar,
            });
        }
        let options = ScanOptions {
            max_document_bytes: max_document_bytes.map_or(limits::MAX_DOCUMENT_BYTES, Count::size),
            skip,
            threads: threads.map(Count::size),
        };
        biollm_read::scan_pubmed(&out, &options, monitor)
    })?;
    let rows = scanned.into_iter();
    Ok(rows
        .map(|s| (s.records, Buffer::from(s.left_out), s.replaced, s.deleted))
        .collect())
}

type ScanArguments = (FilePath, String, bool, Option<FilePath>);

fn scan_file(item: &Bound<'_, PyAny>) -> PyResult<ScanArguments> {
    let wrong = || PyTypeError::new_err("a file to scan is (path, compression, tar, name or None)");
    let tuple = item.cast::<PyTuple>().map_err(|_| wrong())?;
    if tuple.len() != 4 {
        return Err(wrong());
    }
    let compression = tuple.get_item(1)?;
    let compression: Text<'_> = compression.extract()?;
    Ok((
        tuple.get_item(0)?.extract()?,
        compression.0.to_string(),
        tuple.get_item(2)?.extract()?,
        tuple.get_item(3)?.extract()?,
    ))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<XmlReader>()?;
    module.add_function(wrap_pyfunction!(scan_pubmed, module)?)
}
