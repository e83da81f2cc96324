//! Which elements datasets share: what a model that was trained on one has seen of another.

use serde::Serialize;

use crate::dataset_report::DatasetReport;

/// Elements of several datasets, each taken over its split with most rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Coverage {
    /// Datasets in the order of the report.
    pub datasets: Vec<String>,
    /// Every element that any of them has, by atomic number.
    pub elements: Vec<CoveredElement>,
    /// `shared[a][b]`: share of the atoms of dataset `a` whose element occurs in dataset `b`.
    pub shared: Vec<Vec<f64>>,
    /// `missing[a][b]`: symbols of the elements of `a` that `b` does not have.
    pub missing: Vec<Vec<Vec<String>>>,
}

/// An element and the datasets that have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoveredElement {
    /// Chemical symbol.
    pub symbol: String,
    /// Atomic number.
    pub atomic_number: u8,
    /// Atoms of it in each dataset.
    pub atoms: Vec<u64>,
}

impl CoveredElement {
    /// How many datasets have it.
    pub fn datasets(&self) -> u64 {
        self.atoms.iter().filter(|&&n| n > 0).count() as u64
    }
}

/// Compares the elements of datasets.
pub fn gather(datasets: &[DatasetReport]) -> Coverage {
    let atoms_of = |dataset: &DatasetReport, z: u8| {
        dataset.elements.iter().find(|e| e.atomic_number == z).map_or(0, |e| e.atoms)
    };
    let mut numbers: Vec<u8> = datasets.iter().flat_map(|d| &d.elements).map(|e| e.atomic_number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let elements: Vec<CoveredElement> = numbers
        .into_iter()
        .map(|z| CoveredElement {
            symbol: shards::element::symbol(z).into(),
            atomic_number: z,
            atoms: datasets.iter().map(|d| atoms_of(d, z)).collect(),
        })
        .collect();
    let pairs = |of: &dyn Fn(usize, usize) -> f64| -> Vec<Vec<f64>> {
        (0..datasets.len()).map(|a| (0..datasets.len()).map(|b| of(a, b)).collect()).collect()
    };
    let shared = pairs(&|a, b| {
        let all: u64 = elements.iter().map(|e| e.atoms[a]).sum();
        let common: u64 = elements.iter().filter(|e| e.atoms[b] > 0).map(|e| e.atoms[a]).sum();
        if all > 0 { common as f64 / all as f64 } else { f64::NAN }
    });
    let lacking = |a: usize, b: usize| -> Vec<String> {
        let lacks = |e: &&CoveredElement| e.atoms[a] > 0 && e.atoms[b] == 0;
        elements.iter().filter(lacks).map(|e| e.symbol.clone()).collect()
    };
    let missing = (0..datasets.len()).map(|a| (0..datasets.len()).map(|b| lacking(a, b)).collect()).collect();
    Coverage { datasets: datasets.iter().map(|d| d.name.clone()).collect(), elements, shared, missing }
}
