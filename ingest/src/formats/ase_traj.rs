//! Trajectories of ASE (`.traj`): one ULM item a frame; what does not change may stand in the first alone.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::ase_files::Rows;
use super::ase_row::{Field, Row};
use crate::ase_json;
use crate::error::{IngestError, input_error};
use crate::ulm::Ulm;

/// What a frame takes from the first when it does not say it itself.
const SHARED: [&str; 3] = ["numbers", "pbc", "constraints"];
/// Arrays that nothing here needs.
const UNUSED: [&str; 3] = ["momenta", "magmoms", "masses"];

/// An open trajectory.
pub(super) struct Trajectory {
    ulm: Ulm,
    path: PathBuf,
    shared: Vec<(String, Field)>,
}

impl Trajectory {
    pub(super) fn open(path: &Path) -> Result<Self, IngestError> {
        let mut file = Self { ulm: Ulm::open(path)?, path: path.to_path_buf(), shared: vec![] };
        if file.ulm.tag() != "ASE-Trajectory" {
            let problem = format!("is a ULM file of another kind ({:?}), no trajectory", file.ulm.tag());
            return Err(input_error(path, problem));
        }
        if !file.ulm.is_empty() {
            let first = file.row(0)?;
            file.shared = first.own.into_iter().filter(|(name, _)| SHARED.contains(&name.as_str())).collect();
        }
        Ok(file)
    }

    fn add(&self, row: &mut Row, name: &str, value: Json) -> Result<(), String> {
        let Some(bare) = name.strip_suffix('.') else {
            match name {
                "info" => row.add(value),
                "name" | "parameters" => {}
                _ => drop(row.own.insert(name.to_owned(), Field::Json(value))),
            }
            return Ok(());
        };
        match value {
            _ if UNUSED.contains(&bare) => {}
            Json::Object(ref object) if object.contains_key("ndarray") => {
                let array = self.ulm.array(&value).map_err(|p| format!("`{bare}`: {p}"))?;
                row.own.insert(bare.to_owned(), Field::Numbers(array.to_f64()));
            }
            // The results of a calculator count as the frame's own.
            Json::Object(inner) if bare == "calculator" => {
                for (name, value) in inner {
                    self.add(row, &name, value)?;
                }
            }
            other if bare == "info" => row.add(other),
            _ => {}
        }
        Ok(())
    }
}

impl Rows for Trajectory {
    fn len(&self) -> usize {
        self.ulm.len()
    }

    fn number(&self, row: usize) -> u64 {
        row as u64
    }

    fn row(&mut self, index: usize) -> Result<Row, IngestError> {
        let wrong = |problem: String| input_error(&self.path, format!("frame {index}: {problem}"));
        let Json::Object(fields) = self.ulm.item(index)? else {
            return Err(wrong("expected an object".to_owned()));
        };
        let mut row = Row::default();
        for (name, value) in fields {
            self.add(&mut row, &name, value).map_err(wrong)?;
        }
        if !row.own.contains_key("numbers") {
            row.own.extend(self.shared.iter().cloned());
        }
        if let Some(Field::Json(Json::String(text))) = row.own.get("constraints") {
            // It is checked here so that the message names the frame's file.
            ase_json::parse(text.as_bytes()).map_err(|p| wrong(format!("`constraints`: {p}")))?;
        }
        Ok(row)
    }
}
