//! What every source format offers: a description, source units in a fixed order, and the structures of each.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shards::{DatasetHeader, Layout, Structure};

use crate::error::IngestError;

/// A part of a source that is read by one thread and becomes one file of the dataset.
///
/// Units are cut by the source's own parts (files, key ranges, groups), never by how many structures were accepted, so that
/// any number of jobs and machines makes the same files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Name, unique within the source; recorded in the manifest.
    pub name: String,
    /// Files that are read for it.
    pub files: Vec<PathBuf>,
    /// Structures that the source says it has.
    pub structures: u64,
}

/// Which rows belong to a split that the source itself defines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Members {
    /// All rows of these units.
    Units(BTreeSet<u32>),
    /// All rows of these groups.
    Groups(BTreeSet<String>),
    /// The rows of these ids; ids of rejected structures are passed over.
    Ids(BTreeSet<String>),
}

/// A split that comes with the source, or follows from it by a published rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitPlan {
    /// Its name.
    pub name: String,
    /// How its rows were chosen, in words that suffice to repeat it.
    pub algorithm: String,
    /// The seed, where the choice was random.
    pub seed: Option<u64>,
    /// Its rows.
    pub members: Members,
}

/// Takes what a source reads.
pub trait Sink {
    /// A structure in Å, eV and eV/Å.
    ///
    /// # Errors
    /// When it cannot be stored and no more rejects are allowed, when writing fails, or when the user stops the program.
    fn structure(&mut self, structure: Structure) -> Result<(), IngestError>;

    /// A structure that cannot be read: `id`, a short code to count by, the reason.
    ///
    /// # Errors
    /// When no more rejects are allowed.
    fn reject(&mut self, id: &str, code: &'static str, reason: &str) -> Result<(), IngestError>;

    /// A structure that the source itself says has no labels of the chosen kind: listed and counted, not limited.
    fn leave_out(&mut self, id: &str, code: &'static str, reason: &str);
}

/// What a source dataset is, known as soon as it is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Name, level of theory, licence, choices made.
    pub header: DatasetHeader,
    /// The columns it fills, with the graphs that its models use.
    pub layout: Layout,
    /// Its parts, in the order of the rows.
    pub units: Vec<Unit>,
    /// The splits it defines.
    pub splits: Vec<SplitPlan>,
}

/// A source dataset, opened. Reading different units from several threads at once is fine.
pub trait Source: Sync + Send {
    /// What it is.
    fn description(&self) -> &Description;

    /// Reads a unit from start to end.
    ///
    /// # Errors
    /// When the source is damaged, or the sink refuses.
    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError>;

    /// What looks wrong about the data read so far, though it can be stored.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

impl dyn Source + '_ {
    /// What the dataset is.
    pub fn header(&self) -> &DatasetHeader {
        &self.description().header
    }

    /// The columns it fills, with the graphs that its models use.
    pub fn layout(&self) -> &Layout {
        &self.description().layout
    }

    /// Its parts, in the order of the rows.
    pub fn units(&self) -> &[Unit] {
        &self.description().units
    }

    /// The splits it defines.
    pub fn splits(&self) -> &[SplitPlan] {
        &self.description().splits
    }
}
