//! Text statistics for document filtering: what the Gopher rules look at, measured once for each document. The rules
//! themselves, thresholds over these columns, stand in Python (`biollm.selection`).
//!
//! The variant is datatrove's (`GopherQualityFilter`, `GopherRepetitionFilter`, version 0.10) with the words of
//! UAX #29: see [`statistics`].

mod characters;
mod interner;
mod lines;
mod repeats;
pub mod statistics;

pub use statistics::{Column, Groups, measure};
