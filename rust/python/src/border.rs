//! Errors, signals, progress and panics at the border.

use biollm_core::pool::guarded;
use biollm_core::{Error, Monitor};
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyUnicodeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often the calling thread looks for signals while workers work.
const POLL: Duration = Duration::from_millis(20);

/// Polls between two calls of `progress`: about 100 ms.
const POLLS_PER_PROGRESS: u32 = 5;

/// A panic becomes an `InternalError` that carries its text; the hook's own print to stderr would double it.
/// The hook is that of this library's private copy of std, so no host program's is touched.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Runs `work` on a thread of its own with the GIL released, while the calling thread polls signals and calls
/// `progress(done, total)`. Whatever either raises stops the work and is raised.
pub fn run<T: Send>(
    py: Python<'_>,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&Monitor) -> biollm_core::Result<T> + Send,
) -> PyResult<T> {
    let monitor = Monitor::new();
    let mut raised: Option<PyErr> = None;
    let outcome = py.detach(|| {
        let ended = (Mutex::new(false), Condvar::new());
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new()
                .name("biollm-call".into())
                .spawn_scoped(scope, || {
                    let result = guarded(|| work(&monitor));
                    *ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
                    ended.1.notify_one();
                    result
                });
            let worker = match worker {
                Ok(worker) => worker,
                Err(e) => return Err(Error::Internal(format!("the system gives no thread: {e}"))),
            };
            let mut polls = 0u32;
            let mut finished = ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            while !*finished {
                finished = ended
                    .1
                    .wait_timeout(finished, POLL)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                if *finished || raised.is_some() {
                    continue;
                }
                drop(finished);
                polls = polls.wrapping_add(1);
                let report = if polls.is_multiple_of(POLLS_PER_PROGRESS) {
                    progress.as_ref()
                } else {
                    None
                };
                if let Err(error) = Python::attach(|py| poll(py, report, &monitor)) {
                    monitor.stop();
                    raised = Some(error);
                }
                finished = ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            }
            drop(finished);
            worker
                .join()
                .unwrap_or_else(|_| Err(Error::Internal("the worker thread was lost".into())))
        })
    });
    if let Some(error) = raised {
        return Err(error);
    }
    // A signal that came in the last moments is raised now, not at some later bytecode.
    py.check_signals()?;
    let value = outcome.map_err(|e| to_python(py, e))?;
    if let Some(progress) = &progress {
        report(py, progress, &monitor)?;
    }
    Ok(value)
}

fn poll(py: Python<'_>, progress: Option<&Py<PyAny>>, monitor: &Monitor) -> PyResult<()> {
    py.check_signals()?;
    progress.map_or(Ok(()), |p| report(py, p, monitor))
}

fn report(py: Python<'_>, progress: &Py<PyAny>, monitor: &Monitor) -> PyResult<()> {
    progress.call1(py, monitor.progress()).map(|_| ())
}

/// The same guard for calls far below 100 µs: inline, with the GIL held.
pub fn guard<T>(py: Python<'_>, work: impl FnOnce() -> biollm_core::Result<T>) -> PyResult<T> {
    guarded(work).map_err(|e| to_python(py, e))
}

/// A path argument: str, bytes or `os.PathLike`. A lone surrogate is an `InputError`, not a `UnicodeEncodeError`.
pub struct FilePath(pub PathBuf);

impl<'py> FromPyObject<'_, 'py> for FilePath {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object
            .extract()
            .map(FilePath)
            .map_err(|e| input_error(object.py(), e, "the path is not valid Unicode"))
    }
}

/// A text argument. A lone surrogate is an `InputError`, not a `UnicodeEncodeError`.
pub struct Text<'a>(pub &'a str);

impl<'a, 'py> FromPyObject<'a, 'py> for Text<'a> {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        let text: Result<&'a str, PyErr> = object.extract();
        text.map(Text)
            .map_err(|e| input_error(object.py(), e, "the text is not valid Unicode"))
    }
}

/// A count, size or seed: an int from 0 to 2**64 - 1. Others are an `InputError`, not an `OverflowError`.
#[derive(Clone, Copy)]
pub struct Count(pub u64);

impl Count {
    /// As a size of this machine; a value that no memory could hold becomes the largest one, for limits to refuse.
    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object
            .extract()
            .map(Count)
            .map_err(|e| input_error(object.py(), e, "an integer from 0 to 2**64 - 1 is needed"))
    }
}

/// A float, or an int that fits one. Others are an `InputError`, not an `OverflowError`.
#[derive(Clone, Copy)]
pub struct Real(pub f64);

impl<'py> FromPyObject<'_, 'py> for Real {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let number: PyResult<f64> = object.extract();
        number
            .map(Real)
            .map_err(|e| input_error(object.py(), e, "a number is needed"))
    }
}

/// Conversion failures that are neither of our errors nor a `TypeError` become an `InputError`.
fn input_error(py: Python<'_>, error: PyErr, message: &str) -> PyErr {
    if error.is_instance_of::<PyUnicodeError>(py) || error.is_instance_of::<PyOverflowError>(py) {
        let message = format!("{message}: {}", error.value(py));
        return to_python(
            py,
            Error::Input {
                message,
                field: None,
                row: None,
            },
        );
    }
    error
}

/// The one place where an [`Error`] becomes a Python exception.
pub fn to_python(py: Python<'_>, error: Error) -> PyErr {
    build(py, error).unwrap_or_else(|failed| failed)
}

fn build(py: Python<'_>, error: Error) -> PyResult<PyErr> {
    let kwargs = PyDict::new(py);
    let message = error.to_string();
    let class = match error {
        Error::Stopped => "InternalError", // Only reached when nobody raised: see `run`.
        Error::Input { field, row, .. } => {
            kwargs.set_item("field", field)?;
            kwargs.set_item("row", row)?;
            "InputError"
        }
        Error::File { path, source } => {
            kwargs.set_item("path", path)?;
            kwargs.set_item("errno", source.raw_os_error())?;
            "FileError"
        }
        Error::Format {
            path, line, field, ..
        } => {
            kwargs.set_item("path", path)?;
            kwargs.set_item("line", line)?;
            kwargs.set_item("field", field)?;
            "FormatError"
        }
        Error::Limit {
            value,
            limit,
            path,
            line,
            row,
            ..
        } => {
            kwargs.set_item("value", value)?;
            kwargs.set_item("limit", limit)?;
            kwargs.set_item("path", path)?;
            kwargs.set_item("line", line)?;
            kwargs.set_item("row", row)?;
            "LimitError"
        }
        Error::Memory { .. } => return Ok(PyMemoryError::new_err(message)),
        Error::Internal(_) => "InternalError",
    };
    let exception = py
        .import("biollm.errors")?
        .getattr(class)?
        .call((message,), Some(&kwargs))?;
    Ok(PyErr::from_value(exception))
}
