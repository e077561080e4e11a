//! Disjoint sets of rows, each known by its smallest row.

use biollm_core::{Result, limits};

/// Rows 0..n in disjoint sets. The root of a set is always its smallest row, so the sets and their names do not
/// depend on the order of the unions.
pub struct UnionFind {
    parents: Vec<u32>,
}

impl UnionFind {
    /// Each of `n` rows by itself; `n` fits a u32 (`limits::MAX_ROWS`).
    pub fn new(n: usize) -> Result<Self> {
        let mut parents = limits::with_capacity(n, "clusters")?;
        parents.extend(0..n as u32);
        Ok(Self { parents })
    }

    /// The smallest row of the set of `row`.
    #[inline]
    pub fn find(&self, mut row: u32) -> u32 {
        while self.parents[row as usize] != row {
            row = self.parents[row as usize];
        }
        row
    }

    /// Joins two sets. Halves the paths it walks.
    pub fn union(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find_halving(a), self.find_halving(b));
        let (low, high) = (a.min(b), a.max(b));
        self.parents[high as usize] = low;
    }

    fn find_halving(&mut self, mut row: u32) -> u32 {
        while self.parents[row as usize] != row {
            let grandparent = self.parents[self.parents[row as usize] as usize];
            self.parents[row as usize] = grandparent;
            row = grandparent;
        }
        row
    }

    /// Lets every row point at its root, so that `find` takes one step.
    pub fn flatten(&mut self) {
        for row in 0..self.parents.len() {
            // A parent is never larger than its child, so it is flat already.
            self.parents[row] = self.parents[self.parents[row] as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use biollm_core::hash::splitmix64;

    #[test]
    fn roots_are_the_smallest_rows_in_any_order() {
        let mut edges: Vec<(u32, u32)> = (0..150u64)
            .map(|i| ((splitmix64(i) % 200) as u32, (splitmix64(i + 999) % 200) as u32))
            .collect();
        let roots = |edges: &[(u32, u32)], flatten: bool| {
            let mut sets = UnionFind::new(200).unwrap();
            edges.iter().for_each(|&(a, b)| sets.union(a, b));
            if flatten {
                sets.flatten();
            }
            (0..200).map(|row| sets.find(row)).collect::<Vec<_>>()
        };
        let want = roots(&edges, false);
        assert_eq!(roots(&edges, true), want);
        edges.reverse();
        edges.iter_mut().for_each(|(a, b)| std::mem::swap(a, b));
        assert_eq!(roots(&edges, true), want);
        for row in 0..200 {
            assert!(want[row as usize] <= row && want[want[row as usize] as usize] == want[row as usize]);
        }
        for (a, b) in edges {
            assert_eq!(want[a as usize], want[b as usize]);
        }
    }
}
