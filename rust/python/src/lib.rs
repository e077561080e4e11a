//! `biollm._native`: the one crate that knows Python. Conversions, errors and the GIL live here; kernels do not.

mod border;
mod buffers;
mod dedup;
mod files;
mod read;
mod select;
mod tokenize;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    border::silence_panics();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    buffers::register(module)?;
    dedup::register(module)?;
    files::register(module)?;
    read::register(module)?;
    select::register(module)?;
    tokenize::register(module)?;
    Ok(())
}
