//! Edges, reverse edges, counts and sums of angles, from explicit lists of triplets and quadruplets.

use shards::graph::{Edges, GraphCounts, Quadruplets, StructureGraph, Triplets};

use crate::case::Case;

/// Edge as in the files: (target, source, shift) with atoms numbered through the batch.
type Key = (usize, usize, [i16; 3]);

/// Picks one of a structure's graphs.
type Pick = fn(&StructureGraph) -> &Edges;

/// A kind of triplet: its name in counts, its list, its name in sums, the edges it comes from and goes to.
type Kind<'a> = (&'a str, fn(&StructureGraph) -> Triplets, &'a str, &'a Flat, &'a Flat);

/// Edges of a batch in canonical order with unit vectors and distances.
struct Flat {
    keys: Vec<Key>,
    vectors: Vec<[f64; 3]>,
    distances: Vec<f64>,
}

pub(crate) fn check(case: &Case) -> Vec<String> {
    let mut failures = Vec::new();
    let mut expect = |what: &str, ok: bool| {
        if !ok {
            failures.push(format!("{what} differs"));
        }
    };
    let graphs: [(&str, Pick); 4] = [
        ("main", |g| &g.main),
        ("a2a", |g| &g.atom_atom),
        ("a2ee2a", |g| &g.atom_edge),
        ("qint", |g| &g.quadruplet),
    ];
    for (i, (name, of)) in graphs.into_iter().enumerate() {
        let flat = flatten(case, of);
        if let Some(counts) = case.get("count.edges") {
            expect(&format!("count.edges of {name}"), counts.data[i] == flat.keys.len() as f64);
            continue;
        }
        expect(&format!("{name}.edge_index"), flat.keys == stored(case, name));
        let distance = &case.arrays[&format!("{name}.distance")].data;
        expect(&format!("{name}.distance"), close(distance, &flat.distances, 1e-9));
        if let Some(vector) = case.get(&format!("{name}.vector")) {
            expect(&format!("{name}.vector"), close(&vector.data, flat.vectors.as_flattened(), 1e-9));
        }
    }
    if case.get("count.edges").is_none() {
        let reverse: Vec<f64> = offset(case, |g| (g.reverse.clone(), g.main.len()));
        expect("main.id_swap", reverse == case.arrays["main.id_swap"].data);
    }
    meetings(case, &mut expect);
    failures
}

/// Counts, counts by receiving edge and sums over angles.
fn meetings(case: &Case, expect: &mut impl FnMut(&str, bool)) {
    let (main, qint) = (flatten(case, |g| &g.main), flatten(case, |g| &g.quadruplet));
    let mixed = flatten(case, |g| &g.atom_edge);
    let kinds: [Kind; 5] = [
        ("trip_e2e", Triplets::edge_to_edge, "cos_e2e", &main, &main),
        ("trip_a2e", Triplets::atom_to_edge, "cos_a2e", &mixed, &main),
        ("trip_e2a", Triplets::edge_to_atom, "cos_e2a", &main, &mixed),
        ("quad_trip_in", Triplets::of_quadruplet_input, "quad_cos_abd", &main, &qint),
        ("quad_trip_out", Triplets::of_quadruplet_output, "quad_cos_cab", &qint, &main),
    ];
    for (i, (name, of, sum, from, to)) in kinds.into_iter().enumerate() {
        let input = offset(case, |g| (of(g).input, edges_of(g, name, true)));
        let output = offset(case, |g| (of(g).output, edges_of(g, name, false)));
        count(case, expect, name, i, &output, to.keys.len());
        if let Some(want) = case.get(&format!("sum.{sum}")) {
            let cosines = input
                .iter()
                .zip(&output)
                .map(|(i, o)| dot(from.vectors[*i as usize], to.vectors[*o as usize]).clamp(-1.0, 1.0));
            expect(&format!("sum.{sum}"), close(&want.data, &sums(cosines), 1e-9));
        }
    }
    let q = |pick: fn(Quadruplets) -> Vec<u32>, edges: fn(&StructureGraph) -> usize| {
        offset(case, move |g| (pick(Quadruplets::of(g)), edges(g)))
    };
    let input = q(|q| q.input, |g| g.main.len());
    let middle = q(|q| q.middle, |g| g.quadruplet.len());
    let output = q(|q| q.output, |g| g.main.len());
    count(case, expect, "quad", 5, &output, main.keys.len());
    if let Some(want) = case.get("sum.quad_angle_cabd") {
        let angles = (0..input.len()).map(|i| {
            let axis = qint.vectors[middle[i] as usize];
            let c = cross(main.vectors[output[i] as usize], axis);
            let d = cross(main.vectors[input[i] as usize], axis);
            let y = dot(cross(c, d), cross(c, d)).sqrt().max(1e-9);
            y.atan2(dot(c, d))
        });
        expect("sum.quad_angle_cabd", close(&want.data, &sums(angles), 1e-8));
    }
    let counts: Vec<GraphCounts> = case.graphs.iter().map(GraphCounts::of).collect();
    let total = |of: fn(&GraphCounts) -> u64| counts.iter().map(of).sum::<u64>() as f64;
    let (e2e, mixed) = (total(|c| c.triplets), total(|c| c.triplets_atom_edge));
    let quick = [e2e, mixed, total(|c| c.triplets_edge_atom), total(|c| c.quadruplets)];
    let listed = ["trip_e2e", "trip_a2e", "trip_e2a", "quad"].map(|name| match case.get("count.trip_quad") {
        Some(counts) => {
            counts.data[["trip_e2e", "trip_a2e", "trip_e2a", "", "", "quad"]
                .iter()
                .position(|n| *n == name)
                .unwrap()]
        }
        None => case.arrays[&format!("count.{name}")].data[0],
    });
    expect("GraphCounts", quick == listed);
}

fn count(
    case: &Case,
    expect: &mut impl FnMut(&str, bool),
    name: &str,
    i: usize,
    output: &[f64],
    edges: usize,
) {
    if let Some(counts) = case.get("count.trip_quad") {
        expect(&format!("count of {name}"), counts.data[i] == output.len() as f64);
        return;
    }
    let mut per_edge = vec![0.0; edges];
    for edge in output {
        per_edge[*edge as usize] += 1.0;
    }
    expect(&format!("count.{name}"), case.arrays[&format!("count.{name}")].data == [output.len() as f64]);
    expect(&format!("peredge.{name}"), case.arrays[&format!("peredge.{name}")].data == per_edge);
}

/// Number of edges of the graph that a kind of triplet takes its input or output from.
fn edges_of(graph: &StructureGraph, kind: &str, input: bool) -> usize {
    match (kind, input) {
        ("trip_a2e", true) | ("trip_e2a", false) => graph.atom_edge.len(),
        ("quad_trip_out", true) | ("quad_trip_in", false) => graph.quadruplet.len(),
        _ => graph.main.len(),
    }
}

/// Joins index arrays of all structures, adding the number of edges of those before.
fn offset(case: &Case, of: impl Fn(&StructureGraph) -> (Vec<u32>, usize)) -> Vec<f64> {
    let (mut first, mut joined) = (0.0, Vec::new());
    for graph in &case.graphs {
        let (indices, edges) = of(graph);
        joined.extend(indices.iter().map(|i| first + f64::from(*i)));
        first += edges as f64;
    }
    joined
}

fn flatten(case: &Case, of: impl Fn(&StructureGraph) -> &Edges) -> Flat {
    let mut flat = Flat { keys: Vec::new(), vectors: Vec::new(), distances: Vec::new() };
    let mut first = 0;
    for graph in &case.graphs {
        let edges = of(graph);
        for (e, t) in edges.targets().into_iter().enumerate() {
            let (t, s, o) = (first + t as usize, first + edges.source[e] as usize, edges.shift[e]);
            let d = [0, 1, 2].map(|x| {
                let shift: f64 = (0..3).map(|k| f64::from(o[k]) * graph.cell[k][x]).sum();
                case.positions[s][x] - case.positions[t][x] + shift
            });
            let distance = dot(d, d).sqrt();
            flat.keys.push((t, s, o));
            flat.vectors.push(d.map(|x| -x / distance));
            flat.distances.push(distance);
        }
        first += graph.atoms();
    }
    flat
}

fn stored(case: &Case, name: &str) -> Vec<Key> {
    let index = &case.arrays[&format!("{name}.edge_index")];
    let shift = &case.arrays[&format!("{name}.cell_offset")].data;
    let edges = index.shape[1];
    (0..edges)
        .map(|e| {
            let o = [0, 1, 2].map(|k| shift[3 * e + k] as i16);
            (index.data[edges + e] as usize, index.data[e] as usize, o)
        })
        .collect()
}

fn sums(values: impl Iterator<Item = f64>) -> [f64; 2] {
    values.fold([0.0; 2], |[sum, squares], v| [sum + v, squares + v * v])
}

fn close(want: &[f64], got: &[f64], tolerance: f64) -> bool {
    want.len() == got.len()
        && want.iter().zip(got).all(|(w, g)| (w - g).abs() <= tolerance * w.abs().max(1.0))
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}
