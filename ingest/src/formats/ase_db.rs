//! Databases of ASE (`.db`): the table `systems` of a SQLite file, versions 5 to 9.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::ase_files::Rows;
use super::ase_row::{Field, Row};
use crate::ase_json;
use crate::error::{IngestError, input_error};
use crate::sqlite::{Database, Table, Value};

/// An open database.
pub(super) struct AseDatabase {
    database: Database,
    table: Table,
    path: PathBuf,
    /// Numbers of the rows; there are gaps where rows were deleted.
    numbers: Vec<u64>,
}

impl AseDatabase {
    pub(super) fn open(path: &Path) -> Result<Self, IngestError> {
        let database = Database::open(path)?;
        let table = database.table("systems")?;
        for needed in ["id", "numbers", "positions", "cell", "pbc"] {
            if !table.columns.iter().any(|c| c == needed) {
                return Err(IngestError::Missing {
                    path: path.to_path_buf(),
                    place: "table `systems`".to_owned(),
                    key: needed.to_owned(),
                    known: table.columns.clone(),
                });
            }
        }
        let numbers = table.rowids().map(|id| id as u64).collect();
        Ok(Self { database, table, path: path.to_path_buf(), numbers })
    }

    fn add(row: &mut Row, name: &str, value: Value) -> Result<(), String> {
        let field = match (name, value) {
            // The sum of initial charges, 0 when nobody set any: it says nothing.
            ("charge", _) | (_, Value::Null) => return Ok(()),
            ("key_value_pairs" | "data", Value::Text(text)) => {
                row.add(ase_json::parse(text.as_bytes()).map_err(|p| format!("`{name}`: {p}"))?);
                return Ok(());
            }
            ("data", Value::Blob(bytes)) => {
                row.add(object(&bytes).map_err(|p| format!("`data`: {p}"))?);
                return Ok(());
            }
            ("pbc", Value::Integer(bits)) => {
                Field::Numbers((0..3).map(|axis| f64::from(u8::from(bits >> axis & 1 == 1))).collect())
            }
            (_, Value::Integer(number)) => Field::Numbers(vec![number as f64]),
            (_, Value::Real(number)) => Field::Numbers(vec![number]),
            (_, Value::Text(text)) => Field::Json(Json::String(text)),
            ("numbers" | "tags", Value::Blob(bytes)) => {
                let words =
                    bytes.chunks_exact(4).map(|b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])));
                Field::Numbers(words.collect())
            }
            (_, Value::Blob(bytes)) => {
                let words = bytes
                    .chunks_exact(8)
                    .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]));
                Field::Numbers(words.collect())
            }
        };
        row.own.insert(name.to_owned(), field);
        Ok(())
    }
}

/// The JSON of ASE's binary form of an object: eight bytes say where it begins, arrays lie before it.
fn object(bytes: &[u8]) -> Result<Json, String> {
    if bytes.first() == Some(&b'{') {
        return ase_json::parse(bytes);
    }
    let start = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    let json = start.and_then(|s| usize::try_from(s).ok()).and_then(|s| bytes.get(s..));
    ase_json::parse(json.ok_or("it is damaged: its JSON begins outside of it")?)
}

impl Rows for AseDatabase {
    fn len(&self) -> usize {
        self.table.len()
    }

    fn number(&self, row: usize) -> u64 {
        self.numbers[row]
    }

    fn row(&mut self, index: usize) -> Result<Row, IngestError> {
        let (id, values) = self.database.row(&self.table, index)?;
        let mut row = Row::default();
        for (name, value) in self.table.columns.iter().zip(values) {
            Self::add(&mut row, name, value)
                .map_err(|p| input_error(&self.path, format!("row {id}: {p}")))?;
        }
        Ok(row)
    }
}
