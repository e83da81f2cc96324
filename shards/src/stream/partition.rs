//! Dividing structures so that no part has much more to do than another. The same result on every rank.

use super::random::KeyedRng;

/// The reference's balanced partition: largest first, each to the part with the smallest load so far.
///
/// Equal loads are decided by comparing the parts' lists; parts come out in the order of a binary heap's array, as
/// Python's `heapq` keeps it (training/mixing.json of the goldens). Equal sizes keep their order. Returns indices into
/// `sizes`, in the order in which they were given away; fewer parts than asked for if there are fewer sizes.
pub(crate) fn balanced(sizes: &[u64], parts: usize) -> Vec<Vec<usize>> {
    if parts <= 1 {
        // A single process takes its batch as it is.
        return if sizes.is_empty() { Vec::new() } else { vec![(0..sizes.len()).collect()] };
    }
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(sizes[i]));
    let (first, rest) = order.split_at(parts.min(order.len()));
    let mut heap: Vec<(u64, Vec<usize>)> = first.iter().map(|&i| (sizes[i], vec![i])).collect();
    for at in (0..heap.len() / 2).rev() {
        sift_up(&mut heap, at);
    }
    for &i in rest {
        let (load, mut list) = pop(&mut heap);
        list.push(i);
        heap.push((load + sizes[i], list));
        let last = heap.len() - 1;
        sift_down(&mut heap, 0, last);
    }
    heap.into_iter().map(|(_, list)| list).collect()
}

/// `heapq.heappop` of a heap that is not empty.
fn pop<T: Ord + Default>(heap: &mut Vec<T>) -> T {
    let last = heap.pop().unwrap_or_default();
    if heap.is_empty() {
        return last;
    }
    let least = std::mem::replace(&mut heap[0], last);
    sift_up(heap, 0);
    least
}

/// `heapq._siftup`: to the bottom along the smaller children, then up to its place.
fn sift_up<T: Ord>(heap: &mut [T], start: usize) {
    let mut at = start;
    while 2 * at + 1 < heap.len() {
        let left = 2 * at + 1;
        let child = if left + 1 < heap.len() && heap[left] >= heap[left + 1] { left + 1 } else { left };
        heap.swap(at, child);
        at = child;
    }
    sift_down(heap, start, at);
}

/// `heapq._siftdown`: from `at` towards `start` until its parent is no larger.
fn sift_down<T: Ord>(heap: &mut [T], start: usize, mut at: usize) {
    while at > start {
        let parent = (at - 1) / 2;
        if heap[at] >= heap[parent] {
            break;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

/// Divides into `parts` of exactly `sizes.len() / parts` each with loads as equal as may be: largest first, each to the
/// part with the smallest load among those with room. The parts are shuffled, as the first holds the largest.
///
/// `sizes.len()` must be a multiple of `parts`. Returns indices into `sizes`, ascending in each part.
pub(crate) fn level(sizes: &[u64], parts: usize, rng: &mut KeyedRng) -> Vec<Vec<usize>> {
    let room = sizes.len() / parts;
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(sizes[i]));
    let mut heap: std::collections::BinaryHeap<std::cmp::Reverse<(u64, usize)>> =
        (0..parts).map(|part| std::cmp::Reverse((0, part))).collect();
    let mut lists: Vec<Vec<usize>> = vec![Vec::with_capacity(room); parts];
    for i in order {
        let Some(std::cmp::Reverse((load, part))) = heap.pop() else { break };
        lists[part].push(i);
        if lists[part].len() < room {
            heap.push(std::cmp::Reverse((load + sizes[i], part)));
        }
    }
    lists.iter_mut().for_each(|list| list.sort_unstable());
    rng.shuffle(&mut lists);
    lists
}

/// The rank of each micro-batch of a global batch.
///
/// Rank `r` of `ranks` has the micro-batches from `⌈r·M/ranks⌉` on as its quota, so that it needs few lanes. Which ones
/// of a lane it takes is decided by cost: largest first, each to the rank with the smallest load that has room in the lane.
/// `costs` holds one entry a micro-batch, `per_lane` consecutive ones a lane.
pub(crate) fn owners(costs: &[u64], per_lane: usize, ranks: u32) -> Vec<u32> {
    let total = costs.len();
    let home = |i: usize| (i as u64 * u64::from(ranks) / total as u64) as u32;
    let mut owners: Vec<u32> = (0..total).map(home).collect();
    let mut loads = std::collections::BTreeMap::new();
    // Lanes of one rank first: nothing is to be decided there.
    let shared = |lane: usize| home(lane * per_lane) != home(((lane + 1) * per_lane - 1).min(total - 1));
    let lanes = total.div_ceil(per_lane);
    for lane in (0..lanes).filter(|&lane| !shared(lane)) {
        let range = lane * per_lane..((lane + 1) * per_lane).min(total);
        *loads.entry(home(range.start)).or_insert(0) += costs[range.clone()].iter().sum::<u64>();
    }
    for lane in (0..lanes).filter(|&lane| shared(lane)) {
        let range = lane * per_lane..((lane + 1) * per_lane).min(total);
        let mut quota = std::collections::BTreeMap::new();
        range.clone().for_each(|i| *quota.entry(home(i)).or_insert(0usize) += 1);
        let mut order: Vec<usize> = range.collect();
        order.sort_by_key(|&i| std::cmp::Reverse(costs[i]));
        for i in order {
            let open = quota.iter().filter(|(_, room)| **room > 0).map(|(rank, _)| *rank);
            let Some(rank) = open.min_by_key(|rank| loads.get(rank).copied().unwrap_or(0)) else { continue };
            *quota.entry(rank).or_insert(1) -= 1;
            *loads.entry(rank).or_insert(0) += costs[i];
            owners[i] = rank;
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use proptest::prelude::*;

    fn loads(sizes: &[u64], parts: &[Vec<usize>]) -> Vec<u64> {
        parts.iter().map(|part| part.iter().map(|&i| sizes[i]).sum()).collect()
    }

    #[allow(clippy::disallowed_methods, reason = "where golden files lie is the tests' own setting")]
    fn golden() -> serde_json::Value {
        let default = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens/training"));
        let dir = std::env::var("JMP_TRAINING_GOLDEN_DIR").map_or(default, PathBuf::from);
        let file = dir.join("mixing.json");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn partitions_equal_the_reference() {
        let golden = golden();
        let cases = golden["balanced_partition"].as_array().unwrap();
        assert!(cases.len() >= 7);
        for case in cases {
            let sizes: Vec<u64> = serde_json::from_value(case["sizes"].clone()).unwrap();
            let parts = case["num_parts"].as_u64().unwrap() as usize;
            let expected: Vec<Vec<usize>> = serde_json::from_value(case["partition"].clone()).unwrap();
            let got = balanced(&sizes, parts);
            let sorted = |parts: &[Vec<usize>]| {
                let mut loads = loads(&sizes, parts);
                loads.sort_unstable();
                loads
            };
            if parts == 1 || case["has_ties"] == true {
                // The reference's sort is not stable; a single part is left in the sampler's order.
                assert_eq!(sorted(&got), sorted(&expected));
            } else {
                assert_eq!(got, expected);
            }
        }
    }

    proptest! {
        #[test]
        fn every_structure_is_in_one_part(sizes in prop::collection::vec(1u64..300, 0..80), parts in 1usize..9) {
            let got = balanced(&sizes, parts);
            let mut all: Vec<usize> = got.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
            prop_assert!(got.iter().all(|part| !part.is_empty()));
            // The greedy rule's bound: no part exceeds the smallest by more than the largest structure.
            if parts > 1 && got.len() == parts {
                let loads = loads(&sizes, &got);
                let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
                prop_assert!(spread <= *sizes.iter().max().unwrap());
            }
        }

        #[test]
        fn level_parts_have_equal_counts(parts in 1usize..9, room in 1usize..9, seed in any::<u64>()) {
            let mut rng = KeyedRng::new("sizes", &[seed]);
            let sizes: Vec<u64> = (0..parts * room).map(|_| 20 + rng.below(200)).collect();
            let got = level(&sizes, parts, &mut rng);
            prop_assert!(got.iter().all(|part| part.len() == room));
            let mut all: Vec<usize> = got.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len()).collect::<Vec<_>>());
        }

        #[test]
        fn owners_keep_quotas_and_few_lanes(
            lanes in 1usize..9, per_lane in 1usize..5, ranks in 1u32..20, seed in any::<u64>()
        ) {
            let mut rng = KeyedRng::new("costs", &[seed]);
            let costs: Vec<u64> = (0..lanes * per_lane).map(|_| 1 + rng.below(100)).collect();
            let got = owners(&costs, per_lane, ranks);
            for rank in 0..ranks {
                let own: Vec<usize> = (0..costs.len()).filter(|&i| got[i] == rank).collect();
                let even = costs.len() as u32 / ranks;
                prop_assert!((even..=even + 1).contains(&(own.len() as u32)));
                let mut touched: Vec<usize> = own.iter().map(|i| i / per_lane).collect();
                touched.dedup();
                // A stretch of n consecutive micro-batches touches no more lanes.
                prop_assert!(touched.len() <= own.len().div_ceil(per_lane) + 1);
            }
        }
    }

    #[test]
    fn level_parts_are_much_more_even_than_chance() {
        let mut rng = KeyedRng::new("test", &[]);
        let sizes: Vec<u64> = (0..512).map(|_| 20 + rng.below(180)).collect();
        let loads = loads(&sizes, &level(&sizes, 64, &mut rng));
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        assert!(most - least < 30, "{least} to {most}");
    }
}
