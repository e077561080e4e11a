//! `biollm._native`: the one crate that knows Python. Conversions, errors and the GIL live here; kernels do not.

mod border;
mod buffers;
mod dedup;
mod exclusive;
mod files;
mod parquet;
mod read;
mod select;
mod tokenize;
mod xml;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    border::silence_panics();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(available_threads, module)?)?;
    buffers::register(module)?;
    dedup::register(module)?;
    files::register(module)?;
    parquet::register(module)?;
    read::register(module)?;
    select::register(module)?;
    tokenize::register(module)?;
    xml::register(module)?;
    Ok(())
}

/// Threads that native calls take by themselves: cores by this process's affinity mask and its cgroup's quota.
#[pyfunction]
fn available_threads(py: Python<'_>) -> PyResult<usize> {
    border::guard(py, || Ok(biollm_core::pool::available_threads()))
}
