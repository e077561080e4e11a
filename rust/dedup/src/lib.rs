//! Fuzzy deduplication: MinHash LSH (Broder 1997; banding as in Leskovec, Rajaraman, Ullman, *Mining of Massive
//! Datasets*, section 3.4) whose candidates are verified by the exact Jaccard similarity of their shingle sets.

mod exact;
mod fuzzy;
mod groups;
mod minhash;
mod sets;
mod shingles;
mod signatures;
mod union_find;
mod verify;

pub use fuzzy::{Clusters, Keep, Options, Pair, dedup_fuzzy, dedup_signatures};
pub use minhash::{MAX_PERMUTATIONS, MinHash};
pub use shingles::{Shingling, Unit};
