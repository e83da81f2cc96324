use proptest::prelude::*;

use super::{
    Edges, Geometry, GraphBatch, GraphCounts, GraphError, GraphSpec, NONE, NeighborList, Quadruplets,
    StructureGraph, Triplets,
};

/// A structure that owns its arrays.
#[derive(Debug, Clone)]
struct Sample {
    positions: Vec<[f64; 3]>,
    cell: Option<[[f64; 3]; 3]>,
    pbc: [bool; 3],
    tags: Vec<u8>,
}

impl Sample {
    fn geometry(&self) -> Geometry<'_> {
        Geometry { positions: &self.positions, cell: self.cell, pbc: self.pbc, tags: Some(&self.tags) }
    }

    fn molecule(positions: &[[f64; 3]]) -> Self {
        let tags = vec![2; positions.len()];
        Self { positions: positions.to_vec(), cell: None, pbc: [false; 3], tags }
    }
}

/// `pos[s] − pos[t] + o·cell`, Å.
fn displacement(geometry: &Geometry, s: usize, t: usize, o: [i16; 3]) -> [f64; 3] {
    let (a, b, cell) = (geometry.positions[s], geometry.positions[t], geometry.cell.unwrap_or_default());
    [0, 1, 2].map(|x| a[x] - b[x] + (0..3).map(|k| f64::from(o[k]) * cell[k][x]).sum::<f64>())
}

type Neighbor = (usize, u32, [i16; 3], f64);

/// Every image within reach, by trying them all; sorted by (target, source, shift).
fn brute_force(sample: &Sample, cutoff: f64, reach: i16) -> Vec<Neighbor> {
    let geometry = sample.geometry();
    let range = |k: usize| if sample.pbc[k] { -reach..=reach } else { 0..=0 };
    let mut all = Vec::new();
    for t in 0..sample.positions.len() {
        for s in 0..sample.positions.len() {
            for i in range(0) {
                for j in range(1) {
                    for l in range(2) {
                        let d = displacement(&geometry, s, t, [i, j, l]);
                        let d2 = d.iter().map(|x| x * x).sum::<f64>();
                        if d2 > 1e-4 && d2 <= cutoff * cutoff {
                            all.push((t, s as u32, [i, j, l], d2.sqrt()));
                        }
                    }
                }
            }
        }
    }
    all
}

fn listed(list: &NeighborList) -> Vec<(usize, u32, [i16; 3])> {
    let rows = list.offsets.windows(2).enumerate();
    rows.flat_map(|(t, row)| {
        (row[0] as usize..row[1] as usize).map(move |e| (t, list.source[e], list.shift[e]))
    })
    .collect()
}

#[track_caller]
fn same_as_brute_force(sample: &Sample, cutoff: f64, reach: i16) {
    let want = brute_force(sample, cutoff, reach);
    // A neighbour within rounding of the cutoff may fall on either side.
    if want.iter().any(|n| (n.3 - cutoff).abs() < 1e-9) {
        return;
    }
    let edge = want.iter().flat_map(|n| n.2).map(i16::abs).max().unwrap_or(0);
    assert!(edge < reach, "brute force looked at too few images: {edge} of {reach}");
    let list = NeighborList::build(&sample.geometry(), cutoff, u32::MAX).unwrap();
    let want: Vec<_> = want.into_iter().map(|(t, s, o, _)| (t, s, o)).collect();
    assert_eq!(listed(&list), want);
}

/// Random cells: skewed, left-handed, flat; atoms in and far outside them.
fn sample(atoms: std::ops::Range<usize>) -> impl Strategy<Value = Sample> {
    let row = || prop::array::uniform3(-4.0..4.0f64);
    let cell = prop::array::uniform3(row()).prop_filter("volume", |c| {
        let n = |r: [f64; 3]| r.iter().map(|x| x * x).sum::<f64>().sqrt();
        let cross = super::lattice::cross(c[1], c[2]);
        let volume = super::lattice::dot(c[0], cross).abs();
        // Planes at least 1 Å apart, so that brute force ends.
        volume > 4.0
            && (0..3).all(|k| volume / n(super::lattice::cross(c[(k + 1) % 3], c[(k + 2) % 3])) > 1.0)
    });
    let atoms = prop::collection::vec((prop::array::uniform3(-6.0..6.0f64), 0u8..3), atoms);
    (cell, atoms, any::<[bool; 3]>()).prop_map(|(cell, atoms, pbc)| Sample {
        positions: atoms.iter().map(|a| a.0).collect(),
        cell: Some(cell),
        pbc,
        tags: atoms.iter().map(|a| a.1).collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn neighbours_are_those_of_brute_force(sample in sample(1..6), cutoff in 0.5..4.0f64) {
        same_as_brute_force(&sample, cutoff, 26);
    }

    #[test]
    fn the_nearest_are_kept(sample in sample(1..6), max in 1u32..20) {
        let geometry = sample.geometry();
        let full = NeighborList::build(&geometry, 4.0, u32::MAX).unwrap();
        let kept = NeighborList::build(&geometry, 4.0, max).unwrap();
        for t in 0..sample.positions.len() {
            let row = |list: &NeighborList| -> Vec<(u64, u32, [i16; 3])> {
                (list.offsets[t] as usize..list.offsets[t + 1] as usize)
                    .map(|e| {
                        let d = displacement(&geometry, list.source[e] as usize, t, list.shift[e]);
                        let d = d.iter().map(|x| x * x).sum::<f64>().sqrt();
                        ((d * 1e6).round() as u64, list.source[e], list.shift[e])
                    })
                    .collect()
            };
            let mut want = row(&full);
            want.sort_unstable();
            want.truncate(max as usize);
            let mut got = row(&kept);
            got.sort_unstable();
            // A distance within rounding of half a µÅ may rank either way; the distances must agree all the same.
            let distances = |row: &[(u64, u32, [i16; 3])]| row.iter().map(|n| n.0).collect::<Vec<_>>();
            let (want, got) = (distances(&want), distances(&got));
            prop_assert!(want.len() == got.len() && want.iter().zip(&got).all(|(w, g)| w.abs_diff(*g) <= 1));
        }
    }

    #[test]
    fn a_stored_list_gives_the_same_graph(sample in sample(0..6), n in 1u32..12) {
        let (geometry, spec) = (sample.geometry(), GraphSpec::new(4.0, n));
        let built = StructureGraph::build(&geometry, &spec).unwrap();
        let wider = NeighborList::build(&geometry, 4.5, 100_000).unwrap();
        prop_assert_eq!(&built, &StructureGraph::from_neighbors(&geometry, &spec, &wider).unwrap());
        check_graph(&built, &sample, &spec);
    }
}

/// Rows sorted, reverse edges right, limits kept, tags obeyed, counts equal to lists.
#[track_caller]
fn check_graph(graph: &StructureGraph, sample: &Sample, spec: &GraphSpec) {
    let rows_of = |edges: &Edges| {
        for t in 0..edges.atoms() {
            let row: Vec<_> = edges.row(t).map(|e| edges.key(e)).collect();
            assert!(row.windows(2).all(|w| w[0] < w[1]), "row {t} is not sorted");
        }
    };
    for edges in [&graph.main, &graph.atom_edge, &graph.quadruplet, &graph.atom_atom] {
        rows_of(edges);
    }
    let targets = graph.main.targets();
    for e in 0..graph.main.len() {
        let r = graph.reverse[e] as usize;
        assert_eq!((graph.main.source[r], targets[r]), (targets[e], graph.main.source[e]));
        assert_eq!(graph.main.shift[r], graph.main.shift[e].map(|n| -n));
    }
    for (edges, max) in [
        (&graph.atom_edge, spec.atom_edge),
        (&graph.quadruplet, spec.quadruplet),
        (&graph.atom_atom, spec.atom_atom),
    ] {
        assert!((0..edges.atoms()).all(|t| edges.degree(t) <= max as usize));
    }
    for (e, t) in graph.quadruplet.targets().into_iter().enumerate() {
        let ends = [sample.tags[t as usize], sample.tags[graph.quadruplet.source[e] as usize]];
        assert!(ends.iter().any(|tag| *tag > 0), "quadruplet edge {e} between sub-surface atoms");
    }
    let counts = GraphCounts::of(graph);
    assert_eq!(counts.triplets, Triplets::edge_to_edge(graph).len() as u64);
    assert_eq!(counts.triplets_atom_edge, Triplets::atom_to_edge(graph).len() as u64);
    assert_eq!(counts.triplets_edge_atom, Triplets::edge_to_atom(graph).len() as u64);
    assert_eq!(counts.quadruplets, Quadruplets::of(graph).len() as u64);
    quadruplets_are_chains(graph);
}

/// No image is visited twice along `c→a←b←d`, comparing atoms and cells.
fn quadruplets_are_chains(graph: &StructureGraph) {
    let chains = Quadruplets::of(graph);
    let (main, targets) = (&graph.main, graph.main.targets());
    for i in 0..chains.len() {
        let [out, mid, inp] = [chains.output[i], chains.middle[i], chains.input[i]].map(|e| e as usize);
        let a = (targets[out], [0i16; 3]);
        let b = (graph.quadruplet.source[mid], graph.quadruplet.shift[mid]);
        let c = (main.source[out], main.shift[out]);
        let o = main.shift[inp];
        let d = (main.source[inp], [b.1[0] + o[0], b.1[1] + o[1], b.1[2] + o[2]]);
        assert_eq!(targets[inp], b.0);
        assert!(c != b && d != a && c != d && b != a && c != a && d != b, "chain {i} meets itself");
    }
}

/// Enough atoms for bins: a long periodic cell, and a cluster.
#[test]
fn bins_give_the_same_neighbours() {
    let spread = |i: usize, k: usize, width: f64| {
        let x = (i as f64 + 1.0) * [0.754_877_666, 0.569_840_291, 0.430_159_709][k];
        (x - x.floor()) * width
    };
    for (width, pbc) in [(40.0, [true, true, false]), (40.0, [false; 3]), (9.0, [true; 3])] {
        let positions = (0..300).map(|i| [0, 1, 2].map(|k| spread(i, k, width) - 3.0)).collect::<Vec<_>>();
        let cell = [[width, 0.0, 0.0], [0.2 * width, width, 0.0], [0.0, 0.1 * width, width]];
        let sample = Sample { tags: vec![0; positions.len()], positions, cell: Some(cell), pbc };
        same_as_brute_force(&sample, 2.9, 4);
    }
}

#[test]
fn images_of_one_atom_are_neighbours_and_ties_go_to_the_smaller_shift() {
    let cell = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]];
    let sample =
        Sample { positions: vec![[7.3, -9.1, 0.2]], cell: Some(cell), pbc: [true; 3], tags: vec![2] };
    let list = NeighborList::build(&sample.geometry(), 2.5, 2).unwrap();
    assert_eq!(listed(&list), [(0, 0, [-1, 0, 0]), (0, 0, [0, -1, 0])]);
    let graph = StructureGraph::build(&sample.geometry(), &GraphSpec::new(2.5, 30)).unwrap();
    assert_eq!(graph.main.len(), 6);
    check_graph(&graph, &sample, &GraphSpec::new(2.5, 30));
}

#[test]
fn isolated_atoms_dimers_and_nothing_at_all_have_graphs() {
    let spec = GraphSpec::new(8.0, 30);
    let graphs: Vec<StructureGraph> = [
        Sample::molecule(&[]),
        Sample::molecule(&[[0.0; 3]]),
        Sample::molecule(&[[0.0; 3], [0.0, 0.0, 1.1]]),
        Sample::molecule(&[[0.0; 3], [0.0, 0.0, 1.1], [0.0, 0.0, 2.2]]),
        Sample::molecule(&[[0.0; 3], [0.0, 0.0, 99.0]]),
    ]
    .iter()
    .map(|sample| StructureGraph::build(&sample.geometry(), &spec).unwrap())
    .collect();
    let counts: Vec<_> =
        graphs.iter().map(GraphCounts::of).map(|c| (c.main, c.triplets, c.quadruplets)).collect();
    assert_eq!(counts, [(0, 0, 0), (0, 0, 0), (2, 0, 0), (6, 6, 0), (0, 0, 0)]);
    let batch = GraphBatch::collate(&graphs);
    assert_eq!((batch.structures(), batch.atoms(), batch.main.edges.source.len()), (5, 8, 8));
    assert_eq!(batch.main.per_structure, [0, 0, 2, 6, 0]);
    assert_eq!(GraphBatch::collate::<StructureGraph>(&[]).atoms(), 0);
}

#[test]
fn collating_adds_offsets_and_keeps_every_exception() {
    let cell = [[3.1, 0.0, 0.0], [0.4, 2.9, 0.0], [0.0, 0.3, 3.3]];
    let positions = vec![[0.1, 0.2, 0.3], [1.6, 1.4, 1.7]];
    let crystal = Sample { positions, cell: Some(cell), pbc: [true; 3], tags: vec![0, 2] };
    let molecule = Sample::molecule(&[[0.0; 3], [0.0, 0.1, 1.1], [0.0, 1.0, 2.0], [1.0, 1.1, 2.5]]);
    let spec = GraphSpec::new(5.0, 12);
    let graphs =
        [&molecule, &crystal, &molecule].map(|s| StructureGraph::build(&s.geometry(), &spec).unwrap());
    let batch = GraphBatch::collate(&graphs);
    let main = &batch.main.edges;
    for (e, r) in batch.main.reverse.iter().enumerate() {
        assert_eq!((main.source[*r as usize], main.target[*r as usize]), (main.target[e], main.source[e]));
        assert_eq!(main.rows[main.place[e] as usize], e as i64);
    }
    // Chains left in the padded blocks are the quadruplets.
    let total: u64 = graphs.iter().map(|g| GraphCounts::of(g).quadruplets).sum();
    let quadruplet = &batch.quadruplet;
    let free = |q: usize, end: i64, same: &[i64]| {
        let row = q as i64 * main.width as i64..(q as i64 + 1) * main.width as i64;
        main.degree[end as usize] - same.iter().filter(|place| row.contains(place)).count() as i64
    };
    let blocks: i64 = (0..quadruplet.edges.source.len())
        .map(|q| {
            free(q, quadruplet.edges.target[q], &quadruplet.same_output)
                * free(q, quadruplet.edges.source[q], &quadruplet.same_input)
        })
        .sum();
    assert_eq!(blocks as u64 - quadruplet.closed.len() as u64, total);
    let twins: usize = graphs.iter().flat_map(|g| &g.atom_edge_twin).filter(|twin| **twin != NONE).count();
    assert_eq!(batch.atom_edge_same.len(), twins);
}

#[test]
fn dropping_edges_keeps_the_main_graph_symmetric() {
    let sample = Sample::molecule(&[[0.0; 3], [0.0, 0.1, 1.1], [0.0, 1.0, 2.0], [1.0, 1.1, 2.5]]);
    let spec = GraphSpec::new(8.0, 30);
    let full = NeighborList::build(&sample.geometry(), 8.0, 1000).unwrap();
    let mut asked = 0;
    let dropped = full.without(|| {
        asked += 1;
        asked % 3 == 0
    });
    assert_eq!((asked, full.len(), dropped.len()), (12, 12, 8));
    let graph = StructureGraph::from_neighbors(&sample.geometry(), &spec, &dropped).unwrap();
    check_graph(&graph, &sample, &spec);
    assert_eq!(graph.atom_atom.len(), 8);
}

#[test]
fn bad_structures_are_refused_in_words() {
    let error =
        |sample: &Sample, cutoff: f64| NeighborList::build(&sample.geometry(), cutoff, 10).unwrap_err();
    let good = Sample::molecule(&[[0.0; 3], [0.0, 0.0, 1.0]]);
    assert!(
        error(&Sample::molecule(&[[f64::NAN, 0.0, 0.0]]), 5.0).to_string().starts_with("atom 0: position")
    );
    assert_eq!(error(&good, -1.0), GraphError::Cutoff { cutoff: -1.0 });
    assert!(matches!(error(&Sample { pbc: [true; 3], ..good.clone() }, 5.0), GraphError::Cell { .. }));
    let flat = Some([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]);
    assert!(matches!(
        error(&Sample { pbc: [true; 3], cell: flat, ..good.clone() }, 5.0),
        GraphError::Cell { .. }
    ));
    assert_eq!(
        error(&Sample { tags: vec![1], ..good.clone() }, 5.0),
        GraphError::Tags { found: 1, atoms: 2 }
    );
    let cube = Some([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    let positions = vec![[1.0, 0.0, 0.0], [1e6, 0.0, 0.0]];
    let far = Sample { positions, cell: cube, pbc: [true; 3], tags: vec![2; 2] };
    assert!(matches!(error(&far, 5.0), GraphError::Shift { atom: 1, .. }));
    let tiny = cube.map(|cell| cell.map(|row| row.map(|x| x * 0.01)));
    let tiny = Sample { positions: vec![[0.0; 3]], cell: tiny, pbc: [true; 3], tags: vec![2] };
    assert!(matches!(error(&tiny, 5.0), GraphError::Images { .. }));
}

#[test]
fn stored_lists_of_other_structures_are_refused() {
    let sample = Sample::molecule(&[[0.0; 3], [0.0, 0.0, 1.0]]);
    let spec = GraphSpec::new(5.0, 30);
    let list = NeighborList::build(&sample.geometry(), 5.0, 30).unwrap();
    let refused = |list: &NeighborList, words: &str| {
        let error = StructureGraph::from_neighbors(&sample.geometry(), &spec, list).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&NeighborList::default(), "0 rows for 2 atoms");
    refused(&NeighborList { offsets: vec![0, 2, 1], ..list.clone() }, "row offsets");
    refused(&NeighborList { source: vec![1, 7], ..list.clone() }, "neighbour 7");
    refused(&NeighborList { shift: vec![[0; 3]], ..list.clone() }, "1 shifts for 2 neighbours");
    let twice = NeighborList { offsets: vec![0, 2, 2], source: vec![1, 1], shift: vec![[0; 3]; 2] };
    refused(&twice, "row 0 is not sorted");
}
