//! The ground every kernel stands on: errors, declared limits, bounded readers, an atomic writer,
//! a stop token and a thread pool. Nothing here knows Python.

pub mod atomic;
pub mod decode;
pub mod error;
mod gzip;
pub mod hash;
pub mod limits;
pub mod lines;
pub mod monitor;
pub mod pool;

pub use error::{Error, Result};
pub use monitor::Monitor;
pub use pool::Pool;
