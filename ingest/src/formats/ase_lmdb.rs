//! ASE-LMDB (`.aselmdb`): rows as zlib-compressed JSON under decimal keys from 1.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use flate2::read::ZlibDecoder;
use serde_json::Value as Json;

use super::ase_files::Rows;
use super::ase_row::Row;
use crate::ase_json;
use crate::compressed::read_all;
use crate::error::{IngestError, input_error};
use crate::lmdb::Reader;

/// Bytes of JSON of a row: 65,535 atoms with all their arrays take some 10 MB.
const LARGEST_ROW: u64 = 1 << 25;

/// An open file.
pub(super) struct AseLmdb {
    reader: Reader,
    path: PathBuf,
    /// Row numbers that exist, ascending.
    live: Vec<u64>,
}

impl AseLmdb {
    pub(super) fn open(path: &Path) -> Result<Self, IngestError> {
        let wrap = |source| IngestError::Lmdb { path: path.to_path_buf(), source };
        let mut file =
            Self { reader: Reader::open(path).map_err(wrap)?, path: path.to_path_buf(), live: vec![] };
        let next = file.value("nextid")?.and_then(|v| v.as_u64());
        let Some(next) = next else {
            let problem = "no `nextid`, the number behind that of the last row: is this an .aselmdb file?";
            return Err(input_error(path, problem));
        };
        let deleted: BTreeSet<u64> = match file.value("deleted_ids")? {
            None | Some(Json::Null) => BTreeSet::new(),
            Some(list) => {
                let numbers = ase_json::numbers(&list);
                let numbers =
                    numbers.ok_or_else(|| input_error(path, "`deleted_ids` is no list of numbers"))?;
                numbers.into_iter().map(|id| id as u64).collect()
            }
        };
        let rows = next.saturating_sub(1).saturating_sub(deleted.range(1..next.max(1)).count() as u64);
        if rows > file.reader.entries() {
            let problem = format!(
                "`nextid` {next} speaks of {rows} rows, but the file has {} entries",
                file.reader.entries()
            );
            return Err(input_error(path, problem));
        }
        file.live = (1..next).filter(|id| !deleted.contains(id)).collect();
        Ok(file)
    }

    /// The value of a key.
    fn value(&mut self, key: &str) -> Result<Option<Json>, IngestError> {
        let wrap = |source| IngestError::Lmdb { path: self.path.clone(), source };
        let Some(packed) = self.reader.get(key.as_bytes()).map_err(wrap)? else { return Ok(None) };
        let wrong = |problem: String| input_error(&self.path, format!("key `{key}`: {problem}"));
        let text = read_all(ZlibDecoder::new(packed.as_slice()), LARGEST_ROW)
            .map_err(|e| wrong(format!("expected zlib-compressed JSON: {e}")))?;
        ase_json::parse(&text).map(Some).map_err(wrong)
    }
}

impl Rows for AseLmdb {
    fn len(&self) -> usize {
        self.live.len()
    }

    fn number(&self, row: usize) -> u64 {
        self.live[row]
    }

    fn row(&mut self, row: usize) -> Result<Row, IngestError> {
        let key = self.live[row].to_string();
        let value = self.value(&key)?.ok_or_else(|| IngestError::Missing {
            path: self.path.clone(),
            place: "the file".to_owned(),
            key: key.clone(),
            known: vec![format!("{} entries", self.reader.entries())],
        })?;
        Row::of(value).map_err(|p| input_error(&self.path, format!("key `{key}`: {p}")))
    }
}
