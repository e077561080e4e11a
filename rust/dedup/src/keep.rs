//! Which document of a cluster is kept.

use biollm_core::{Monitor, Result, limits};
use biollm_text::Texts;

/// Which document of a cluster is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The one in the smallest row.
    First,
    /// The one of most bytes; among equals the smallest row.
    Longest,
    /// The one of fewest bytes; among equals the smallest row.
    Shortest,
}

/// The row kept for each row, whose cluster is named by its smallest row.
pub fn representatives(
    texts: &Texts<'_>,
    cluster: &[i64],
    keep: Keep,
    monitor: &Monitor,
) -> Result<Vec<i64>> {
    let n = cluster.len();
    let mut kept = limits::with_capacity(n, "clusters")?;
    kept.extend(0..n as i64);
    if keep != Keep::First {
        monitor.check()?;
        for row in 0..n {
            let best: &mut i64 = &mut kept[cluster[row] as usize];
            let (bytes, best_bytes) = (texts.get(row).len(), texts.get(*best as usize).len());
            let better = if keep == Keep::Longest {
                bytes > best_bytes
            } else {
                bytes < best_bytes
            };
            if better {
                *best = row as i64;
            }
        }
    }
    let mut representative = limits::with_capacity(n, "clusters")?;
    representative.extend(cluster.iter().map(|&root| kept[root as usize]));
    Ok(representative)
}
