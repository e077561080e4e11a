//! Byte-level BPE tokenizers: loading, encoding, decoding, training.

use crate::border::{self, Count, Text};
use crate::buffers::{Buffer, TextChunks};
use biollm_core::{Error, Monitor, Pool, Result, limits};
use biollm_tokenize::{Allowed, Options, Pattern, classes, groups, json, tiktoken, train, words};
use pyo3::buffer::PyBuffer;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

/// Texts and lists of ids up to this size are done inline, with the GIL held: under about 100 µs.
const INLINE_BYTES: usize = 2 << 10;

/// A text in a list.
struct Name(String);

impl<'py> FromPyObject<'_, 'py> for Name {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let text: Text<'_> = object.extract()?;
        Ok(Self(text.0.to_string()))
    }
}

/// A pair in a tuple; pyo3's own conversion raises ValueError for one of another length.
struct Pair<A, B>(A, B);

impl<'py, A: FromPyObjectOwned<'py>, B: FromPyObjectOwned<'py>> FromPyObject<'_, 'py> for Pair<A, B> {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let tuple = object.cast::<PyTuple>().ok().filter(|tuple| tuple.len() == 2);
        let tuple = tuple.ok_or_else(|| PyTypeError::new_err("a tuple of two is needed"))?;
        let first = tuple.get_item(0)?.extract().map_err(Into::into)?;
        let second = tuple.get_item(1)?.extract().map_err(Into::into)?;
        Ok(Self(first, second))
    }
}

/// Special tokens and their ids.
type SpecialTokens = Vec<(String, u32)>;

/// A tokenizer, immutable. Made from the bytes of a `tokenizer.json`, or with `pattern` from those of a `.tiktoken`
/// file, whose special tokens are given beside.
#[pyclass(frozen, module = "biollm._native")]
pub struct Tokenizer {
    inner: biollm_tokenize::Tokenizer,
    /// What it was made of, for pickle.
    data: Vec<u8>,
    pattern: Option<Pattern>,
    special_tokens: SpecialTokens,
}

#[pymethods]
impl Tokenizer {
    #[new]
    #[pyo3(signature = (data, pattern=None, special_tokens=Vec::new()))]
    fn new(
        py: Python<'_>,
        data: &[u8],
        pattern: Option<Text<'_>>,
        special_tokens: Vec<Pair<Name, Count>>,
    ) -> PyResult<Self> {
        let special_tokens = special_tokens
            .into_iter()
            .map(|Pair(content, id)| (content.0, u32::try_from(id.0).unwrap_or(u32::MAX)))
            .collect();
        let pattern = pattern.map(|pattern| pattern.0);
        border::run(py, None, move |monitor| {
            Self::load(data, pattern, special_tokens, monitor)
        })
    }

    /// One more than the largest id.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.inner.vocab_size()
    }

    /// The name of the split pattern.
    #[getter]
    fn pattern(&self) -> &'static str {
        self.inner.pattern().name()
    }

    /// The added tokens: (id, content, whether it is special).
    #[getter]
    fn added_tokens(&self) -> Vec<(u32, String, bool)> {
        let added = self.inner.added().iter();
        added
            .map(|token| (token.id, token.content.clone(), token.special))
            .collect()
    }

    /// The ids (uint32) of a text. `allow_special`: the special tokens that are looked for in it, `None` for all.
    #[pyo3(signature = (text, *, add_special=true, allow_special=Some(Vec::new())))]
    fn encode(
        &self,
        py: Python<'_>,
        text: Text<'_>,
        add_special: bool,
        allow_special: Option<Vec<Name>>,
    ) -> PyResult<Buffer> {
        let text = text.0;
        let names = names(allow_special);
        let work = |monitor: &Monitor| {
            if text.len() > limits::MAX_DOCUMENT_BYTES_CEILING {
                let (value, limit) = (text.len() as u64, limits::MAX_DOCUMENT_BYTES_CEILING as u64);
                return Err(Error::limit(
                    "bytes of the text",
                    value,
                    limit,
                    "encode it in parts",
                ));
            }
            self.inner.encode(
                text,
                &Options {
                    add_special,
                    allowed: allowed(names.as_deref()),
                    append: None,
                },
                monitor,
            )
        };
        let ids = if text.len() <= INLINE_BYTES {
            border::guard(py, || work(&Monitor::new()))
        } else {
            border::run(py, None, work)
        };
        ids.map(Buffer::from)
    }

    /// The ids (uint32) of many texts end to end, and their offsets (uint64, texts + 1). `append`: an id put at the end
    /// of each. `progress(done, total)` counts texts.
    #[pyo3(signature = (
        texts, *, add_special=true, allow_special=Some(Vec::new()), append=None, max_document_bytes=None, threads=None,
        progress=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn encode_batch(
        &self,
        py: Python<'_>,
        texts: TextChunks,
        add_special: bool,
        allow_special: Option<Vec<Name>>,
        append: Option<Count>,
        max_document_bytes: Option<Count>,
        threads: Option<Count>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Buffer, Buffer)> {
        let names = names(allow_special);
        let encoded = border::run(py, progress, |monitor| {
            let append = match append {
                Some(id) => Some(self.known_id(id)?),
                None => None,
            };
            let pool = Pool::new(threads.map(Count::size))?;
            let texts = texts.texts(document_limit(max_document_bytes)?, &pool, monitor)?;
            let options = Options {
                add_special,
                allowed: allowed(names.as_deref()),
                append,
            };
            self.inner.encode_batch(&texts, &options, &pool, monitor)
        })?;
        Ok((encoded.ids.into(), encoded.offsets.into()))
    }

    /// The bytes of a list of ids (a buffer of uint32).
    #[pyo3(signature = (ids, *, skip_special=false))]
    fn decode<'py>(
        &self,
        py: Python<'py>,
        ids: &Bound<'py, PyAny>,
        skip_special: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let ids = Ids::of(ids)?;
        let ids = ids.as_slice();
        let work = |monitor: &Monitor| {
            let mut bytes = Vec::new();
            self.inner.decode_into(ids, skip_special, &mut bytes, monitor)?;
            Ok(bytes)
        };
        let bytes = if ids.len() <= INLINE_BYTES {
            border::guard(py, || work(&Monitor::new()))?
        } else {
            border::run(py, None, work)?
        };
        Ok(PyBytes::new(py, &bytes))
    }

    /// The bytes of many lists of ids, end to end, and their offsets (int64, lists + 1). `ids` is a buffer of uint32,
    /// `offsets` one of uint64. `progress(done, total)` counts lists.
    #[pyo3(signature = (ids, offsets, *, skip_special=false, threads=None, progress=None))]
    fn decode_batch(
        &self,
        py: Python<'_>,
        ids: &Bound<'_, PyAny>,
        offsets: &Bound<'_, PyAny>,
        skip_special: bool,
        threads: Option<Count>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Buffer, Buffer)> {
        let ids = Ids::of(ids)?;
        let ids = ids.as_slice();
        let offsets: Vec<u64> = numbers(offsets, "offsets must be a contiguous buffer of uint64")?;
        let (bytes, ends) = border::run(py, progress, |monitor| {
            let pool = Pool::new(threads.map(Count::size))?;
            self.inner
                .decode_batch(ids, &offsets, skip_special, &pool, monitor)
        })?;
        Ok((bytes.into(), ends.into()))
    }

    /// The id of a token given by its bytes.
    fn token_to_id(&self, token: &[u8]) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The bytes of a token.
    fn id_to_token<'py>(&self, py: Python<'py>, id: Count) -> Option<Bound<'py, PyBytes>> {
        let token = self.inner.id_to_token(u32::try_from(id.0).ok()?)?;
        Some(PyBytes::new(py, token))
    }

    /// The tokenizer as a `tokenizer.json`: the bytes it was loaded from, where it was.
    fn to_json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        if self.pattern.is_none() {
            return Ok(PyBytes::new(py, &self.data));
        }
        let text = border::run(py, None, |monitor| json::write(&self.inner, monitor))?;
        Ok(PyBytes::new(py, text.as_bytes()))
    }

    /// What makes an equal one.
    #[allow(clippy::type_complexity)]
    fn __getnewargs__<'py>(
        &self,
        py: Python<'py>,
    ) -> (Bound<'py, PyBytes>, Option<&'static str>, SpecialTokens) {
        (
            PyBytes::new(py, &self.data),
            self.pattern.map(Pattern::name),
            self.special_tokens.clone(),
        )
    }
}

impl Tokenizer {
    fn load(
        data: &[u8],
        pattern: Option<&str>,
        special_tokens: SpecialTokens,
        monitor: &Monitor,
    ) -> Result<Self> {
        let mut held = limits::with_capacity(data.len(), "the tokenizer file")?;
        held.extend_from_slice(data);
        let pattern = pattern.map(Pattern::from_name).transpose()?;
        let inner = match pattern {
            Some(pattern) => tiktoken::read(data, pattern, &special_tokens, monitor)?,
            None if special_tokens.is_empty() => json::read(json::checked_text(data)?, monitor)?,
            None => {
                let message = "a tokenizer.json names its special tokens itself: give none";
                return Err(Error::input("special_tokens", message));
            }
        };
        Ok(Self {
            inner,
            data: held,
            pattern,
            special_tokens,
        })
    }

    fn known_id(&self, id: Count) -> Result<u32> {
        let known = u32::try_from(id.0)
            .ok()
            .filter(|id| self.inner.id_to_token(*id).is_some());
        known.ok_or_else(|| Error::input("append", format!("no token of this vocabulary has id {}", id.0)))
    }
}

fn names(allow_special: Option<Vec<Name>>) -> Option<Vec<String>> {
    allow_special.map(|names| names.into_iter().map(|name| name.0).collect())
}

fn allowed(names: Option<&[String]>) -> Allowed<'_> {
    match names {
        None => Allowed::All,
        Some([]) => Allowed::None,
        Some(names) => Allowed::Only(names),
    }
}

fn document_limit(asked: Option<Count>) -> Result<usize> {
    let limit = asked.map_or(limits::MAX_DOCUMENT_BYTES as u64, |n| n.0);
    let ceiling = limits::MAX_DOCUMENT_BYTES_CEILING;
    if limit > ceiling as u64 {
        return Err(Error::limit(
            "max_document_bytes",
            limit,
            ceiling as u64,
            "give less, or None for the default",
        ));
    }
    Ok(limit as usize)
}

/// A buffer of uint32 ids, held for the length of a call and not copied: a copy of many would neither heed a signal
/// nor be freed in a moment.
struct Ids(PyBuffer<u32>);

impl Ids {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let wrong = || PyTypeError::new_err("ids must be a contiguous buffer of uint32");
        let buffer = PyBuffer::<u32>::get(object).map_err(|_| wrong())?;
        if buffer.is_c_contiguous() {
            Ok(Self(buffer))
        } else {
            Err(wrong())
        }
    }

    fn as_slice(&self) -> &[u32] {
        if self.0.item_count() == 0 {
            return &[];
        }
        // SAFETY: contiguous and aligned (`PyBuffer::get` refuses others), and exported for as long as it is held.
        // Each id is read once and then checked, so an array that is written to meanwhile gives other text, no fault.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<u32>(), self.0.item_count()) }
    }
}

/// The numbers of a buffer, copied: numpy's arrays may change while no one holds the GIL.
fn numbers<T: pyo3::buffer::Element>(object: &Bound<'_, PyAny>, wrong: &'static str) -> PyResult<Vec<T>> {
    let buffer = PyBuffer::<T>::get(object).map_err(|_| PyTypeError::new_err(wrong))?;
    buffer.to_vec(object.py())
}

/// Counts the pieces that `pattern` splits the texts into, and adds those of `known`, (words, counts) of an earlier
/// call. Gives words in byte order (int64 offsets, UTF-8) and counts (uint64). `progress(done, total)` counts texts.
#[pyfunction]
#[pyo3(signature = (texts, *, pattern, known=None, max_document_bytes=None, threads=None, progress=None))]
fn count_words(
    py: Python<'_>,
    texts: TextChunks,
    pattern: Text<'_>,
    known: Option<Pair<TextChunks, Py<PyAny>>>,
    max_document_bytes: Option<Count>,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Buffer, Buffer, Buffer)> {
    let pattern = pattern.0;
    let known = match known {
        Some(Pair(words, counts)) => Some((words, counts_of(counts.bind(py))?)),
        None => None,
    };
    let counted = border::run(py, progress, move |monitor| {
        let pattern = Pattern::from_name(pattern)?;
        let pool = Pool::new(threads.map(Count::size))?;
        let texts = texts.texts(document_limit(max_document_bytes)?, &pool, monitor)?;
        match &known {
            None => words::count_words(&texts, pattern, None, &pool, monitor),
            Some((known, counts)) => {
                let known = known.texts(limits::MAX_DOCUMENT_BYTES_CEILING, &pool, monitor)?;
                words::count_words(&texts, pattern, Some((&known, counts)), &pool, monitor)
            }
        }
    })?;
    Ok((counted.offsets.into(), counted.data.into(), counted.counts.into()))
}

/// Learns a vocabulary of exactly `vocab_size` ids from words and their counts (a buffer of uint64). Special tokens get
/// the first ids, then come the 256 bytes. `progress(done, total)` counts the ids learned.
#[pyfunction]
#[pyo3(signature = (words, counts, *, vocab_size, special_tokens, min_frequency, pattern, progress=None))]
#[allow(clippy::too_many_arguments)]
fn train_tokenizer(
    py: Python<'_>,
    words: TextChunks,
    counts: &Bound<'_, PyAny>,
    vocab_size: Count,
    special_tokens: Vec<Name>,
    min_frequency: Count,
    pattern: Text<'_>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Tokenizer> {
    let counts = counts_of(counts)?;
    let special_tokens: Vec<String> = special_tokens.into_iter().map(|token| token.0).collect();
    let pattern = pattern.0;
    border::run(py, progress, move |monitor| {
        let words = words.texts(limits::MAX_DOCUMENT_BYTES_CEILING, &Pool::new(Some(1))?, monitor)?;
        let options = train::Options {
            vocab_size: vocab_size.size(),
            special_tokens: &special_tokens,
            min_frequency: min_frequency.0,
            pattern: Pattern::from_name(pattern)?,
        };
        let inner = train::train(&words, &counts, &options, monitor)?;
        let data = json::write(&inner, monitor)?.into_bytes();
        Ok(Tokenizer {
            inner,
            data,
            pattern: None,
            special_tokens: Vec::new(),
        })
    })
}

/// xxh3-64 (uint64) of each text under a seed. `progress(done, total)` counts texts.
#[pyfunction]
#[pyo3(signature = (texts, *, seed, threads=None, progress=None))]
fn hash_texts(
    py: Python<'_>,
    texts: TextChunks,
    seed: Count,
    threads: Option<Count>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Buffer> {
    let hashes = border::run(py, progress, move |monitor| {
        let pool = Pool::new(threads.map(Count::size))?;
        let texts = texts.texts(limits::MAX_DOCUMENT_BYTES_CEILING, &pool, monitor)?;
        groups::hash_texts(&texts, seed.0, &pool, monitor)
    })?;
    Ok(hashes.into())
}

fn counts_of(counts: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
    numbers(counts, "counts must be a contiguous buffer of uint64")
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // Unfolded now, once: a fork while another thread was about it would leave the child waiting for ever.
    classes::classes();
    module.add_class::<Tokenizer>()?;
    module.add_function(wrap_pyfunction!(hash_texts, module)?)?;
    module.add_function(wrap_pyfunction!(count_words, module)?)?;
    module.add_function(wrap_pyfunction!(train_tokenizer, module)?)
}
