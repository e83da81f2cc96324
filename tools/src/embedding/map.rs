//! The map of structures (paper Figure 5): principal components, then t-SNE, of node and edge embeddings.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use polars::prelude::*;
use serde::Serialize;

use super::pca::Pca;
use super::points::Points;
use super::table::{Level, Structures};
use super::tsne::{self, Settings};
use crate::error::ReportError;

/// Principal components that t-SNE starts from, as is usual.
pub const COMPONENTS: usize = 50;

/// A dataset of the map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetCount {
    /// Its name.
    pub name: String,
    /// Structures in the files.
    pub structures: u64,
    /// Structures on the map.
    pub shown: u64,
}

/// The map of one level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelMap {
    /// `node` or `edge`.
    pub level: &'static str,
    /// Numbers of an embedding.
    pub dimensions: usize,
    /// Principal components kept.
    pub components: usize,
    /// Share of the variance that they hold.
    pub explained: f64,
    /// Perplexity used.
    pub perplexity: f64,
    /// Kullback–Leibler divergence of the map.
    pub divergence: f64,
    /// Whether all pairs of points were summed; else Barnes–Hut.
    pub exact: bool,
    /// Row of the sample for each point.
    #[serde(skip)]
    pub rows: Vec<usize>,
    /// Where each point lies.
    #[serde(skip)]
    pub places: Vec<[f64; 2]>,
}

/// All that the report says; the places are in the Parquet file beside it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MapReport {
    /// The files of embeddings.
    pub files: Vec<String>,
    /// Seed of sample and map.
    pub seed: u64,
    /// Steps of gradient descent.
    pub iterations: usize,
    /// Datasets in the order of their names.
    pub datasets: Vec<DatasetCount>,
    /// The maps.
    pub maps: Vec<LevelMap>,
    /// Dataset of each row of the sample.
    #[serde(skip)]
    pub names: Vec<String>,
    /// Id of each row of the sample.
    #[serde(skip)]
    pub ids: Vec<String>,
    /// Formula of each row of the sample.
    #[serde(skip)]
    pub formulas: Vec<String>,
}

/// Several files as one; their embeddings must be of equal length.
pub fn joined(files: &[(PathBuf, Structures)]) -> Result<Structures, ReportError> {
    let empty = |files: &[(PathBuf, Structures)], of: fn(&Structures) -> &Level| {
        Points::new(files.first().map_or(1, |(_, s)| of(s).vectors.dimensions()), vec![])
    };
    let level = |of: fn(&Structures) -> &Level, name: &str| -> Result<Level, ReportError> {
        let dimensions = empty(files, of).dimensions();
        let (mut values, mut rows, mut before) = (vec![], vec![], 0);
        for (path, structures) in files {
            let own = of(structures);
            if own.vectors.dimensions() != dimensions {
                let problem = format!(
                    "column {name}: {} numbers, {dimensions} in {}; all files must come from one model",
                    own.vectors.dimensions(),
                    files[0].0.display()
                );
                return Err(ReportError::Run { path: path.clone(), problem });
            }
            values.extend_from_slice(own.vectors.values());
            rows.extend(own.rows.iter().map(|row| row + before));
            before += structures.ids.len();
        }
        Ok(Level { vectors: Points::new(dimensions, values), rows })
    };
    let text = |of: fn(&Structures) -> &Vec<String>| files.iter().flat_map(|(_, s)| of(s)).cloned().collect();
    Ok(Structures {
        datasets: text(|s| &s.datasets),
        ids: text(|s| &s.ids),
        formulas: text(|s| &s.formulas),
        node: level(|s| &s.node, "node")?,
        edge: level(|s| &s.edge, "edge")?,
    })
}

/// Datasets with how many of their rows are chosen.
pub fn counts(datasets: &[String], chosen: &[usize]) -> Vec<DatasetCount> {
    let mut counts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    datasets.iter().for_each(|name| counts.entry(name).or_default().0 += 1);
    chosen.iter().for_each(|row| counts.entry(&datasets[*row]).or_default().1 += 1);
    let count = |(name, (structures, shown)): (&str, (u64, u64))| DatasetCount {
        name: name.into(),
        structures,
        shown,
    };
    counts.into_iter().map(count).collect()
}

/// The map of one level of chosen rows (rising). `None` where fewer than three of them have a vector.
pub fn level(
    name: &'static str,
    level: &Level,
    chosen: &[usize],
    settings: Settings,
    each: impl FnMut(usize),
) -> Option<LevelMap> {
    let d = level.vectors.dimensions();
    let (mut values, mut rows) = (vec![], vec![]);
    for (index, row) in level.rows.iter().enumerate() {
        if let Ok(at) = chosen.binary_search(row) {
            values.extend_from_slice(level.vectors.point(index));
            rows.push(at);
        }
    }
    if rows.len() < 3 {
        return None;
    }
    let pca = Pca::new(&Points::new(d, values), COMPONENTS);
    let map = tsne::map(&pca.scores, &pca.scores, settings, each);
    Some(LevelMap {
        level: name,
        dimensions: d,
        components: pca.scores.dimensions(),
        explained: pca.explained(),
        perplexity: map.perplexity,
        divergence: map.divergence,
        exact: map.exact,
        rows,
        places: map.places,
    })
}

impl MapReport {
    /// Writes the places: a row a structure, with `node_x`, `node_y`, `edge_x`, `edge_y`; null where it has no vector.
    pub fn write_places(&self, path: &Path) -> Result<(), ReportError> {
        let coordinate = |map: Option<&LevelMap>, k: usize| -> Vec<Option<f64>> {
            let mut values = vec![None; self.ids.len()];
            let places = map.into_iter().flat_map(|m| m.rows.iter().zip(&m.places));
            places.for_each(|(row, place)| values[*row] = Some(place[k]));
            values
        };
        let mut columns = vec![
            Column::new("dataset".into(), &self.names),
            Column::new("id".into(), &self.ids),
            Column::new("formula".into(), &self.formulas),
        ];
        for level in ["node", "edge"] {
            let map = self.maps.iter().find(|m| m.level == level);
            for (k, axis) in ["x", "y"].into_iter().enumerate() {
                columns.push(Column::new(format!("{level}_{axis}").into(), coordinate(map, k)));
            }
        }
        let temporary = path.with_extension("parquet.tmp");
        let file = File::create(&temporary).map_err(ReportError::write(&temporary))?;
        let written =
            DataFrame::new(self.ids.len(), columns).and_then(|mut f| ParquetWriter::new(file).finish(&mut f));
        written.map_err(|e| ReportError::write(&temporary)(std::io::Error::other(e)))?;
        std::fs::rename(&temporary, path).map_err(ReportError::write(path))
    }
}
