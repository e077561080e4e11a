//! PubMed and JATS as columns: streamed, never held as a tree. The tokenizer checks that a file is well-formed; a
//! stack of places, one an open element, decides what each text is for.

mod asides;
mod columns;
mod doctype;
mod entities;
mod entities_table;
mod flow;
mod jats;
mod loose;
mod markup;
mod names;
mod options;
mod pubmed;
mod reader;
mod record;
mod scan;
mod source;
mod tar;
#[cfg(test)]
mod tests;
mod tokens;
mod versions;
mod walk;
mod window;

pub use columns::{OptionalNumbers, Sections, TextLists, XmlBatch};
pub use options::{Identifier, Part, XmlOptions};
pub use reader::XmlReader;
pub use scan::{ScanFile, ScanOptions, Scanned, scan_pubmed};
