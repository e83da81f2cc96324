//! Rows of datasets on their way to a model.

use std::rc::Rc;
use std::sync::mpsc::Receiver;

use shards::graph::{GraphError, GraphSpec};
use shards::reader::Columns;
use shards::{Dataset, RowSet, ShardError};
use thiserror::Error;

use crate::inference::prepared::graph_of;
use crate::inference::{Budget, Prepared, batches};

/// A row that is embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its dataset's place in the list.
    pub dataset: usize,
    /// Its number.
    pub row: u64,
    /// Its id at the source.
    pub id: String,
}

/// Why a row cannot be embedded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RowsError {
    /// The shards cannot be read.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// A structure without a graph.
    #[error("{dataset}: structure `{id}`")]
    Graph {
        /// The dataset's directory.
        dataset: String,
        /// Id of the structure.
        id: String,
        /// Why.
        source: Box<GraphError>,
    },
}

/// A dataset, its rows that are wanted, and their graphs.
#[derive(Debug)]
pub struct Wanted {
    /// The dataset.
    pub dataset: Dataset,
    /// Which rows.
    pub rows: RowSet,
    /// Their graphs.
    pub graph: GraphSpec,
}

/// Batches of rows as they come from their thread.
pub type RowBatches = Receiver<Result<Vec<(Row, Prepared)>, RowsError>>;

/// The rows in order, decoded and with their graphs, on a thread of their own.
///
/// # Errors
/// When the system gives no thread.
pub fn rows(wanted: Vec<Wanted>, budget: Budget) -> std::io::Result<RowBatches> {
    batches(budget, move || {
        wanted.into_iter().enumerate().flat_map(|(place, wanted)| of_dataset(place, wanted))
    })
}

type Item = Result<(Row, Prepared), RowsError>;

/// A row group is decoded when its first row is asked for, a graph when its row is.
fn of_dataset(place: usize, wanted: Wanted) -> impl Iterator<Item = Item> {
    let wanted = Rc::new(wanted);
    let groups = wanted.dataset.row_groups().to_vec();
    groups.into_iter().flat_map(move |group| -> Box<dyn Iterator<Item = Item>> {
        let here: Vec<u64> = wanted.rows.within(group.rows.clone()).collect();
        if here.is_empty() {
            return Box::new(std::iter::empty());
        }
        let block = match wanted.dataset.read(&group, Columns::training(false)) {
            Ok(block) => block,
            Err(error) => return Box::new(std::iter::once(Err(error.into()))),
        };
        let wanted = Rc::clone(&wanted);
        Box::new(here.into_iter().map(move |row| {
            let structure = block.row((row - group.rows.start) as usize).to_structure();
            let prepared = graph_of(&structure, &wanted.graph).map_err(|source| RowsError::Graph {
                dataset: wanted.dataset.dir().display().to_string(),
                id: structure.id.clone(),
                source: Box::new(source),
            })?;
            Ok((Row { dataset: place, row, id: structure.id }, prepared))
        }))
    })
}
