//! The merges of a vocabulary, and their application to one piece of text.
//!
//! Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) over bytes: of all neighbouring pairs that are merges,
//! the one of the lowest priority, and of equals the leftmost, becomes one token, until none is left.

use crate::tokens::Tokens;
use biollm_core::{Error, Monitor, Result, hash::splitmix64, limits};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Priority of what cannot be merged.
const NEVER: u32 = u32::MAX;
/// Key of an empty place: two ids that no vocabulary has.
const EMPTY: u64 = u64::MAX;
/// Pieces up to this many bytes scan for the next merge; longer ones keep a heap.
const SCANNED_BYTES: usize = 48;
/// Loop turns between two looks at the stop token.
const CHECK_TURNS: u32 = 1 << 16;

/// Merges are sorted in runs of priorities that agree above so many bits: the stop token is heeded between runs.
const SORTED_TOGETHER_BITS: u32 = 14;

/// Pair of ids → priority and id of the merged token. Flat, open addressing, at most half full.
#[derive(Clone, Default)]
pub struct Merges {
    places: Vec<(u64, u32, u32)>,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Merges {
    /// From (left, right, priority, merged). A pair given twice is an error that names its bytes.
    pub fn new(entries: &[(u32, u32, u32, u32)], tokens: &Tokens) -> Result<Self> {
        let places = (entries.len() * 2).next_power_of_two().max(2);
        let mut merges = Self {
            places: limits::filled(places, (EMPTY, NEVER, 0), "table of merges")?,
        };
        let mask = places - 1;
        for &(left, right, priority, merged) in entries {
            let pair = key(left, right);
            let mut at = splitmix64(pair) as usize & mask;
            while merges.places[at].0 != EMPTY {
                if merges.places[at].0 == pair {
                    let shown = |id| String::from_utf8_lossy(tokens.get(id).unwrap_or_default()).into_owned();
                    let message = format!(
                        "the merge of {:?} and {:?} is given twice",
                        shown(left),
                        shown(right)
                    );
                    return Err(Error::format_field("merges", message));
                }
                at = (at + 1) & mask;
            }
            merges.places[at] = (pair, priority, merged);
        }
        Ok(merges)
    }

    /// Priority and merged id of a pair; the priority is [`NEVER`] if it is no merge.
    #[inline]
    fn get(&self, left: u32, right: u32) -> (u32, u32) {
        let pair = key(left, right);
        let mask = self.places.len() - 1;
        let mut at = splitmix64(pair) as usize & mask;
        loop {
            let place = self.places[at];
            if place.0 == pair {
                return (place.1, place.2);
            }
            if place.0 == EMPTY {
                return (NEVER, 0);
            }
            at = (at + 1) & mask;
        }
    }

    /// All merges as (priority, left, right), in that order, in runs that are sorted one by one.
    pub fn sorted(&self, monitor: &Monitor) -> Result<Vec<Vec<(u32, u32, u32)>>> {
        let rank_of = |place: &(u64, u32, u32)| (place.1 >> SORTED_TOGETHER_BITS) as usize;
        let taken = || self.places.iter().filter(|place| place.0 != EMPTY);
        let runs = taken().map(rank_of).max().map_or(0, |last| last + 1);
        let mut merges: Vec<Vec<_>> = vec![Vec::new(); runs];
        for (i, place) in taken().enumerate() {
            if i.is_multiple_of(1 << 16) {
                monitor.check()?;
            }
            merges[rank_of(place)].push((place.1, (place.0 >> 32) as u32, place.0 as u32));
        }
        for run in &mut merges {
            monitor.check()?;
            run.sort_unstable();
        }
        Ok(merges)
    }

    /// Appends the ids of one piece to `ids`. `bytes_to_ids`: id of each single byte.
    #[inline]
    pub fn encode(
        &self,
        piece: &[u8],
        bytes_to_ids: &[u32; 256],
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
        monitor: &Monitor,
    ) -> Result<()> {
        let symbols = piece.iter().map(|&b| bytes_to_ids[usize::from(b)]);
        if piece.len() <= SCANNED_BYTES {
            self.scan(symbols, scratch, ids)
        } else {
            self.heap(symbols, piece.len(), scratch, ids, monitor)
        }
    }

    /// At most n²/2 comparisons of neighbours in one cache line or two: faster than a heap when short.
    #[inline]
    fn scan(
        &self,
        symbols: impl Iterator<Item = u32>,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let parts = &mut scratch.parts;
        parts.clear();
        parts.extend(symbols.map(|id| Part {
            id,
            priority: NEVER,
            merged: 0,
        }));
        for i in 1..parts.len() {
            (parts[i - 1].priority, parts[i - 1].merged) = self.get(parts[i - 1].id, parts[i].id);
        }
        loop {
            let (mut best, mut at) = (NEVER, 0);
            for (i, part) in parts.iter().enumerate() {
                if part.priority < best {
                    (best, at) = (part.priority, i);
                }
            }
            if best == NEVER {
                break;
            }
            parts[at].id = parts[at].merged;
            parts.remove(at + 1);
            (parts[at].priority, parts[at].merged) = match parts.get(at + 1) {
                Some(next) => self.get(parts[at].id, next.id),
                None => (NEVER, 0),
            };
            if at > 0 {
                (parts[at - 1].priority, parts[at - 1].merged) = self.get(parts[at - 1].id, parts[at].id);
            }
        }
        limits::reserve(ids, parts.len(), "token ids")?;
        ids.extend(parts.iter().map(|part| part.id));
        Ok(())
    }

    /// n log n: a heap of (priority, position) over a linked list. An entry is stale when its position was swallowed
    /// or now begins a pair of another priority. (Of equal priority it is the same pair: places between symbols only
    /// vanish, so a pair that spans the same bytes is split at the same place.)
    fn heap(
        &self,
        symbols: impl Iterator<Item = u32>,
        len: usize,
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
        monitor: &Monitor,
    ) -> Result<()> {
        let mut turns = 0u32;
        let mut turn = || {
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(CHECK_TURNS) {
                monitor.check()
            } else {
                Ok(())
            }
        };
        let list = &mut scratch.list;
        list.clear();
        limits::reserve(list, len, "symbols of a long piece")?;
        for (i, id) in symbols.enumerate() {
            list.push(Link {
                id,
                priority: NEVER,
                merged: 0,
                prev: (i as u32).wrapping_sub(1),
                next: i as u32 + 1,
            });
        }
        let mut entries = std::mem::take(&mut scratch.heap);
        entries.clear();
        limits::reserve(&mut entries, len, "merges of a long piece")?;
        for i in 0..len - 1 {
            turn()?;
            let (priority, merged) = self.get(list[i].id, list[i + 1].id);
            (list[i].priority, list[i].merged) = (priority, merged);
            if priority != NEVER {
                entries.push(Reverse(u64::from(priority) << 32 | i as u64));
            }
        }
        let mut heap = BinaryHeap::from(entries);
        while let Some(Reverse(entry)) = heap.pop() {
            turn()?;
            let at = (entry & u64::from(u32::MAX)) as usize;
            if list[at].priority != (entry >> 32) as u32 {
                continue;
            }
            let swallowed = list[at].next as usize;
            let next = list[swallowed].next as usize;
            list[at].id = list[at].merged;
            list[at].next = next as u32;
            list[swallowed].priority = NEVER;
            list[at].priority = NEVER;
            if next < len {
                list[next].prev = at as u32;
                self.renew(list, at, next, &mut heap);
            }
            let prev = list[at].prev as usize;
            if prev < len {
                self.renew(list, prev, at, &mut heap);
            }
        }
        scratch.heap = heap.into_vec();
        let mut at = 0;
        while at < len {
            turn()?;
            limits::reserve(ids, 1, "token ids")?;
            ids.push(list[at].id);
            at = list[at].next as usize;
        }
        Ok(())
    }

    fn renew(&self, list: &mut [Link], at: usize, next: usize, heap: &mut BinaryHeap<Reverse<u64>>) {
        let (priority, merged) = self.get(list[at].id, list[next].id);
        (list[at].priority, list[at].merged) = (priority, merged);
        if priority != NEVER {
            heap.push(Reverse(u64::from(priority) << 32 | at as u64));
        }
    }
}

/// Memory that is reused from piece to piece.
#[derive(Default)]
pub struct Scratch {
    parts: Vec<Part>,
    list: Vec<Link>,
    heap: Vec<Reverse<u64>>,
}

impl Scratch {
    /// Gives back what a long piece took.
    pub fn shrink(&mut self) {
        if self.list.capacity() > CHECK_TURNS as usize {
            *self = Self::default();
        }
    }
}

/// A symbol, and the merge with its right neighbour.
struct Part {
    id: u32,
    priority: u32,
    merged: u32,
}

/// A symbol in a linked list by position. The first one's `prev` is over every position.
struct Link {
    id: u32,
    priority: u32,
    merged: u32,
    prev: u32,
    next: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids are bytes; a few merges.
    fn merges() -> (Merges, [u32; 256]) {
        let tokens = Tokens::new((0..256).map(|b| (b, vec![b as u8])).collect()).unwrap();
        let (a, b) = (u32::from(b'a'), u32::from(b'b'));
        let entries = [
            (a, a, 0, 256),
            (256, 256, 1, 257),
            (a, b, 2, 258),
            (257, 257, 3, 259),
            (256, b, 4, 260),
        ];
        let mut bytes = [0; 256];
        for (i, id) in bytes.iter_mut().enumerate() {
            *id = i as u32;
        }
        (Merges::new(&entries, &tokens).unwrap(), bytes)
    }

    #[test]
    fn heap_equals_scan() {
        let (merges, bytes) = merges();
        let mut x = 1u64;
        let mut scratch = Scratch::default();
        for len in 1..400usize {
            let piece: Vec<u8> = (0..len)
                .map(|_| {
                    x = splitmix64(x);
                    if x.is_multiple_of(5) { b'b' } else { b'a' }
                })
                .collect();
            let symbols = || piece.iter().map(|&b| bytes[usize::from(b)]);
            let (mut scanned, mut heaped) = (vec![], vec![]);
            merges.scan(symbols(), &mut scratch, &mut scanned).unwrap();
            merges
                .heap(symbols(), len, &mut scratch, &mut heaped, &Monitor::new())
                .unwrap();
            assert_eq!(scanned, heaped);
        }
    }

    #[test]
    fn leftmost_of_equals() {
        let (merges, bytes) = merges();
        let mut ids = vec![];
        merges
            .encode(
                b"aaab",
                &bytes,
                &mut Scratch::default(),
                &mut ids,
                &Monitor::new(),
            )
            .unwrap();
        assert_eq!(ids, [256, 258]);
    }

    #[test]
    fn a_stopped_long_piece_ends() {
        let (merges, bytes) = merges();
        let monitor = Monitor::new();
        monitor.stop();
        let piece = vec![b'a'; 1 << 17];
        let r = merges.encode(&piece, &bytes, &mut Scratch::default(), &mut vec![], &monitor);
        assert!(matches!(r, Err(Error::Stopped)));
    }

    #[test]
    fn a_pair_twice_is_an_error() {
        let tokens = Tokens::new(vec![(0, b"a".to_vec()), (1, b"aa".to_vec())]).unwrap();
        assert!(Merges::new(&[(0, 0, 0, 1), (0, 0, 1, 1)], &tokens).is_err());
    }
}
