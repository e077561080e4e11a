//! The one error type that crosses the border; `rust/python/src/border.rs` maps each variant in one place.

use std::path::PathBuf;

/// What a kernel may fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stop token was set: the border raises whatever Python has pending (Ctrl-C, a callback's exception).
    #[error("stopped")]
    Stopped,

    /// A value given by the caller is not acceptable. Python: `InputError`.
    #[error("{message}")]
    Input {
        /// What is wrong and the way out.
        message: String,
        /// The argument or column it concerns.
        field: Option<String>,
        /// The row of a column it concerns, counted from 0.
        row: Option<u64>,
    },

    /// An operating system call on a file failed. Python: `FileError`.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's own error, with its errno.
        source: std::io::Error,
    },

    /// Bytes are not what their format says. Python: `FormatError`.
    #[error("{message}")]
    Format {
        /// What is wrong and the way out.
        message: String,
        /// The file, where the bytes come from one.
        path: Option<PathBuf>,
        /// The line, counted from 1.
        line: Option<u64>,
        /// The field of a record or document.
        field: Option<String>,
    },

    /// A declared limit would be exceeded; checked before allocating. Python: `LimitError`.
    #[error("{what} is {value}, over the limit of {limit}: {hint}")]
    Limit {
        /// The quantity that is limited, with its unit.
        what: String,
        /// What was asked for or found (at least).
        value: u64,
        /// The limit.
        limit: u64,
        /// The option that raises the limit, or another way out.
        hint: String,
        /// The file, where one is read.
        path: Option<PathBuf>,
        /// The line, counted from 1.
        line: Option<u64>,
        /// The row, counted from 0.
        row: Option<u64>,
    },

    /// The allocator refused a large buffer. Python: the built-in `MemoryError`.
    #[error("out of memory: {what} needs {bytes} bytes")]
    Memory {
        /// What the buffer is for.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },

    /// A fault of this library: a panic that was caught, or a broken invariant. Python: `InternalError`.
    #[error("internal error: {0}")]
    Internal(String),
}

/// The result of everything that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An `Input` error about a named argument.
    pub fn input(field: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Input {
            message: message.into(),
            field: Some(field.into()),
            row: None,
        }
    }

    /// An `Input` error about one row of a column.
    pub fn row(field: impl Into<String>, row: usize, message: impl Into<String>) -> Self {
        Error::Input {
            message: message.into(),
            field: Some(field.into()),
            row: Some(row as u64),
        }
    }

    /// A `Format` error that names no file; the reader that knows it adds it with [`Error::at`].
    pub fn format(message: impl Into<String>) -> Self {
        Error::Format {
            message: message.into(),
            path: None,
            line: None,
            field: None,
        }
    }

    /// A `Format` error about one field of a document.
    pub fn format_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Format {
            message: message.into(),
            path: None,
            line: None,
            field: Some(field.into()),
        }
    }

    /// A `Limit` error that names no file or row.
    pub fn limit(what: impl Into<String>, value: u64, limit: u64, hint: impl Into<String>) -> Self {
        Error::Limit {
            what: what.into(),
            value,
            limit,
            hint: hint.into(),
            path: None,
            line: None,
            row: None,
        }
    }

    /// A `File` error.
    pub fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::File {
            path: path.into(),
            source,
        }
    }

    /// The same error with the file and line it was met at, where it does not carry them yet.
    pub fn at(self, file: Option<&std::path::Path>, at_line: Option<u64>) -> Self {
        match self {
            Error::Format {
                message,
                path,
                line,
                field,
            } => Error::Format {
                message,
                path: path.or_else(|| file.map(PathBuf::from)),
                line: line.or(at_line),
                field,
            },
            Error::Limit {
                what,
                value,
                limit,
                hint,
                path,
                line,
                row,
            } => Error::Limit {
                what,
                value,
                limit,
                hint,
                path: path.or_else(|| file.map(PathBuf::from)),
                line: line.or(at_line),
                row,
            },
            other => other,
        }
    }
}
