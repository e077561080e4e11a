//! Deduplication.
//!
//! Fuzzy: MinHash LSH (Broder 1997; banding as in Leskovec, Rajaraman, Ullman, *Mining of Massive Datasets*, section 3.4)
//! whose candidates are verified by the exact Jaccard similarity of their shingle sets. Exact: documents or URLs whose
//! normal forms are equal, byte for byte; and lines, paragraphs and sentences that an earlier document has.

mod exact;
mod fuzzy;
mod groups;
mod keep;
mod minhash;
mod pieces;
mod sets;
mod shingles;
mod signatures;
mod union_find;
mod url;
mod verify;
mod whole;

pub use fuzzy::{Clusters, Options, Pair, dedup_fuzzy, dedup_signatures};
pub use keep::Keep;
pub use minhash::{MAX_PERMUTATIONS, MinHash};
pub use pieces::{Pieces, Repeats, Unit as PieceUnit, dedup_pieces};
pub use shingles::{Shingling, Unit};
pub use url::{TRACKING_PARAMETERS, normalize_url};
pub use whole::{Copies, dedup_exact, dedup_url};
