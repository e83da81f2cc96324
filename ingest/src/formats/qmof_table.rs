//! QMOF's properties, from `qmof.json` or a table: identity, total energy, band gaps.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::qmof_input::open;
use crate::csv::{Csv, CsvError};
use crate::error::{IngestError, input_error, json_error};
use crate::json_stream::{JsonStream, describe};
use crate::packed::Packed;

/// Bytes of one entry's text.
const MAX_ENTRY: usize = 16 << 20;
/// Entries of a database; the release has about 20,000.
const MAX_ENTRIES: usize = 10_000_000;

/// The functionals whose band gaps are there: name in `qmof.json`, column of the dataset.
pub(super) const FUNCTIONALS: [(&str, &str); 4] = [
    ("pbe", "band_gap_pbe"),
    ("hle17", "band_gap_hle17"),
    ("hse06_10hf", "band_gap_hse06_10hf"),
    ("hse06", "band_gap_hse06"),
];

/// What is known about a material beside its structure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// `qmof-0123456`, or the reference code of the first release.
    pub(super) id: String,
    /// Total energy with PBE-D3(BJ), eV.
    pub(super) energy: Option<f64>,
    /// Band gaps in the order of [`FUNCTIONALS`], eV.
    pub(super) gaps: [Option<f64>; 4],
}

#[derive(Deserialize)]
struct Properties {
    qmof_id: String,
    outputs: Outputs,
}

#[derive(Deserialize)]
struct Outputs {
    pbe: Option<Level>,
    hle17: Option<Level>,
    hse06_10hf: Option<Level>,
    hse06: Option<Level>,
}

#[derive(Deserialize)]
struct Level {
    energy_total: Option<Number>,
    bandgap: Option<Number>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number")]
enum Number {
    Value(f64),
    /// What Python writes for a number that is none.
    Word(String),
}

impl Number {
    /// NaN means that it was not calculated.
    fn value(self) -> Option<f64> {
        match self {
            Self::Value(value) => Some(value),
            Self::Word(text) => text.parse().ok().filter(|v: &f64| !v.is_nan()),
        }
    }
}

impl From<Properties> for Entry {
    fn from(properties: Properties) -> Self {
        let Properties { qmof_id, outputs } = properties;
        let Outputs { mut pbe, hle17, hse06_10hf, hse06 } = outputs;
        let energy = pbe.as_mut().and_then(|l| l.energy_total.take()).and_then(Number::value);
        let gap = |level: Option<Level>| level.and_then(|l| l.bandgap).and_then(Number::value);
        Self { id: qmof_id, energy, gaps: [pbe, hle17, hse06_10hf, hse06].map(gap) }
    }
}

/// Reads `qmof.json`.
pub(super) fn from_json(file: &Packed) -> Result<Vec<Entry>, IngestError> {
    let wrap = json_error(file.path());
    let mut json = JsonStream::new(open(file)?, 0);
    let (mut entries, mut text) = (Vec::new(), Vec::new());
    json.begin_array().map_err(&wrap)?;
    while json.next_element(entries.is_empty()).map_err(&wrap)? {
        text.clear();
        json.take(&mut text, MAX_ENTRY).map_err(&wrap)?;
        let entry = serde_json::from_slice::<Properties>(&text).map_err(|error| {
            input_error(file.path(), format!("entry {}: {}", entries.len(), describe(&text, &error)))
        })?;
        push(&mut entries, entry.into(), file)?;
    }
    json.end().map_err(&wrap)?;
    check_ids(entries, file)
}

/// Reads `qmof.csv`, or `opt-bandgaps.csv` of the first release.
pub(super) fn from_csv(file: &Packed) -> Result<Vec<Entry>, IngestError> {
    let wrap = |error: CsvError| input_error(file.path(), error.to_string());
    let mut csv = Csv::new(open(file)?).map_err(wrap)?;
    let column = |names: &[String], name: &str| names.iter().position(|c| c.eq_ignore_ascii_case(name));
    let names = csv.columns().to_vec();
    let id = column(&names, "qmof_id").or_else(|| column(&names, "refcode"));
    let old = column(&names, "BG_PBE");
    let gap = |name: &str| column(&names, &format!("outputs.{name}.bandgap"));
    let mut gaps = FUNCTIONALS.map(|(name, _)| gap(name));
    gaps[0] = gaps[0].or(old);
    let energy = column(&names, "outputs.pbe.energy_total");
    let (Some(id), Some(_)) = (id, gaps[0]) else {
        let found = names.iter().take(12).cloned().collect::<Vec<_>>().join(", ");
        let problem = format!(
            "expected columns `qmof_id` and `outputs.pbe.bandgap` (or `refcode` and `BG_PBE`), found {found}"
        );
        return Err(input_error(file.path(), problem));
    };
    let mut entries = Vec::new();
    loop {
        let line = csv.line();
        let Some(record) = csv.record().map_err(wrap)? else { break };
        let number = |column: Option<usize>| match column.map(|c| (c, record[c].trim())) {
            None | Some((_, "" | "nan" | "NaN" | "None")) => Ok(None),
            Some((c, text)) => text.parse().map(Some).map_err(|_| {
                let problem = format!("line {line}: `{}`: expected a number, found {text:?}", names[c]);
                input_error(file.path(), problem)
            }),
        };
        let mut values = [None; 4];
        for (value, column) in values.iter_mut().zip(gaps) {
            *value = number(column)?;
        }
        let entry = Entry { id: record[id].clone(), energy: number(energy)?, gaps: values };
        push(&mut entries, entry, file)?;
    }
    check_ids(entries, file)
}

fn push(entries: &mut Vec<Entry>, entry: Entry, file: &Packed) -> Result<(), IngestError> {
    if entries.len() == MAX_ENTRIES {
        return Err(input_error(file.path(), format!("more than {MAX_ENTRIES} entries")));
    }
    entries.push(entry);
    Ok(())
}

/// Ids name files, rows and split members: they are plain and there is one of each.
fn check_ids(entries: Vec<Entry>, file: &Packed) -> Result<Vec<Entry>, IngestError> {
    let mut seen = BTreeSet::new();
    for (at, Entry { id, .. }) in entries.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if id.is_empty() || id.len() > 200 || !id.chars().all(plain) {
            let start: String = id.chars().take(40).collect();
            return Err(input_error(
                file.path(),
                format!("entry {at}: {start:?} is no id such as qmof-8a95c27"),
            ));
        }
        if !seen.insert(id.as_str()) {
            return Err(input_error(file.path(), format!("entry {at}: `{id}` is there twice")));
        }
    }
    if entries.is_empty() {
        return Err(input_error(file.path(), "has no entries"));
    }
    drop(seen);
    Ok(entries)
}
