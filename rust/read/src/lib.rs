//! Files of documents as batches of columns: JSON Lines, a document a line, a document a file.

pub mod columns;
pub mod options;
pub mod reader;
mod record;

pub use columns::{Batch, OptionalTexts, Rejected, TextColumn};
pub use options::{Format, Options};
pub use reader::Reader;

#[cfg(test)]
mod tests;
