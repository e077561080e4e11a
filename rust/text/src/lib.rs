//! What kernels that read text share: validated text columns, words, n-gram hashes, JSON fields.

pub mod json;
pub mod ngrams;
pub mod texts;
pub mod words;

pub use texts::{Chunk, Texts};
pub use words::{AlphanumericRuns, Words, alphanumeric_runs, words};
