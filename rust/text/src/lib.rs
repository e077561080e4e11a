//! What kernels that read text share: validated text columns, words, n-gram hashes, JSON fields.

pub mod json;
pub mod ngrams;
pub mod normal;
pub mod runs;
pub mod texts;
pub mod word_blocks;
pub mod words;

pub use normal::{Normalization, Normalizer};
pub use runs::{AlphanumericRuns, alphanumeric_runs};
pub use texts::{Chunk, Texts};
pub use word_blocks::visit_words;
pub use words::{Words, words};
