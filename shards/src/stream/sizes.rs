//! What planning must know of rows: how large they are and which labels they have. Never whole rows.
//!
//! Where the manifest's statistics settle it (one number of atoms, a label that all or none have) nothing is read; else
//! small columns of the row groups that the order comes to.

use std::fmt::Debug;
use std::sync::Arc;

use super::order::SplitRows;
use super::{OpenDataset, Oversize};
use crate::batch::graph_of_row;
use crate::error::ShardError;
use crate::graph::GraphCounts;
use crate::reader::{Block, Columns};
use crate::statistics::SplitStatistics;

/// Size and labels of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RowSize {
    /// Atoms.
    pub(crate) atoms: u32,
    /// Main edges; 0 where no budget asks for them.
    pub(crate) edges: u32,
    /// Quadruplets; 0 where no budget asks for them.
    pub(crate) quadruplets: u64,
    /// Atoms not held in place; `atoms` where no one asks for them.
    pub(crate) free: u32,
    /// Whether there is the label that is learnt, the energy or a scalar target.
    pub(crate) energy: bool,
    /// Whether there are forces.
    pub(crate) forces: bool,
}

/// Values of a row group's rows.
#[derive(Debug, Clone)]
pub(crate) enum Values<T> {
    /// All the same.
    Same(T),
    /// One each.
    Each(Box<[T]>),
}

impl<T: Copy> Values<T> {
    fn of(&self, index: usize) -> T {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values[index],
        }
    }
}

/// Sizes of a row group's rows.
#[derive(Debug, Clone)]
pub(crate) struct GroupSizes {
    pub(crate) atoms: Values<u32>,
    /// Main edges and quadruplets.
    pub(crate) graphs: Values<(u32, u64)>,
    /// `None`: as `atoms`.
    pub(crate) free: Option<Values<u32>>,
    pub(crate) energy: Values<bool>,
    pub(crate) forces: Values<bool>,
}

impl GroupSizes {
    pub(crate) fn of(&self, index: usize) -> RowSize {
        let atoms = self.atoms.of(index);
        let (edges, quadruplets) = self.graphs.of(index);
        RowSize {
            atoms,
            edges,
            quadruplets,
            free: self.free.as_ref().map_or(atoms, |free| free.of(index)),
            energy: self.energy.of(index),
            forces: self.forces.of(index),
        }
    }
}

/// Where sizes come from.
pub(crate) trait SizeSource: Debug + Send + Sync {
    /// Sizes of a row group of a dataset.
    fn sizes(&self, dataset: usize, group: u32) -> Result<Arc<GroupSizes>, ShardError>;

    /// Sizes of these row groups are wanted soon: where a server has them, it is asked for all of them at once.
    fn ahead(&self, dataset: usize, groups: &[u32]);
}

/// What the statistics of a split say of all its rows.
#[derive(Debug, Clone, Copy)]
struct Facts {
    atoms: Option<u32>,
    energy: Option<bool>,
    forces: Option<bool>,
}

impl Facts {
    fn of(statistics: &SplitStatistics, label: &str) -> Self {
        let all = |count: u64| match count {
            0 => Some(false),
            n if n == statistics.structures => Some(true),
            _ => None,
        };
        Self {
            atoms: (statistics.atoms_min == statistics.atoms_max).then_some(statistics.atoms_min),
            energy: all(statistics.labels.get(label).map_or(0, |label| label.count)),
            forces: all(statistics.forces.as_ref().map_or(0, |forces| forces.structures)),
        }
    }
}

/// Which sizes are wanted beside atoms and labels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Edges and quadruplets.
    pub(crate) graphs: bool,
    /// Atoms not held in place.
    pub(crate) free: bool,
}

/// Sizes from the datasets' files.
#[derive(Debug)]
pub(crate) struct FileSizes {
    datasets: Arc<Vec<OpenDataset>>,
    splits: Arc<Vec<SplitRows>>,
    facts: Vec<Facts>,
    wanted: Wanted,
}

impl FileSizes {
    pub(crate) fn new(
        datasets: Arc<Vec<OpenDataset>>,
        splits: Arc<Vec<SplitRows>>,
        wanted: Wanted,
    ) -> Result<Self, ShardError> {
        let facts = |d: &OpenDataset| {
            let record = d.dataset.manifest().split(d.dataset.dir(), &d.entry.split)?;
            Ok(Facts::of(&record.statistics, &d.entry.transform.label))
        };
        let facts = datasets.iter().map(facts).collect::<Result<_, ShardError>>()?;
        Ok(Self { datasets, splits, facts, wanted })
    }

    fn columns(&self, dataset: usize) -> Option<Columns> {
        let (facts, opened) = (self.facts[dataset], &self.datasets[dataset]);
        let wanted = [
            (facts.atoms.is_none(), Columns::sizes()),
            (facts.energy.is_none(), Columns::energies()),
            (facts.forces.is_none(), Columns::forces()),
            (self.wanted.free, Columns::fixed()),
            (self.wanted.graphs && opened.counts_serve(), Columns::counts()),
            (self.wanted.graphs && !opened.counts_serve(), Columns::training(opened.stored)),
        ];
        wanted.into_iter().filter(|(is, _)| *is).map(|(_, columns)| columns).reduce(Columns::and)
    }

    fn graphs(&self, dataset: usize, group: u32, block: &Block) -> Result<Values<(u32, u64)>, ShardError> {
        let opened = &self.datasets[dataset];
        let key = |counts: GraphCounts| (counts.main, counts.quadruplets);
        if opened.counts_serve() {
            let all = (0..block.rows()).map(|row| block.counts(row).map(key).unwrap_or_default());
            return Ok(Values::Each(all.collect()));
        }
        let Some(spec) = &opened.entry.graph else { return Ok(Values::Same((0, 0))) };
        let mut counted = vec![(0, 0); block.rows()];
        for index in self.splits[dataset].indices(group) {
            let row = block.row(index as usize);
            let (graph, _) = graph_of_row(&row, spec, opened.stored, None)?;
            counted[index as usize] = key(GraphCounts::of(&graph));
        }
        Ok(Values::Each(counted.into()))
    }
}

impl SizeSource for FileSizes {
    fn ahead(&self, dataset: usize, groups: &[u32]) {
        let Some(columns) = self.columns(dataset) else { return };
        let opened = &self.datasets[dataset].dataset;
        for group in groups {
            opened.prefetch_columns(&opened.row_groups()[*group as usize], columns);
        }
    }

    fn sizes(&self, dataset: usize, group: u32) -> Result<Arc<GroupSizes>, ShardError> {
        let facts = self.facts[dataset];
        let none = || GroupSizes {
            atoms: Values::Same(facts.atoms.unwrap_or_default()),
            graphs: Values::Same((0, 0)),
            free: None,
            energy: Values::Same(facts.energy.unwrap_or_default()),
            forces: Values::Same(facts.forces.unwrap_or_default()),
        };
        let mut sizes = none();
        let Some(columns) = self.columns(dataset) else { return Ok(Arc::new(sizes)) };
        let label = &self.datasets[dataset].entry.transform.label;
        let opened = &self.datasets[dataset].dataset;
        let block = opened.read_columns(&opened.row_groups()[group as usize], columns)?;
        let rows = 0..block.rows();
        if facts.atoms.is_none() {
            sizes.atoms = Values::Each(rows.clone().map(|row| block.natoms(row)).collect());
        }
        if facts.energy.is_none() {
            sizes.energy =
                Values::Each(rows.clone().map(|row| block.row(row).label(label).is_some()).collect());
        }
        if facts.forces.is_none() {
            sizes.forces = Values::Each(rows.clone().map(|row| block.row(row).forces.is_some()).collect());
        }
        if self.wanted.free {
            sizes.free = Some(Values::Each(rows.map(|row| block.free_atoms(row)).collect()));
        }
        if self.wanted.graphs {
            sizes.graphs = self.graphs(dataset, group, &block)?;
        }
        Ok(Arc::new(sizes))
    }
}

/// How large a micro-batch may become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Structures at most.
    pub structures: Option<u64>,
    /// Atoms at most.
    pub atoms: Option<u64>,
    /// Main edges at most.
    pub edges: Option<u64>,
    /// Quadruplets at most.
    pub quadruplets: Option<u64>,
    /// What happens to a structure that exceeds a limit by itself.
    pub oversize: Oversize,
}

/// Sums over a micro-batch that is being filled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Load {
    structures: u64,
    atoms: u64,
    edges: u64,
    quadruplets: u64,
}

impl Load {
    pub(crate) fn with(self, size: RowSize) -> Self {
        Self {
            structures: self.structures + 1,
            atoms: self.atoms + u64::from(size.atoms),
            edges: self.edges + u64::from(size.edges),
            quadruplets: self.quadruplets + size.quadruplets,
        }
    }
}

impl Budget {
    /// Whether any limit is on graphs.
    pub(crate) fn on_graphs(&self) -> bool {
        self.edges.is_some() || self.quadruplets.is_some()
    }

    /// The limit that a load exceeds: its name, the limit, the load.
    pub(crate) fn exceeded(&self, load: Load) -> Option<(&'static str, u64, u64)> {
        let limits = [
            ("structures", self.structures, load.structures),
            ("atoms", self.atoms, load.atoms),
            ("edges", self.edges, load.edges),
            ("quadruplets", self.quadruplets, load.quadruplets),
        ];
        limits.into_iter().find_map(|(name, limit, load)| {
            limit.filter(|limit| load > *limit).map(|limit| (name, limit, load))
        })
    }

    /// How full a load is: its largest share of a limit, in millionths.
    pub(crate) fn fullness(&self, load: Load) -> u64 {
        let shares = [
            (self.structures, load.structures),
            (self.atoms, load.atoms),
            (self.edges, load.edges),
            (self.quadruplets, load.quadruplets),
        ];
        let share = |(limit, load): (Option<u64>, u64)| limit.map(|limit| 1_000_000 * load / limit.max(1));
        shares.into_iter().filter_map(share).max().unwrap_or(0)
    }
}
