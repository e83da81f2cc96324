//! Neighbour lists and graphs against their definitions: brute force over images, symmetry, and cells that break
//! careless code.

#![allow(clippy::unwrap_used, reason = "a test that cannot build its structures has failed")]

use proptest::prelude::*;
use shards::graph::{
    Geometry, GraphBatch, GraphSpec, LargeStructures, NeighborList, Quadruplets, StructureGraph, Triplets,
};

type Vector = [f64; 3];
type Cell = [Vector; 3];
/// Target, source and cell shift.
type Pair = (usize, usize, [i16; 3]);

const CUBE: Cell = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

#[derive(Debug, Clone)]
struct Sample {
    positions: Vec<Vector>,
    cell: Cell,
    pbc: [bool; 3],
}

impl Sample {
    fn geometry(&self) -> Geometry<'_> {
        Geometry { positions: &self.positions, cell: Some(self.cell), pbc: self.pbc, tags: None }
    }

    fn pairs(&self, cutoff: f64, max: u32) -> Vec<Pair> {
        let list = NeighborList::build(&self.geometry(), cutoff, max).unwrap();
        let rows = list.offsets.windows(2).enumerate();
        rows.flat_map(|(t, row)| (row[0] as usize..row[1] as usize).map(move |e| (t, e)).collect::<Vec<_>>())
            .map(|(t, e)| (t, list.source[e] as usize, list.shift[e]))
            .collect()
    }

    fn distance(&self, (t, s, o): Pair) -> f64 {
        let along = |x: usize| {
            let shift: f64 = (0..3).map(|k| f64::from(o[k]) * self.cell[k][x]).sum();
            self.positions[s][x] - self.positions[t][x] + shift
        };
        [0, 1, 2].map(along).iter().map(|x| x * x).sum::<f64>().sqrt()
    }

    /// Every pair within the cutoff, by trying all shifts that can matter; `None` if rounding decides about one.
    fn brute_force(&self, cutoff: f64) -> Option<Vec<Pair>> {
        let reach = self.reach(cutoff);
        let range = |k: usize| if self.pbc[k] { -reach[k]..=reach[k] } else { 0..=0 };
        let atoms = self.positions.len();
        let mut pairs = Vec::new();
        for (t, s) in (0..atoms).flat_map(|t| (0..atoms).map(move |s| (t, s))) {
            for o in range(0).flat_map(|i| range(1).flat_map(move |j| range(2).map(move |l| [i, j, l]))) {
                let distance = self.distance((t, s, o));
                if (distance - cutoff).abs() < 1e-9 {
                    return None;
                }
                if distance > 0.01 && distance < cutoff {
                    pairs.push((t, s, o));
                }
            }
        }
        Some(pairs)
    }

    /// Largest shifts of neighbours: lattice planes so far apart span the cutoff and the structure.
    fn reach(&self, cutoff: f64) -> [i16; 3] {
        let apart = |p: &Vector, q: &Vector| norm([p[0] - q[0], p[1] - q[1], p[2] - q[2]]);
        let pairs = self.positions.iter().flat_map(|p| self.positions.iter().map(move |q| apart(p, q)));
        let length = cutoff + pairs.fold(0.0, f64::max);
        let rows = std::array::from_fn::<_, 3, _>(|k| {
            // Directions that do not repeat have no shift; their rows may be anything.
            if self.pbc[k] {
                self.cell[k]
            } else {
                [0, 1, 2].map(|x| 1e3 * CUBE[k][x] + 7.0 * CUBE[(k + 1) % 3][x])
            }
        });
        plane_distances(rows).map(|h| (length / h) as i16 + 1)
    }
}

fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// Distances of neighbouring lattice planes.
fn plane_distances(c: Cell) -> Vector {
    let normals = [cross(c[1], c[2]), cross(c[2], c[0]), cross(c[0], c[1])];
    let volume = (0..3).map(|x| c[0][x] * normals[0][x]).sum::<f64>().abs();
    normals.map(|n| volume / norm(n))
}

fn norm(v: Vector) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Rows by a rotation matrix made from a quaternion.
fn turned(v: Vector, quaternion: [f64; 4]) -> Vector {
    let n = quaternion.iter().map(|x| x * x).sum::<f64>().sqrt();
    let [w, x, y, z] = quaternion.map(|q| q / n);
    let rows = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
    ];
    rows.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

/// A cell whose lattice planes are at least 1 Å apart, either hand, and atoms in and around it.
fn sample() -> impl Strategy<Value = Sample> {
    let cell = prop::array::uniform3(prop::array::uniform3(-5.0..5.0f64))
        .prop_filter("volume", |c| plane_distances(*c).iter().all(|h| *h > 1.0));
    let positions = prop::collection::vec(prop::array::uniform3(-6.0..6.0f64), 1..7);
    (positions, cell, any::<[bool; 3]>()).prop_map(|(positions, cell, pbc)| Sample { positions, cell, pbc })
}

/// Whether a distance lies within rounding of the cutoff, so that turning or moving may lose or win it.
fn undecided(sample: &Sample, cutoff: f64) -> bool {
    let near = |pair: &Pair| (sample.distance(*pair) - cutoff).abs() < 1e-8 || sample.distance(*pair) < 0.011;
    sample.pairs(cutoff + 1e-6, u32::MAX).iter().any(near)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rotation_and_translation_change_no_neighbour(
        sample in sample(),
        quaternion in prop::array::uniform4(0.1..1.0f64),
        by in prop::array::uniform3(-30.0..30.0f64),
    ) {
        prop_assume!(!undecided(&sample, 4.0));
        let moved = Sample {
            positions: sample.positions.iter().map(|p| turned([p[0] + by[0], p[1] + by[1], p[2] + by[2]], quaternion)).collect(),
            cell: sample.cell.map(|row| turned(row, quaternion)),
            pbc: sample.pbc,
        };
        prop_assert_eq!(sample.pairs(4.0, u32::MAX), moved.pairs(4.0, u32::MAX));
    }

    /// Moving single atoms by whole cells changes shifts only, and those as it must.
    #[test]
    fn wrapping_changes_shifts_only(
        sample in sample(),
        cells in prop::collection::vec(prop::array::uniform3(-9i16..9), 7),
    ) {
        prop_assume!(!undecided(&sample, 4.0));
        let mut moved = sample.clone();
        for (atom, p) in moved.positions.iter_mut().enumerate() {
            for k in (0..3).filter(|k| sample.pbc[*k]) {
                for (x, row) in p.iter_mut().zip(sample.cell[k]) {
                    *x += f64::from(cells[atom][k]) * row;
                }
            }
        }
        let mut expected: Vec<Pair> = sample.pairs(4.0, u32::MAX);
        for (t, s, o) in &mut expected {
            for k in (0..3).filter(|k| sample.pbc[*k]) {
                o[k] += cells[*t][k] - cells[*s][k];
            }
        }
        prop_assert_eq!(moved.pairs(4.0, u32::MAX), expected);
    }

    #[test]
    fn the_order_of_atoms_does_not_matter(sample in sample()) {
        prop_assume!(!undecided(&sample, 4.0));
        let last = sample.positions.len() - 1;
        let reversed = Sample { positions: sample.positions.iter().rev().copied().collect(), ..sample.clone() };
        let mut pairs: Vec<Pair> =
            reversed.pairs(4.0, u32::MAX).into_iter().map(|(t, s, o)| (last - t, last - s, o)).collect();
        pairs.sort_unstable();
        prop_assert_eq!(sample.pairs(4.0, u32::MAX), pairs);
    }

    /// Triplets and quadruplets are all that their definitions admit, and no others.
    #[test]
    fn triplets_and_quadruplets_are_those_of_their_definitions(sample in sample(), main in 1u32..9) {
        let spec = GraphSpec { cutoff: 4.0, main, atom_edge: 3, quadruplet: 2, atom_atom: 40, large: None };
        let graph = StructureGraph::build(&sample.geometry(), &spec).unwrap();
        check_triplets(&graph);
        check_quadruplets(&graph);
    }

    #[test]
    fn a_batch_holds_each_structure_as_it_is_alone(samples in prop::collection::vec(sample(), 1..4)) {
        let spec = GraphSpec::new(4.0, 6);
        let graphs: Vec<StructureGraph> =
            samples.iter().map(|s| StructureGraph::build(&s.geometry(), &spec).unwrap()).collect();
        let batch = GraphBatch::collate(&graphs);
        let (mut atom, mut edge) = (0, 0);
        for graph in &graphs {
            let alone = GraphBatch::collate(std::slice::from_ref(graph));
            let length = alone.main.reverse.len();
            let moved = |list: &[i64], by: usize| list.iter().map(|i| i + by as i64).collect::<Vec<_>>();
            let of = |list: &[i64]| list[edge..edge + length].to_vec();
            prop_assert_eq!(of(&batch.main.edges.source), moved(&alone.main.edges.source, atom));
            prop_assert_eq!(of(&batch.main.edges.target), moved(&alone.main.edges.target, atom));
            prop_assert_eq!(of(&batch.main.reverse), moved(&alone.main.reverse, edge));
            prop_assert_eq!(&batch.main.edges.shift[3 * edge..3 * (edge + length)], &alone.main.edges.shift[..]);
            atom += graph.atoms();
            edge += length;
        }
        let closed: usize = graphs.iter().map(|g| g.closed.len()).sum();
        prop_assert_eq!(batch.quadruplet.closed.len(), closed);
    }
}

/// An atom and the cell it lies in.
type Image = (u32, [i16; 3]);

fn plus(a: [i16; 3], b: [i16; 3]) -> [i16; 3] {
    [a[0] + b[0], a[1] + b[1], a[2] + b[2]]
}

fn check_triplets(graph: &StructureGraph) {
    let main: Vec<(u32, Image)> = edges(&graph.main);
    let atom_edge = edges(&graph.atom_edge);
    let expected = |input: &[(u32, Image)], output: &[(u32, Image)]| {
        let mut meeting = Vec::new();
        for (o, out) in output.iter().enumerate() {
            for (i, inp) in input.iter().enumerate() {
                if inp.0 == out.0 && inp.1 != out.1 {
                    meeting.push((o as u32, i as u32));
                }
            }
        }
        meeting
    };
    let listed = |t: &Triplets| t.output.iter().copied().zip(t.input.iter().copied()).collect::<Vec<_>>();
    assert_eq!(listed(&Triplets::edge_to_edge(graph)), expected(&main, &main));
    assert_eq!(listed(&Triplets::atom_to_edge(graph)), expected(&atom_edge, &main));
    assert_eq!(listed(&Triplets::edge_to_atom(graph)), expected(&main, &atom_edge));
}

/// `c→a←b←d` with four different images, in the frame in which `a` lies in cell zero.
fn check_quadruplets(graph: &StructureGraph) {
    let (main, middle) = (edges(&graph.main), edges(&graph.quadruplet));
    let mut expected = Vec::new();
    for (out, (a, c)) in main.iter().enumerate() {
        for (mid, (_, b)) in middle.iter().enumerate().filter(|(_, (target, _))| target == a) {
            for (inp, (_, d)) in main.iter().enumerate().filter(|(_, (target, _))| *target == b.0) {
                let d = (d.0, plus(d.1, b.1));
                let a = (*a, [0; 3]);
                if *c != *b && d != a && *c != d {
                    expected.push([out as u32, mid as u32, inp as u32]);
                }
            }
        }
    }
    let chains = Quadruplets::of(graph);
    let listed: Vec<[u32; 3]> =
        (0..chains.len()).map(|i| [chains.output[i], chains.middle[i], chains.input[i]]).collect();
    assert_eq!(listed, expected);
}

fn edges(graph: &shards::graph::Edges) -> Vec<(u32, Image)> {
    let sources = graph.source.iter().copied().zip(graph.shift.iter().copied());
    graph.targets().into_iter().zip(sources).collect()
}

#[track_caller]
fn check(what: &str, positions: &[Vector], cell: Cell, pbc: [bool; 3], cutoff: f64) {
    let sample = Sample { positions: positions.to_vec(), cell, pbc };
    let expected =
        sample.brute_force(cutoff).unwrap_or_else(|| panic!("{what}: a distance equals the cutoff"));
    assert_eq!(sample.pairs(cutoff, u32::MAX), expected, "{what}");
    // What is found must make graphs, whole and cut.
    for main in [3, 30] {
        let spec = GraphSpec { cutoff, main, atom_edge: 2, quadruplet: 2, atom_atom: 60, large: None };
        check_triplets(&StructureGraph::build(&sample.geometry(), &spec).unwrap());
    }
}

#[test]
fn unusual_cells_have_the_neighbours_of_brute_force() {
    let all = [true; 3];
    let atoms = [[0.1, 0.2, 0.3], [1.4, 0.9, 2.2], [2.0, 2.1, 0.4]];
    let cell = [[3.1, 0.2, 0.1], [-0.4, 2.9, 0.3], [0.2, -0.3, 3.4]];
    let mirrored = [cell[1], cell[0], cell[2]];
    check("a left-handed cell", &atoms, mirrored, all, 4.1);
    check("a left-handed cell, periodic along one", &atoms, mirrored, [false, true, false], 4.1);
    let negative = cell.map(|row| row.map(|x| -x));
    check("a cell along the negative axes", &atoms, negative, all, 4.1);
    let skewed = [[3.0, 0.0, 0.0], [28.0, 2.5, 0.0], [-17.0, 9.0, 3.5]];
    check("a strongly skewed cell", &atoms, skewed, all, 4.05);
    check("a strongly skewed cell, a slab", &atoms, skewed, [true, true, false], 4.05);
    let small = [[0.9, 0.0, 0.0], [0.1, 1.1, 0.0], [0.0, 0.2, 0.8]];
    check("a cell much smaller than the cutoff", &[[0.2, 0.1, 0.5]], small, all, 4.03);
    let outside = [[-31.3, 0.2, 55.5], [12.0, 77.1, -3.0], [0.4, 0.5, 0.6]];
    check("atoms far outside the cell", &outside, cell, all, 4.1);
    let far = [[1000.1, 2000.2, -1500.3], [1001.4, 2000.9, -1498.2], [1002.0, 2002.1, -1499.9]];
    check("all atoms far from the origin", &far, cell, all, 4.1);
}

#[test]
fn isolated_atoms_dimers_and_lines_have_the_neighbours_of_brute_force() {
    let large = CUBE.map(|row| row.map(|x| x * 30.0));
    for pbc in [[true; 3], [false; 3], [true, false, true]] {
        check("an isolated atom", &[[3.0, 4.0, 5.0]], large, pbc, 12.0);
        check("two isolated atoms", &[[0.5; 3], [15.0; 3]], large, pbc, 12.0);
        check("a dimer", &[[0.0; 3], [0.0, 0.0, 1.1]], large, pbc, 12.0);
        check("a dimer through the wall", &[[0.2; 3], [29.9, 0.2, 0.2]], large, pbc, 12.0);
        let line = [[0.0; 3], [0.0, 0.0, 1.1], [0.0, 0.0, 2.2]];
        check("three atoms on a line", &line, large, pbc, 12.0);
        let bent = [[0.0; 3], [0.0, 0.9, 0.3], [0.0, -0.9, 0.3]];
        check("three atoms", &bent, large, pbc, 12.0);
    }
    let chain = [[1.3, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 20.0]];
    check("one atom a cell on an endless line", &[[0.0; 3]], chain, [true, false, false], 4.0);
}

/// A neighbour at exactly the cutoff counts in periodic structures only, as in the reference.
#[test]
fn the_cutoff_itself() {
    let cell = CUBE.map(|row| row.map(|x| x * 4.0));
    let crystal = Sample { positions: vec![[0.5; 3]], cell, pbc: [true; 3] };
    assert_eq!(crystal.pairs(4.0, u32::MAX).len(), 6);
    let dimer = Sample { positions: vec![[0.0; 3], [4.0, 0.0, 0.0]], cell, pbc: [false; 3] };
    assert_eq!(dimer.pairs(4.0, u32::MAX), []);
}

/// In a perfect crystal, neighbours of a shell are cut by (source, shift), however rounding falls: the choice does not
/// depend on where the crystal lies.
#[test]
fn ties_do_not_depend_on_the_place_of_a_crystal() {
    let a = 4.05;
    let cell = [[0.0, a / 2.0, a / 2.0], [a / 2.0, 0.0, a / 2.0], [a / 2.0, a / 2.0, 0.0]];
    let at = |place: Vector| Sample { positions: vec![place], cell, pbc: [true; 3] };
    let kept = at([0.0; 3]).pairs(8.0, 8);
    let mut shell = at([0.0; 3]).pairs(0.8 * a, u32::MAX);
    assert_eq!((kept.len(), shell.len()), (8, 12));
    shell.truncate(8);
    assert_eq!(kept, shell);
    for place in [[0.1, 0.7, -0.3], [1e3, -77.7, 3.3], [-5.0e3, 1.0 / 3.0, 2.0e3]] {
        assert_eq!(at(place).pairs(8.0, 8), kept, "at {place:?}");
    }
}

/// JMP's limits for MatBench and QMOF: 30 neighbours, 10 above 200 atoms, 5 above 300.
#[test]
fn large_structures_have_fewer_neighbours() {
    let large = LargeStructures { above: 200, neighbors: 10, then: Some((300, 5)) };
    let spec = GraphSpec { large: Some(large), ..GraphSpec::new(12.0, 30) };
    let numbers = |atoms| {
        let GraphSpec { main, atom_edge, quadruplet, atom_atom, large, .. } = spec.of(atoms);
        assert!(large.is_none());
        [main, atom_edge, quadruplet, atom_atom]
    };
    assert_eq!(
        [200, 201, 300, 301].map(numbers),
        [[30, 20, 8, 1000], [10, 6, 2, 333], [10, 6, 2, 333], [5, 3, 1, 166]]
    );
    let positions: Vec<[f64; 3]> = (0..6).map(|i| [0.9 * f64::from(i), 0.0, 0.0]).collect();
    let geometry = Geometry { positions: &positions, cell: None, pbc: [false; 3], tags: None };
    let small = LargeStructures { above: 5, neighbors: 1, then: None };
    let limited = GraphSpec { large: Some(small), ..GraphSpec::new(12.0, 30) };
    assert_eq!(
        StructureGraph::build(&geometry, &limited).unwrap(),
        StructureGraph::build(&geometry, &GraphSpec::new(12.0, 1)).unwrap()
    );
}
