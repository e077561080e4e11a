//! Byte-level BPE: training, encoding, decoding. Split patterns are written by hand ([`split`]); vocabularies come
//! from `tokenizer.json` ([`json`]), from `.tiktoken` files ([`tiktoken`]) or from training ([`words`], [`train`]).

pub mod added;
pub mod byte_level;
mod cache;
pub mod classes;
mod classes_table;
pub mod groups;
pub mod json;
pub mod merges;
pub mod split;
pub mod tiktoken;
pub mod tokenizer;
pub mod tokens;
pub mod train;
pub mod words;

pub use added::Allowed;
pub use split::Pattern;
pub use tokenizer::{Encoded, Options, Tokenizer};
