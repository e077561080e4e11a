//! Memory that crosses the border without a copy: results as [`Buffer`], text columns as [`TextChunks`].

use crate::border::{self, Count};
use biollm_core::{Error, Monitor, Pool, limits};
use biollm_text::Texts;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::ffi::{c_int, c_void};

/// Bytes made by a kernel. Supports the buffer protocol (read-only, one dimension of unsigned bytes), so
/// `numpy.frombuffer` and `pyarrow.py_buffer` take it with no copy.
#[pyclass(frozen, module = "biollm._native")]
pub struct Buffer {
    storage: Storage,
}

/// Typed vectors are kept as they are: a `Vec<u8>` made from a `Vec<u64>` would be freed with a wrong layout.
enum Storage {
    U8(Vec<u8>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Storage {
    fn bytes(&self) -> (*const u8, usize) {
        match self {
            Storage::U8(v) => (v.as_ptr(), v.len()),
            Storage::I32(v) => (v.as_ptr().cast(), size_of_val(v.as_slice())),
            Storage::U32(v) => (v.as_ptr().cast(), size_of_val(v.as_slice())),
            Storage::U64(v) => (v.as_ptr().cast(), size_of_val(v.as_slice())),
            Storage::I64(v) => (v.as_ptr().cast(), size_of_val(v.as_slice())),
            Storage::F64(v) => (v.as_ptr().cast(), size_of_val(v.as_slice())),
        }
    }
}

macro_rules! buffer_from {
    ($($ty:ty => $variant:ident),*) => {$(
        impl From<Vec<$ty>> for Buffer {
            fn from(values: Vec<$ty>) -> Self {
                Self { storage: Storage::$variant(values) }
            }
        }
    )*};
}
buffer_from!(u8 => U8, i32 => I32, u32 => U32, u64 => U64, i64 => I64, f64 => F64);

#[pymethods]
impl Buffer {
    /// The number of bytes.
    fn __len__(&self) -> usize {
        self.storage.bytes().1
    }

    /// Fills a read-only view of the bytes.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("the view is null"));
        }
        let (pointer, len) = slf.get().storage.bytes();
        let len =
            ffi::Py_ssize_t::try_from(len).map_err(|_| PyBufferError::new_err("the buffer is too large"))?;
        // SAFETY: `view` is a Py_buffer of the caller; the bytes live as long as `slf`, which the view holds, and
        // are never changed. PyBuffer_FillInfo refuses a writable request.
        let failed =
            unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), pointer as *mut c_void, len, 1, flags) };
        if failed != 0 {
            return Err(PyErr::take(slf.py()).unwrap_or_else(|| PyBufferError::new_err("a read-only buffer")));
        }
        Ok(())
    }
}

/// A text column as Python hands it over: `list[tuple[offsets, data, rows]]`, where `offsets` is a buffer of at
/// least `rows + 1` native 64-bit integers and `data` one of bytes. Held for the length of a call.
pub struct TextChunks {
    chunks: Vec<(PyBuffer<u8>, PyBuffer<u8>, usize)>,
}

impl<'py> FromPyObject<'_, 'py> for TextChunks {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let mut chunks = Vec::new();
        for item in object.try_iter()? {
            let item = item?;
            if item.cast::<PyTuple>().map_or(0, |chunk| chunk.len()) != 3 {
                return Err(not_a_chunk());
            }
            let (offsets, data, rows): (Bound<'_, PyAny>, Bound<'_, PyAny>, Count) = item.extract()?;
            chunks.push((byte_buffer(&offsets)?, byte_buffer(&data)?, rows.size()));
        }
        Ok(Self { chunks })
    }
}

impl TextChunks {
    /// The column, checked; call it with the GIL released, inside `border::run`.
    pub fn texts(
        &self,
        max_document_bytes: usize,
        pool: &Pool,
        monitor: &Monitor,
    ) -> biollm_core::Result<Texts<'_>> {
        let mut parts = Vec::new();
        for (offsets, data, rows) in &self.chunks {
            let wrong =
                |message: &str| Error::input("text", format!("a text chunk's offsets buffer {message}"));
            if *rows == 0 {
                continue;
            }
            let places = rows
                .checked_add(1)
                .ok_or_else(|| wrong("cannot hold that many rows"))?;
            let offset_bytes = bytes_of(offsets);
            if offset_bytes.len() / 8 < places {
                return Err(wrong("is shorter than 8 bytes a row and 8"));
            }
            if !offset_bytes.as_ptr().cast::<i64>().is_aligned() {
                return Err(wrong("is not aligned to 8 bytes"));
            }
            // SAFETY: long enough and aligned (just checked); every bit pattern is an i64.
            let offsets = unsafe { std::slice::from_raw_parts(offset_bytes.as_ptr().cast::<i64>(), places) };
            parts.push((offsets, bytes_of(data)));
        }
        Texts::new(parts, max_document_bytes, pool, monitor)
    }
}

/// Arrays of native 64-bit words as Python hands them over: a list of buffers. Held for the length of a call.
pub struct Words {
    buffers: Vec<PyBuffer<u8>>,
}

impl<'py> FromPyObject<'_, 'py> for Words {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let mut buffers = Vec::new();
        for item in object.try_iter()? {
            let wrong = |_| PyTypeError::new_err("a list of contiguous buffers of bytes or words is needed");
            buffers.push(byte_buffer(&item?).map_err(wrong)?);
        }
        Ok(Self { buffers })
    }
}

impl Words {
    /// The words of each buffer; `field` is what the argument is called.
    pub fn slices(&self, field: &'static str) -> biollm_core::Result<Vec<&[u64]>> {
        let slice = |buffer| {
            let bytes = bytes_of(buffer);
            let pointer = bytes.as_ptr().cast::<u64>();
            if !bytes.len().is_multiple_of(8) || !(bytes.is_empty() || pointer.is_aligned()) {
                return Err(Error::input(
                    field,
                    format!("{field}: a buffer of whole words is needed"),
                ));
            }
            if bytes.is_empty() {
                return Ok(&[][..]);
            }
            // SAFETY: aligned and as long (just checked); every bit pattern is a u64.
            Ok(unsafe { std::slice::from_raw_parts(pointer, bytes.len() / 8) })
        };
        self.buffers.iter().map(slice).collect()
    }
}

fn not_a_chunk() -> PyErr {
    PyTypeError::new_err("a text chunk is (offsets buffer, data buffer, rows), buffers of bytes")
}

/// A copy of any object's buffer of bytes; `what` names the argument.
pub fn owned_bytes(object: &Bound<'_, PyAny>, what: &'static str) -> PyResult<Vec<u8>> {
    let wrong = |_| PyTypeError::new_err(format!("{what} is a buffer of bytes"));
    let buffer = byte_buffer(object).map_err(wrong)?;
    let bytes = bytes_of(&buffer);
    let mut copy = limits::with_capacity(bytes.len(), what).map_err(|e| border::to_python(object.py(), e))?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// A contiguous view of any object's buffer as bytes.
fn byte_buffer(object: &Bound<'_, PyAny>) -> PyResult<PyBuffer<u8>> {
    let buffer = PyBuffer::<u8>::get(object).or_else(|_| {
        // pyarrow's buffers export signed bytes; a memoryview cast gives them as unsigned.
        let view = object
            .py()
            .import("builtins")?
            .getattr("memoryview")?
            .call1((object,))?;
        PyBuffer::<u8>::get(&view.call_method1("cast", ("B",))?)
    });
    let buffer = buffer.map_err(|_| not_a_chunk())?;
    if buffer.is_c_contiguous() {
        Ok(buffer)
    } else {
        Err(not_a_chunk())
    }
}

fn bytes_of(buffer: &PyBuffer<u8>) -> &[u8] {
    if buffer.item_count() == 0 {
        return &[];
    }
    // SAFETY: the buffer is contiguous (checked when made) and exported for as long as it is held. The callers
    // hand over Arrow's immutable buffers; `columns.py` is the only one to build these lists.
    unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.item_count()) }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Buffer>()
}
