use super::Edges;

/// The symmetrised graph and, for each of its edges, the number of its reverse.
///
/// As the reference does it: of the given edges only those with source < target are kept (between images of one atom:
/// those with a lexicographically negative shift), and each is joined by its mirror image. So the result depends on
/// the order of atoms, and an atom's degree may exceed the limit that the given graph kept.
pub(super) fn symmetrise(graph: &Edges) -> (Edges, Vec<u32>) {
    let atoms = graph.atoms();
    // Each row in order: kept (source < target), negative shifts of itself, positive ones, mirrored (source > target).
    let (mut kept, mut own, mut mirrored) = (vec![0u32; atoms], vec![0u32; atoms], vec![0u32; atoms]);
    for t in 0..atoms {
        for e in graph.row(t) {
            let s = graph.source[e] as usize;
            if s < t {
                kept[t] += 1;
                mirrored[s] += 1;
            } else if s == t && graph.shift[e] < [0; 3] {
                own[t] += 1;
            }
        }
    }
    let mut offsets = Vec::with_capacity(atoms + 1);
    offsets.push(0u32);
    for t in 0..atoms {
        offsets.push(offsets[t] + kept[t] + 2 * own[t] + mirrored[t]);
    }
    let total = offsets[atoms] as usize;
    let mut symmetric = Edges { offsets, source: vec![0; total], shift: vec![[0; 3]; total] };
    let mut reverse = vec![0u32; total];
    // Mirrored edges are appended by descending shift of the originals, which ascends once negated.
    let mut next_mirrored: Vec<u32> =
        (0..atoms).map(|t| symmetric.offsets[t] + kept[t] + 2 * own[t]).collect();
    for t in 0..atoms {
        let begin = symmetric.offsets[t];
        let (mut at_kept, mut at_own, mut at_positive) =
            (begin + kept[t], begin + kept[t] + own[t], begin + kept[t] + own[t]);
        for e in graph.row(t).rev() {
            let (s, o) = (graph.source[e] as usize, graph.shift[e]);
            let (forward, backward) = if s < t {
                at_kept -= 1;
                next_mirrored[s] += 1;
                (at_kept, next_mirrored[s] - 1)
            } else if s == t && o < [0; 3] {
                at_own -= 1;
                at_positive += 1;
                (at_own, at_positive - 1)
            } else {
                continue;
            };
            let (f, b) = (forward as usize, backward as usize);
            symmetric.source[f] = s as u32;
            symmetric.shift[f] = o;
            symmetric.source[b] = t as u32;
            symmetric.shift[b] = o.map(|n| -n);
            reverse[f] = backward;
            reverse[b] = forward;
        }
    }
    (symmetric, reverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows come out sorted, and reversing twice is the identity.
    #[test]
    fn rows_are_sorted_and_every_edge_has_its_reverse() {
        let rows: [&[(u32, [i16; 3])]; 3] = [
            &[(0, [-1, 0, 0]), (0, [1, 0, 0]), (1, [0, 0, 0]), (2, [0, 0, 0])],
            &[(0, [0, 0, 0]), (0, [1, 0, 0]), (1, [0, -1, 0]), (1, [0, 0, -1])],
            &[(0, [-1, 0, 2]), (0, [0, 0, 0]), (1, [0, 1, 0])],
        ];
        let mut graph = Edges::with_capacity(3, 16);
        for row in rows {
            row.iter().for_each(|(s, o)| graph.push(*s, *o));
            graph.end_row();
        }
        let (symmetric, reverse) = symmetrise(&graph);
        let targets = symmetric.targets();
        assert_eq!(symmetric.len(), 16);
        for t in 0..3 {
            let keys: Vec<_> = symmetric.row(t).map(|e| symmetric.key(e)).collect();
            assert!(keys.is_sorted(), "row {t}: {keys:?}");
        }
        for e in 0..symmetric.len() {
            let r = reverse[e] as usize;
            assert_eq!(reverse[r] as usize, e);
            assert_eq!(symmetric.source[r], targets[e]);
            assert_eq!(symmetric.shift[r], symmetric.shift[e].map(|n| -n));
        }
    }
}
