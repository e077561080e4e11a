//! Fuzzy deduplication: MinHash LSH (Broder 1997; banding as in Leskovec, Rajaraman, Ullman, *Mining of Massive
//! Datasets*, section 3.4) whose candidates are verified by the exact Jaccard similarity of their shingle sets.

mod bands;
mod exact;
mod fuzzy;
mod minhash;
mod sets;
mod shingles;
mod union_find;
mod verify;

pub use fuzzy::{Clusters, Keep, Options, Pair, dedup_fuzzy};
pub use minhash::MAX_PERMUTATIONS;
pub use shingles::{Shingling, Unit};
