//! MatBench v0.1: one gzipped JSON document a task, pandas' `split` orient with pymatgen structures.
//!
//! A first pass finds where the rows lie; then each unit is read on its own from there. Ids are the benchmark's,
//! `mb-<task>-<row from 1>`; the reduced formula is the group. Splits of fold k: `foldk_test` and `foldk_train_val` are the
//! benchmark's, `foldk_train` and `foldk_val` are JMP's parts of the latter.

use std::collections::BTreeSet;

use serde::Deserialize;
use shards::{FloatWidth, Target};

use super::matbench_tasks::{METAL, TASKS, Task};
use super::{Format, Options, description, matbench_folds};
use crate::crystal::Crystal;
use crate::error::{IngestError, input_error, io_error, json_error};
use crate::input::{Input, files};
use crate::json_stream::{JsonStream, describe};
use crate::packed::Packed;
use crate::pymatgen::StructureDict;
use crate::source::{Description, Members, Sink, Source, SplitPlan, Unit};

/// Bytes of one row's text; a structure of 10,000 atoms has 3 MB.
const MAX_ROW: usize = 16 << 20;
/// Rows of a file; the largest task has 132,752.
const MAX_ROWS: usize = 10_000_000;
/// Bytes of the list of columns, and of one target.
const MAX_SMALL: usize = 4096;
/// A unit is this part of a file, but not less than some rows: unpacking begins anew for each.
const UNITS: usize = 32;
const LEAST_UNIT_ROWS: usize = 500;

/// An opened task.
pub(super) struct Matbench {
    description: Description,
    file: Packed,
    task: &'static Task,
    /// First row of each unit and where it lies; one more entry at the end.
    starts: Vec<(usize, u64)>,
    rows: usize,
}

/// What the first pass finds.
struct Survey {
    /// Where the rows lie, and one more entry.
    offsets: Vec<u64>,
    /// Classes of the rows; empty for regression tasks.
    classes: Vec<bool>,
}

impl Matbench {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &["gz", "json"])?;
        let [only] = found.as_slice() else {
            let problem = format!(
                "is one of {} files; give one task's file, each task becomes its own dataset",
                found.len()
            );
            return Err(input_error(&found[0].path, problem));
        };
        let file = Packed::file(&only.path).map_err(io_error("read", &only.path))?;
        let task = task_of(&file)?;
        let survey = survey(&file, task)?;
        let rows = survey.offsets.len() - 1;
        let step = rows.div_ceil(UNITS).max(LEAST_UNIT_ROWS);
        let mut starts: Vec<(usize, u64)> =
            (0..rows).step_by(step).map(|row| (row, survey.offsets[row])).collect();
        starts.push((rows, survey.offsets[rows]));
        let units = starts.windows(2).map(|pair| {
            let (begin, end) = (pair[0].0, pair[1].0);
            let name = format!("{}[{begin}..{end}]", task.name);
            Unit { name, files: vec![only.path.clone()], structures: (end - begin) as u64 }
        });
        let mut header = description::header(Format::Matbench, None);
        header.name = format!("matbench-{}", task.name.replace('_', "-"));
        task.level.clone_into(&mut header.level_of_theory);
        header.choices.insert("task".to_owned(), task.name.to_owned());
        let float = if options.narrow { FloatWidth::F32 } else { FloatWidth::F64 };
        let mut layout = description::layout(Format::Matbench, float);
        layout.targets = vec![Target {
            name: task.target.to_owned(),
            unit: task.unit.to_owned(),
            meaning: format!("{} (the source's column `{}`)", task.meaning, task.column),
            referenced: false,
        }];
        let units = units.collect();
        let splits = splits(task, rows, &survey.classes);
        Ok(Self { description: Description { header, layout, units, splits }, file, task, starts, rows })
    }
}

/// The task that the file is named after: two tasks share a column's name, so that the content does not tell.
fn task_of(file: &Packed) -> Result<&'static Task, IngestError> {
    let name = file.name();
    let stem = name.strip_suffix(".gz").unwrap_or(name);
    let stem = stem.strip_suffix(".json").unwrap_or(stem);
    let task = stem.strip_prefix("matbench_").and_then(|rest| TASKS.iter().find(|t| t.name == rest));
    task.ok_or_else(|| {
        let known: Vec<&str> = TASKS.iter().map(|t| t.name).collect();
        let problem = format!(
            "expected a file named matbench_<task>.json.gz, which tells the task; tasks with structures are {}",
            known.join(", ")
        );
        input_error(file.path(), problem)
    })
}

/// One pass over the document: places of the rows, and what the folds need to know of them.
fn survey(file: &Packed, task: &Task) -> Result<Survey, IngestError> {
    let path = file.path();
    let wrap = json_error(path);
    let mut json = JsonStream::new(file.open().map_err(io_error("read", path))?, 0);
    let (mut indices, mut columns, mut data) = (None, false, None);
    json.begin_object().map_err(&wrap)?;
    let mut first = true;
    while let Some(key) = json.next_key(first).map_err(&wrap)? {
        first = false;
        match key.as_str() {
            "index" => indices = Some(index(&mut json, file)?),
            "columns" => {
                check_columns(&mut json, file, task)?;
                columns = true;
            }
            "data" => data = Some(rows(&mut json, file, task)?),
            _ => json.skip().map_err(&wrap)?,
        }
    }
    json.end().map_err(&wrap)?;
    let missing = |key: &str| {
        input_error(path, format!("no `{key}`: expected a table with `index`, `columns` and `data`"))
    };
    let survey = data.ok_or_else(|| missing("data"))?;
    let indices = indices.ok_or_else(|| missing("index"))?;
    if !columns {
        return Err(missing("columns"));
    }
    let rows = survey.offsets.len() - 1;
    if indices != rows {
        return Err(input_error(path, format!("{indices} entries in `index`, but {rows} rows in `data`")));
    }
    if rows == 0 {
        return Err(input_error(path, "`data` has no rows"));
    }
    Ok(survey)
}

/// The folds number the rows as the released file has them, so the index must be 0, 1, 2, …
fn index(json: &mut JsonStream<impl std::io::Read>, file: &Packed) -> Result<usize, IngestError> {
    let wrap = json_error(file.path());
    json.begin_array().map_err(&wrap)?;
    let mut text = Vec::new();
    let mut count = 0;
    while json.next_element(count == 0).map_err(&wrap)? {
        text.clear();
        json.take(&mut text, MAX_SMALL).map_err(&wrap)?;
        if text != count.to_string().as_bytes() || count == MAX_ROWS {
            let problem = format!(
                "`index`: entry {count} is {}, expected {count}: not the released table, in whose order the folds are defined",
                String::from_utf8_lossy(&text)
            );
            return Err(input_error(file.path(), problem));
        }
        count += 1;
    }
    Ok(count)
}

fn check_columns(
    json: &mut JsonStream<impl std::io::Read>,
    file: &Packed,
    task: &Task,
) -> Result<(), IngestError> {
    let mut text = Vec::new();
    json.take(&mut text, MAX_SMALL).map_err(json_error(file.path()))?;
    let expected = ["structure", task.column];
    let found = serde_json::from_slice::<Vec<String>>(&text).unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    let problem = format!(
        "`columns`: expected {expected:?} for the task {}, found {}",
        task.name,
        String::from_utf8_lossy(&text)
    );
    Err(input_error(file.path(), problem))
}

fn rows(
    json: &mut JsonStream<impl std::io::Read>,
    file: &Packed,
    task: &Task,
) -> Result<Survey, IngestError> {
    let (path, wrap) = (file.path(), json_error(file.path()));
    json.begin_array().map_err(&wrap)?;
    let (mut offsets, mut classes, mut text) = (Vec::new(), Vec::new(), Vec::new());
    while json.next_element(offsets.is_empty()).map_err(&wrap)? {
        let row = offsets.len();
        if row == MAX_ROWS {
            return Err(input_error(path, format!("`data` has more than {MAX_ROWS} rows")));
        }
        offsets.push(json.position());
        if task.name != METAL {
            json.skip().map_err(&wrap)?;
            continue;
        }
        json.begin_array().map_err(&wrap)?;
        let mut seen = 0;
        while json.next_element(seen == 0).map_err(&wrap)? {
            text.clear();
            if seen == 1 { json.take(&mut text, MAX_SMALL) } else { json.skip() }.map_err(&wrap)?;
            seen += 1;
        }
        match text.as_slice() {
            b"true" | b"1" | b"1.0" => classes.push(true),
            b"false" | b"0" | b"0.0" => classes.push(false),
            other => {
                let problem = format!(
                    "row {row}: `is_metal`: expected true or false, found {}; the folds need every row's class",
                    String::from_utf8_lossy(other)
                );
                return Err(input_error(path, problem));
            }
        }
    }
    offsets.push(json.position());
    Ok(Survey { offsets, classes })
}

fn id(task: &Task, rows: usize, row: usize) -> String {
    let width = rows.max(1).ilog10() as usize + 1;
    format!("mb-{}-{:0width$}", task.name.replace('_', "-"), row + 1)
}

fn splits(task: &Task, rows: usize, classes: &[bool]) -> Vec<SplitPlan> {
    let stratified = task.name == METAL;
    let folds = if stratified {
        matbench_folds::classification(classes)
    } else {
        matbench_folds::regression(rows as u32)
    };
    let outer = matbench_folds::algorithm(stratified);
    let inner = format!("{outer}; {}", matbench_folds::inner_algorithm());
    let mut plans = Vec::new();
    for (k, fold) in folds.iter().enumerate() {
        let mut plan = |part: &str, algorithm: &str, seed: u64, members: &[u32]| {
            let ids: BTreeSet<String> = members.iter().map(|&row| id(task, rows, row as usize)).collect();
            plans.push(SplitPlan {
                name: format!("fold{k}_{part}"),
                algorithm: algorithm.to_owned(),
                seed: Some(seed),
                members: Members::Ids(ids),
            });
        };
        plan("train_val", &outer, matbench_folds::SEED.into(), &fold.train_val);
        plan("test", &outer, matbench_folds::SEED.into(), &fold.test);
        plan("train", &inner, matbench_folds::VALIDATION_SEED.into(), &fold.train);
        plan("val", &inner, matbench_folds::VALIDATION_SEED.into(), &fold.val);
    }
    plans
}

/// One row of `data`.
#[derive(Deserialize)]
struct Row(StructureDict, Value);

/// A target as pandas writes it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, true or false")]
enum Value {
    Number(f64),
    Flag(bool),
    /// What Python writes for a number that is none.
    Word(String),
}

impl Value {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(value) => Some(*value),
            Self::Flag(value) => Some(f64::from(u8::from(*value))),
            Self::Word(text) => text.parse().ok(),
        }
    }
}

impl Source for Matbench {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let (path, wrap) = (self.file.path(), json_error(self.file.path()));
        let ((begin, offset), (end, _)) = (self.starts[unit], self.starts[unit + 1]);
        let reader = self.file.open_at(offset).map_err(io_error("read", path))?;
        let mut json = JsonStream::new(reader, offset);
        let mut text = Vec::new();
        for row in begin..end {
            text.clear();
            json.take(&mut text, MAX_ROW).map_err(&wrap)?;
            if row + 1 < end {
                json.next_element(false).map_err(&wrap)?;
            }
            self.row(row, &text, sink)?;
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        if self.rows == self.task.rows {
            return Vec::new();
        }
        vec![format!(
            "{} has {} rows, the published file {}: the folds are those of the published rule, over other rows",
            self.file.name(),
            self.rows,
            self.task.rows
        )]
    }
}

impl Matbench {
    fn row(&self, row: usize, text: &[u8], sink: &mut dyn Sink) -> Result<(), IngestError> {
        let id = id(self.task, self.rows, row);
        let refuse = |sink: &mut dyn Sink, code, reason: String| {
            sink.reject(&id, code, &format!("row {row}: {reason}"))
        };
        let Row(structure, value) = match serde_json::from_slice(text) {
            Ok(parsed) => parsed,
            Err(error) => return refuse(sink, "malformed", describe(text, &error)),
        };
        let Some(value) = value.number() else {
            return refuse(sink, "malformed", format!("`{}` is no number", self.task.column));
        };
        match Crystal::try_from(structure) {
            Ok(crystal) => {
                let float = self.description.layout.float;
                sink.structure(crystal.into_structure(id, float, None, vec![Some(value)]))
            }
            Err(fault) => refuse(sink, fault.code(), fault.to_string()),
        }
    }
}
