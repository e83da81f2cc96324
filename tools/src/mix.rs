//! What one epoch of joint training draws from each dataset, by temperature (paper §3.1).

use serde::Serialize;
use shards::stream::{Temperature, expanded_sizes};

use crate::dataset_report::DatasetReport;
use crate::error::ReportError;

/// The mix at one temperature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mix {
    /// `1`, `2`, … or `inf`.
    pub temperature: String,
    /// Structures of an epoch.
    pub epoch: u64,
    /// What each dataset contributes, in the order of the report.
    pub datasets: Vec<Contribution>,
}

/// What a dataset contributes to an epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contribution {
    /// The dataset.
    pub dataset: String,
    /// The split it is trained on.
    pub split: String,
    /// Rows of that split.
    pub rows: u64,
    /// Structures drawn in an epoch.
    pub drawn: u64,
    /// Share of the epoch.
    pub share: f64,
    /// How often a row is seen in an epoch.
    pub repeats: f64,
}

/// A temperature as written on the command line: a positive number or `inf`.
pub fn parse(text: &str) -> Result<Temperature, String> {
    match text.trim() {
        "inf" | "infinity" => Ok(Temperature::Infinite),
        number => match number.parse::<f64>() {
            Ok(t) if t.is_finite() && t > 0.0 => Ok(Temperature::Finite(t)),
            _ => Err(format!("`{text}`: expected a positive number or inf")),
        },
    }
}

/// The mix of all datasets that have rows to train on, at each temperature.
pub fn gather(datasets: &[DatasetReport], temperatures: &[Temperature]) -> Result<Vec<Mix>, ReportError> {
    let trained: Vec<(&DatasetReport, &str, u64)> = datasets
        .iter()
        .filter_map(|d| {
            let split = d.splits.iter().find(|s| Some(&s.name) == d.training_split.as_ref())?;
            (split.rows > 0).then_some((d, split.name.as_str(), split.rows))
        })
        .collect();
    if trained.is_empty() {
        return Ok(vec![]);
    }
    let sizes: Vec<u64> = trained.iter().map(|t| t.2).collect();
    temperatures.iter().map(|&temperature| one(&trained, &sizes, temperature)).collect()
}

fn one(
    trained: &[(&DatasetReport, &str, u64)],
    sizes: &[u64],
    temperature: Temperature,
) -> Result<Mix, ReportError> {
    let drawn = expanded_sizes(sizes, temperature).map_err(|e| ReportError::Usage(e.to_string()))?;
    let epoch: u64 = drawn.iter().sum();
    let contribution =
        |(&(dataset, split, rows), &drawn): (&(&DatasetReport, &str, u64), &u64)| Contribution {
            dataset: dataset.name.clone(),
            split: split.into(),
            rows,
            drawn,
            share: drawn as f64 / epoch as f64,
            repeats: drawn as f64 / rows as f64,
        };
    let temperature = match temperature {
        Temperature::Finite(t) => t.to_string(),
        Temperature::Infinite => "inf".into(),
    };
    Ok(Mix { temperature, epoch, datasets: trained.iter().zip(&drawn).map(contribution).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_are_numbers_or_inf() {
        assert_eq!(parse("2"), Ok(Temperature::Finite(2.0)));
        assert_eq!(parse(" inf"), Ok(Temperature::Infinite));
        assert!(parse("-1").unwrap_err().contains("expected a positive number or inf"));
        assert!(parse("NaN").is_err());
    }
}
