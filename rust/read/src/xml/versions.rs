//! Which records of PubMed files are in force: a later record with the same PMID replaces every earlier one, a later
//! `DeleteCitation` removes them (NLM's rules for the baseline and its update files).
//!
//! The files are gone through from the last to the first, so all that must be known of a PMID is which came last: two
//! bits for each of NLM's numbers, and four bytes for each record.

use super::record::is_digits;
use biollm_core::{Error, Monitor, Result, limits};
use std::collections::HashMap;

/// PMIDs below this have their bits in an array: about three times the highest one of 2026.
const DENSE: u64 = 1 << 27;

const DELETION: u32 = 1 << 31;
const OTHER: u32 = 1 << 30;
const VALUE: u32 = OTHER - 1;

/// The records and deletions of a file, in its order.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// A PMID below [`DENSE`], 0 where a record has none; or, with the bit [`OTHER`], the place in `others`.
    coded: Vec<u32>,
    others: Vec<u64>,
    pub(super) records: u64,
}

/// What is known of a PMID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Nothing,
    Record,
    Deletion,
}

/// Which of a file's records are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Records met, bad ones among them.
    pub records: u64,
    /// A bit a record, least significant first.
    pub left_out: Vec<u8>,
    /// How many a later record replaced.
    pub replaced: u64,
    /// How many a later deletion removed.
    pub deleted: u64,
}

impl Events {
    /// Counts a record; without a PMID of digits it takes no part.
    pub(super) fn record(&mut self, pmid: &[u8]) -> Result<()> {
        let limit = limits::MAX_ROWS as u64;
        if self.records >= limit {
            return Err(Error::limit(
                "records of a file",
                self.records + 1,
                limit,
                "split the file",
            ));
        }
        self.records += 1;
        self.push(pmid, 0)
    }

    /// Notes a deletion.
    pub(super) fn deletion(&mut self, pmid: &[u8]) -> Result<()> {
        if !is_digits(pmid) {
            let pmid = String::from_utf8_lossy(&pmid[..pmid.len().min(40)]);
            return Err(Error::format_field(
                "pmid",
                format!("a DeleteCitation holds {pmid:?}, which is no PMID"),
            ));
        }
        self.push(pmid, DELETION)
    }

    fn push(&mut self, pmid: &[u8], bit: u32) -> Result<()> {
        let key = key(pmid);
        let value = if (key < DENSE && key > 0) || !is_digits(pmid) {
            key as u32
        } else {
            limits::reserve(&mut self.others, 1, "PMIDs")?;
            self.others.push(key);
            OTHER | (self.others.len() - 1) as u32 & VALUE
        };
        limits::reserve(&mut self.coded, 1, "PMIDs")?;
        self.coded.push(value | bit);
        Ok(())
    }
}

/// A number for a PMID: itself where it is written as numbers are.
fn key(pmid: &[u8]) -> u64 {
    if !is_digits(pmid) {
        return 0;
    }
    if pmid.len() > 18 || pmid[0] == b'0' {
        return xxhash_rust::xxh3::xxh3_64(pmid) | 1 << 63;
    }
    pmid.iter()
        .fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
}

/// What came last of each PMID.
#[derive(Default)]
struct Known {
    /// Two bits each.
    dense: Vec<u8>,
    others: HashMap<u64, Later>,
}

impl Known {
    /// What is known of a PMID, and notes what is to be known from now on.
    fn replace(&mut self, key: u64, later: Later) -> Result<Later> {
        if key >= DENSE {
            self.others.try_reserve(1).map_err(|_| Error::Memory {
                what: "PMIDs",
                bytes: 16 * self.others.len() as u64,
            })?;
            return Ok(self.others.insert(key, later).unwrap_or(Later::Nothing));
        }
        let (byte, shift) = ((key / 4) as usize, key % 4 * 2);
        if byte >= self.dense.len() {
            let more = (byte + 1).next_power_of_two() - self.dense.len();
            limits::reserve(&mut self.dense, more, "PMIDs")?;
            self.dense.resize(self.dense.len() + more, 0);
        }
        let known = match self.dense[byte] >> shift & 3 {
            0 => Later::Nothing,
            1 => Later::Record,
            _ => Later::Deletion,
        };
        self.dense[byte] = self.dense[byte] & !(3 << shift) | (later as u8) << shift;
        Ok(known)
    }
}

/// Resolves the versions of all files, given in the order in which they hold.
pub(super) fn resolve(files: &[Events], monitor: &Monitor) -> Result<Vec<Scanned>> {
    let mut known = Known::default();
    let mut out = limits::with_capacity(files.len(), "results of files")?;
    for events in files.iter().rev() {
        let bytes = usize::try_from(events.records.div_ceil(8)).unwrap_or(usize::MAX);
        let mut scanned = Scanned {
            records: events.records,
            left_out: limits::filled(bytes, 0, "records to leave out")?,
            ..Scanned::default()
        };
        let mut row = events.records;
        for (number, &coded) in events.coded.iter().rev().enumerate() {
            if number % 65_536 == 0 {
                monitor.check()?;
            }
            let value = coded & VALUE;
            let key = if coded & OTHER == 0 {
                u64::from(value)
            } else {
                events.others.get(value as usize).copied().unwrap_or(0)
            };
            if coded & DELETION != 0 {
                known.replace(key, Later::Deletion)?;
                continue;
            }
            row -= 1;
            if key == 0 && coded & OTHER == 0 {
                continue;
            }
            match known.replace(key, Later::Record)? {
                Later::Nothing => continue,
                Later::Record => scanned.replaced += 1,
                Later::Deletion => scanned.deleted += 1,
            }
            scanned.left_out[(row / 8) as usize] |= 1 << (row % 8);
        }
        out.push(scanned);
    }
    out.reverse();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(list: &[&str]) -> Events {
        let mut events = Events::default();
        for item in list {
            match item.strip_prefix('-') {
                Some(pmid) => events.deletion(pmid.as_bytes()).unwrap(),
                None => events.record(item.as_bytes()).unwrap(),
            }
        }
        events
    }

    #[test]
    fn later_records_replace_and_deletions_remove() {
        let files = [
            events(&["1", "2", "3", "1", "", "x", "0", "00", "99999999999999999999"]),
            events(&["2", "-3", "4", "-2", "5", "99999999999999999999", "0"]),
            events(&["3", "00", "-9", "134217728", "134217728", "5"]),
        ];
        let got = resolve(&files, &Monitor::new()).unwrap();
        let bits: Vec<_> = got.iter().map(|s| s.left_out.clone()).collect();
        assert_eq!(bits, [vec![0b1100_0111, 1], vec![0b0000_0101], vec![0b100]]);
        let counts: Vec<_> = got.iter().map(|s| (s.records, s.replaced, s.deleted)).collect();
        // Of file 0: 1, 2, 0, 00 and the long one replaced, 3 deleted; of file 1: 2 deleted, 5 replaced.
        assert_eq!(counts, [(9, 5, 1), (5, 1, 1), (5, 1, 0)]);
    }

    #[test]
    fn a_deletion_needs_a_number() {
        assert!(matches!(
            Events::default().deletion(b"x1"),
            Err(Error::Format { .. })
        ));
    }

    #[test]
    fn against_a_slow_twin() {
        let mut state = 1u64;
        let mut next = |n: u64| {
            state = biollm_core::hash::splitmix64(state);
            state % n
        };
        for round in 0..200 {
            // Across the border of the dense PMIDs now and then: its array takes a while to make.
            let least = if round % 50 == 0 { DENSE - 3 } else { 1 };
            let mut all: Vec<Vec<(bool, u64)>> = Vec::new();
            for _ in 0..1 + next(4) {
                let length = next(20);
                all.push((0..length).map(|_| (next(4) == 0, least + next(6))).collect());
            }
            let files: Vec<Events> = all
                .iter()
                .map(|file| {
                    let mut events = Events::default();
                    for (deletion, pmid) in file {
                        let text = pmid.to_string();
                        let done = if *deletion {
                            events.deletion(text.as_bytes())
                        } else {
                            events.record(text.as_bytes())
                        };
                        done.unwrap();
                    }
                    events
                })
                .collect();
            let flat: Vec<(usize, bool, u64)> = all
                .iter()
                .enumerate()
                .flat_map(|(i, file)| file.iter().map(move |&(d, p)| (i, d, p)))
                .collect();
            let mut want = vec![(0, 0, Vec::new()); all.len()];
            for (at, &(file, deletion, pmid)) in flat.iter().enumerate() {
                if deletion {
                    continue;
                }
                let later = flat[at + 1..].iter().find(|&&(_, _, p)| p == pmid);
                want[file].0 += u64::from(matches!(later, Some((_, false, _))));
                want[file].1 += u64::from(matches!(later, Some((_, true, _))));
                want[file].2.push(later.is_some());
            }
            for (scanned, (replaced, deleted, bits)) in
                resolve(&files, &Monitor::new()).unwrap().iter().zip(want)
            {
                assert_eq!((scanned.replaced, scanned.deleted), (replaced, deleted));
                for (row, bit) in bits.iter().enumerate() {
                    assert_eq!(scanned.left_out[row / 8] >> (row % 8) & 1 == 1, *bit);
                }
            }
        }
    }
}
