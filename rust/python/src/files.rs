//! Checksums and the publishing of finished files.

use crate::border::{self, FilePath};
use biollm_core::{Error, atomic, hash};
use pyo3::prelude::*;

/// xxh3-128 of a file, as 32 hexadecimal digits. `progress(done, total)` counts bytes.
#[pyfunction]
#[pyo3(signature = (path, progress=None))]
fn hash_file(py: Python<'_>, path: FilePath, progress: Option<Py<PyAny>>) -> PyResult<String> {
    border::run(py, progress, move |monitor| {
        if let Ok(metadata) = std::fs::metadata(&path.0) {
            monitor.set_total(metadata.len());
        }
        hash::file_xxh3_128_hex(&path.0, monitor)
    })
}

/// Most bytes `hash_bytes` takes: about 5 ms of work, since it polls no signals.
const MAX_HASH_BYTES: usize = 32 << 20;

/// xxh3-128 of bytes, as 32 hexadecimal digits.
#[pyfunction]
fn hash_bytes(py: Python<'_>, data: &[u8]) -> PyResult<String> {
    border::guard(py, || {
        if data.len() > MAX_HASH_BYTES {
            let hint = "write them to a file and hash that with hash_file";
            return Err(Error::limit(
                "bytes to hash at once",
                data.len() as u64,
                MAX_HASH_BYTES as u64,
                hint,
            ));
        }
        Ok(hash::xxh3_128_hex(data))
    })
}

/// Makes a finished temporary file durable under its final name (flush, rename, flush of the folder); gives its
/// xxh3-128 as 32 hexadecimal digits.
#[pyfunction]
fn publish(py: Python<'_>, temporary: FilePath, target: FilePath) -> PyResult<String> {
    border::run(py, None, move |monitor| {
        atomic::publish(&temporary.0, &target.0, monitor)
    })
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(hash_file, module)?)?;
    module.add_function(wrap_pyfunction!(hash_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(publish, module)?)
}
