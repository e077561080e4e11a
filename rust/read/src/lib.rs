//! Files of documents as batches of columns: JSON Lines, a document a line, a document a file, PubMed, JATS.

pub mod columns;
pub mod options;
pub mod parquet_pages;
pub mod reader;
mod record;
mod thrift;
pub mod xml;

pub use columns::{Batch, OptionalTexts, Rejected, TextColumn};
pub use options::{Format, Options};
pub use reader::Reader;
pub use xml::{ScanFile, ScanOptions, Scanned, XmlBatch, XmlOptions, XmlReader, scan_pubmed};

#[cfg(test)]
mod tests;
