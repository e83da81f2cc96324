//! Which rows are looked at where all would take too long: spread over the whole dataset, chosen by a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use shards::reader::RowGroup;

/// Row groups are the unit of reading; a sample is drawn from at least so many, so that it is not all of one trajectory.
const GROUPS: u64 = 64;

/// Rows to look at in one row group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The row group.
    pub group: RowGroup,
    /// Indices of rows in it, ascending.
    pub rows: Vec<usize>,
}

/// Chooses `limit` rows, or all if there are no more. Row groups are drawn one from each of as many stretches of equal
/// length, rows likewise from those of the drawn groups together: the dataset's beginning, middle and end are all seen.
pub fn choose(groups: &[RowGroup], limit: u64, seed: u64) -> Vec<Chosen> {
    let rows = |groups: &[RowGroup]| groups.iter().map(|g| g.rows.end - g.rows.start).sum::<u64>();
    let (all, count) = (rows(groups), groups.len() as u64);
    if all == 0 {
        return vec![];
    }
    let wanted = (limit * count).div_ceil(all).max(GROUPS).min(count);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let drawn: Vec<RowGroup> =
        strata(count, wanted, &mut random).into_iter().map(|g| groups[g as usize].clone()).collect();
    let reachable = rows(&drawn);
    let mut picks = strata(reachable, limit.min(reachable), &mut random).into_iter().peekable();
    let mut before = 0;
    let mut chosen = vec![];
    for group in drawn {
        let end = before + group.rows.end - group.rows.start;
        let mut inside = vec![];
        while let Some(pick) = picks.next_if(|&pick| pick < end) {
            inside.push((pick - before) as usize);
        }
        if !inside.is_empty() {
            chosen.push(Chosen { group, rows: inside });
        }
        before = end;
    }
    chosen
}

/// One number out of each of `count` stretches of `0..total`, ascending.
fn strata(total: u64, count: u64, random: &mut ChaCha8Rng) -> Vec<u64> {
    let edge = |k: u64| (u128::from(total) * u128::from(k) / u128::from(count)) as u64;
    (0..count).map(|k| edge(k) + random.next_u64() % (edge(k + 1) - edge(k))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(count: u64, rows: u64) -> Vec<RowGroup> {
        (0..count).map(|i| RowGroup { part: 0, index: i as usize, rows: i * rows..(i + 1) * rows }).collect()
    }

    fn picked(chosen: &[Chosen]) -> Vec<u64> {
        chosen.iter().flat_map(|c| c.rows.iter().map(|&r| c.group.rows.start + r as u64)).collect()
    }

    #[test]
    fn small_datasets_are_taken_whole() {
        assert_eq!(picked(&choose(&groups(7, 10), 100, 0)), (0..70).collect::<Vec<_>>());
        assert!(choose(&[], 10, 0).is_empty());
    }

    #[test]
    fn samples_are_spread_exact_and_seeded() {
        let groups = groups(1000, 50);
        let chosen = choose(&groups, 640, 1);
        let rows = picked(&chosen);
        assert_eq!((chosen.len(), rows.len()), (64, 640));
        assert!(rows.windows(2).all(|w| w[0] < w[1]));
        // Each 64th of the row groups gives one of them, and that gives ten rows.
        for (k, chosen) in chosen.iter().enumerate() {
            assert!((1000 * k / 64..1000 * (k + 1) / 64).contains(&chosen.group.index), "{k}");
            assert_eq!(chosen.rows.len(), 10, "{k}");
        }
        assert_eq!(choose(&groups, 640, 1), chosen);
        assert_ne!(choose(&groups, 640, 2), chosen);
    }
}
