//! Host arrays to tensors: the one place where a batch of structures meets libtorch.
//!
//! Sizes are known on the host, so that nothing in a forward pass asks the device for them.

use std::rc::Rc;

use shards::batch::HostBatch;
use shards::graph::{BatchEdges, GraphBatch, PairEdges, QuadrupletEdges};
use tch::{Device, Kind, Tensor};

/// A batch on a device. `g` structures, `n` atoms, `e` main edges.
#[derive(Debug)]
pub struct Batch {
    /// Number of structures.
    pub structures: i64,
    /// Positions `[n, 3]`, Å, always in double precision; set to require a gradient for gradient forces.
    pub positions: Tensor,
    /// Atomic numbers `[n]`.
    pub atomic_numbers: Tensor,
    /// Structure of each atom `[n]`.
    pub structure: Tensor,
    /// Atoms of each structure `[g]`.
    pub natoms: Tensor,
    /// Which structures, atoms and edges belong to each task that occurs, ascending.
    pub tasks: Vec<TaskRows>,
    /// Targets.
    pub labels: Labels,
    /// Index arrays and masks.
    pub graph: Rc<GraphTensors>,
}

/// Targets and masks, normalised; a slot without a label holds 0 and a mask of 0.
#[derive(Debug)]
pub struct Labels {
    /// Energies or scalar targets `[g]`.
    pub energy: Tensor,
    /// 1 where a structure has one, `[g]`.
    pub has_energy: Tensor,
    /// Forces `[n, 3]`.
    pub forces: Tensor,
    /// 1 where a structure has forces, `[g]`.
    pub has_forces: Tensor,
    /// 1 where an atom is free to move, `[n]`.
    pub free: Tensor,
}

/// The rows of a batch that belong to one task; `None` means all.
#[derive(Debug)]
pub struct TaskRows {
    /// The task.
    pub task: usize,
    /// Its atoms.
    pub atoms: Option<Tensor>,
    /// Its main edges.
    pub edges: Option<Tensor>,
}

/// Edges of a graph by target, and as padded rows.
#[derive(Debug)]
pub struct EdgeTensors {
    /// Source atoms `[e]`.
    pub source: Tensor,
    /// Target atoms, ascending `[e]`.
    pub target: Tensor,
    /// What the cell shift adds to the displacement `[e, 3]`, Å, double precision.
    pub shift: Tensor,
    /// Width of a row.
    pub width: i64,
    /// Edges in rows by target `[n · width]`, padded with edge 0.
    pub rows: Tensor,
    /// Place of each edge in the rows `[e]`.
    pub place: Tensor,
}

/// The quadruplet graph; see [`QuadrupletEdges`] for its arrays.
#[derive(Debug)]
pub struct QuadrupletTensors {
    /// Edges `b→a`.
    pub edges: EdgeTensors,
    /// Main edges `d→b` of each, in rows `[q · k]`.
    pub input_rows: Tensor,
    /// 1 where `d→b` exists and `d ≠ a`, `[q, k]`.
    pub input_mask: Tensor,
    /// 1 for chains `c→a←b←d` of four different images `[q, k, k]`.
    pub chain_mask: Tensor,
    /// Main edges that receive `[x]`.
    pub receiving: Tensor,
    /// Their reverse edges `[x]`.
    pub receiving_reverse: Tensor,
    /// Quadruplet edges of each receiving edge, in rows `[x · width]`.
    pub receiving_middle: Tensor,
    /// The same as places in `[q, k]`, `[x · width]`.
    pub receiving_place: Tensor,
    /// 1 where such an edge exists `[x, width]`.
    pub receiving_mask: Tensor,
}

/// The atom-atom graph.
#[derive(Debug)]
pub struct PairTensors {
    /// Source atoms `[e]`.
    pub source: Tensor,
    /// Target atoms `[e]`.
    pub target: Tensor,
    /// What the cell shift adds to the displacement `[e, 3]`, Å, double precision.
    pub shift: Tensor,
    /// Pair of each edge `[e]`.
    pub pair: Tensor,
    /// Source atom of each pair `[p]`.
    pub pair_source: Tensor,
    /// Width of a row of pairs.
    pub width: i64,
    /// Pairs in rows by target `[n · width]`, padded with pair 0.
    pub rows: Tensor,
    /// Source atoms in the same rows.
    pub row_source: Tensor,
    /// 1 where a pair exists `[n, width]`.
    pub mask: Tensor,
}

/// All index arrays of a batch; the masks are in the network's precision.
#[derive(Debug)]
pub struct GraphTensors {
    /// Precision of the network.
    pub kind: Kind,
    /// Number of atoms.
    pub atoms: i64,
    /// Main edges.
    pub main: EdgeTensors,
    /// Reverse of each main edge `[e]`.
    pub reverse: Tensor,
    /// 1 for pairs of different main edges into one atom `[n, k, k]`.
    pub main_main_mask: Tensor,
    /// Atom-edge edges.
    pub atom_edge: EdgeTensors,
    /// 1 for pairs of a main and an atom-edge edge that are not the same `[n, k, w]`.
    pub main_atom_edge_mask: Tensor,
    /// Quadruplet graph.
    pub quadruplet: QuadrupletTensors,
    /// Atom-atom graph.
    pub atom_atom: PairTensors,
}

impl Batch {
    /// Copies a batch to a device; the network computes in `kind`.
    pub fn from_host(host: &HostBatch, kind: Kind, device: Device) -> Self {
        let floats = |values: &[f64]| Tensor::from_slice(values).to_device(device);
        let flags = |values: &[bool]| Tensor::from_slice(values).to_device(device).to_kind(kind);
        let numbers: Vec<i64> = host.atomic_numbers.iter().map(|z| i64::from(*z)).collect();
        let labels = Labels {
            energy: floats(&host.energy).to_kind(kind),
            has_energy: flags(&host.has_energy),
            forces: floats(&host.forces).view([-1, 3]).to_kind(kind),
            has_forces: flags(&host.has_forces),
            free: 1.0 - flags(&host.fixed),
        };
        let positions = floats(&host.positions).view([numbers.len() as i64, 3]);
        let task: Vec<usize> = host.task.iter().map(|task| *task as usize).collect();
        Self::new(positions, &numbers, &task, &host.graph, labels)
    }

    /// A batch without labels, as for prediction.
    ///
    /// # Panics
    /// If the numbers of atoms or structures of the arguments differ.
    pub fn unlabelled(
        positions: &[[f64; 3]],
        numbers: &[i64],
        task: &[usize],
        graph: &GraphBatch,
        (kind, device): (Kind, Device),
    ) -> Self {
        let (n, g) = (numbers.len() as i64, graph.structures() as i64);
        let positions = Tensor::from_slice(positions.as_flattened()).view([n, 3]).to_device(device);
        let zeros = |size: &[i64]| Tensor::zeros(size, (kind, device));
        let labels = Labels {
            energy: zeros(&[g]),
            has_energy: zeros(&[g]),
            forces: zeros(&[n, 3]),
            has_forces: zeros(&[g]),
            free: zeros(&[n]) + 1.0,
        };
        Self::new(positions, numbers, task, graph, labels)
    }

    fn new(positions: Tensor, numbers: &[i64], task: &[usize], graph: &GraphBatch, labels: Labels) -> Self {
        let (kind, device) = (labels.energy.kind(), labels.energy.device());
        assert_eq!(numbers.len(), graph.atoms(), "atoms of the batch and of its graph");
        assert_eq!(task.len(), graph.structures(), "structures of the batch and of its graph");
        Self {
            structures: task.len() as i64,
            positions,
            atomic_numbers: index(numbers, device),
            structure: index(&graph.structure, device),
            natoms: index(&graph.natoms, device).to_kind(kind),
            tasks: task_rows(task, graph, device),
            labels,
            graph: Rc::new(GraphTensors::new(graph, kind, device)),
        }
    }
}

/// Rows of each task, found from the atoms and main edges of each structure, which are contiguous.
fn task_rows(task: &[usize], graph: &GraphBatch, device: Device) -> Vec<TaskRows> {
    let mut present: Vec<usize> = task.to_vec();
    present.sort_unstable();
    present.dedup();
    if let [task] = present[..] {
        return vec![TaskRows { task, atoms: None, edges: None }];
    }
    let rows = |counts: &[i64], wanted: usize| {
        let (mut first, mut rows) = (0, Vec::new());
        for (count, task) in counts.iter().zip(task) {
            if *task == wanted {
                rows.extend(first..first + count);
            }
            first += count;
        }
        Some(index(&rows, device))
    };
    let of = |wanted| TaskRows {
        task: wanted,
        atoms: rows(&graph.natoms, wanted),
        edges: rows(&graph.main.per_structure, wanted),
    };
    present.into_iter().map(of).collect()
}

impl GraphTensors {
    /// Copies index arrays to a device and builds the masks there.
    pub fn new(graph: &GraphBatch, kind: Kind, device: Device) -> Self {
        let main_edges = &graph.main.edges;
        let main_mask = row_mask(&main_edges.degree, main_edges.width, kind, device);
        let atom_edge_mask = row_mask(&graph.atom_edge.degree, graph.atom_edge.width, kind, device);
        let k = main_edges.width as i64;
        let different = 1.0 - Tensor::eye(k, (kind, device));
        let main = EdgeTensors::new(main_edges, device);
        let reverse = index(&graph.main.reverse, device);
        let quadruplet = QuadrupletTensors::new(&graph.quadruplet, &main, &main_mask, &reverse);
        Self {
            kind,
            atoms: graph.atoms() as i64,
            main_main_mask: outer(&main_mask, &main_mask) * different,
            main_atom_edge_mask: without(outer(&main_mask, &atom_edge_mask), &graph.atom_edge_same),
            main,
            reverse,
            atom_edge: EdgeTensors::new(&graph.atom_edge, device),
            quadruplet,
            atom_atom: PairTensors::new(&graph.atom_atom, kind, device),
        }
    }

    /// Number of main edges.
    pub fn edges(&self) -> i64 {
        self.main.source.size()[0]
    }
}

impl EdgeTensors {
    fn new(edges: &BatchEdges, device: Device) -> Self {
        Self {
            source: index(&edges.source, device),
            target: index(&edges.target, device),
            shift: shifts(&edges.shift, device),
            width: edges.width as i64,
            rows: index(&edges.rows, device),
            place: index(&edges.place, device),
        }
    }
}

impl QuadrupletTensors {
    fn new(graph: &QuadrupletEdges, main: &EdgeTensors, main_mask: &Tensor, reverse: &Tensor) -> Self {
        let (kind, device) = (main_mask.kind(), main_mask.device());
        let edges = EdgeTensors::new(&graph.edges, device);
        let (n, k, q) = (main_mask.size()[0], main.width, graph.edges.source.len() as i64);
        let output_mask = without(main_mask.index_select(0, &edges.target), &graph.same_output);
        let input_mask = without(main_mask.index_select(0, &edges.source), &graph.same_input);
        let receiving = index(&graph.receiving, device);
        Self {
            input_rows: main.rows.view([n, k]).index_select(0, &edges.source).view([q * k]),
            chain_mask: without(outer(&output_mask, &input_mask), &graph.closed),
            input_mask,
            receiving_reverse: reverse.index_select(0, &receiving),
            receiving,
            receiving_middle: index(&graph.receiving_middle, device),
            receiving_place: index(&graph.receiving_place, device),
            receiving_mask: row_mask(&graph.receiving_degree, graph.edges.width, kind, device),
            edges,
        }
    }
}

impl PairTensors {
    fn new(pairs: &PairEdges, kind: Kind, device: Device) -> Self {
        let rows = index(&pairs.rows, device);
        let pair_source = index(&pairs.pair_source, device);
        Self {
            source: index(&pairs.source, device),
            target: index(&pairs.target, device),
            shift: shifts(&pairs.shift, device),
            pair: index(&pairs.pair, device),
            row_source: pair_source.index_select(0, &rows),
            pair_source,
            width: pairs.width as i64,
            rows,
            mask: row_mask(&pairs.degree, pairs.width, kind, device),
        }
    }
}

fn index(values: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(values).to_device(device)
}

fn shifts(values: &[f64], device: Device) -> Tensor {
    Tensor::from_slice(values).view([values.len() as i64 / 3, 3]).to_device(device)
}

/// 1 in the first `degree` places of each row `[rows, width]`.
fn row_mask(degree: &[i64], width: usize, kind: Kind, device: Device) -> Tensor {
    let ranks = Tensor::arange(width as i64, (Kind::Int64, device)).unsqueeze(0);
    ranks.lt_tensor(&index(degree, device).unsqueeze(1)).to_kind(kind)
}

/// `[i, a]` and `[i, b]` to `[i, a, b]`.
fn outer(left: &Tensor, right: &Tensor) -> Tensor {
    left.unsqueeze(2) * right.unsqueeze(1)
}

/// The mask with 0 at the given places of its flat form.
fn without(mask: Tensor, places: &[i64]) -> Tensor {
    let flat = mask.view([-1]);
    let _ = flat.shallow_clone().index_fill_(0, &index(places, mask.device()), 0.0);
    mask
}
