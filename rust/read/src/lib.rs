//! Files of documents as batches of columns: JSON Lines, a document a line, a document a file.

pub mod columns;
mod record;
pub mod reader;

pub use columns::{Batch, OptionalTexts, Rejected, TextColumn};
pub use reader::{Format, Options, Reader};

#[cfg(test)]
mod tests;
