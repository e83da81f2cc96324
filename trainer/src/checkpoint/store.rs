//! The `checkpoints` directory of a run: written atomically, pruned, found again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{CheckpointError, FileRecord, Info, SCHEMA_VERSION, State, tensors};

const STATE_FILE: &str = "state.json";
const BEST_FILE: &str = "best.json";
const MODEL_FILE: &str = "model.safetensors";
const EMA_FILE: &str = "ema.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// The best validation of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Optimiser steps done then; also names the checkpoint.
    pub step: u64,
    /// What was to be small.
    pub metric: f64,
}

/// The checkpoints of one run.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    keep: usize,
}

impl Store {
    /// Opens or creates the directory; the last `keep` checkpoints and the best stay in it.
    pub fn open(dir: PathBuf, keep: u64) -> Result<Self, CheckpointError> {
        fs::create_dir_all(&dir).map_err(CheckpointError::io("create", &dir))?;
        Ok(Self { dir, keep: keep as usize })
    }

    /// Writes a checkpoint and removes those that are no longer kept. An existing one of the same step is replaced.
    pub fn save(&self, mut info: Info, state: &State) -> Result<PathBuf, CheckpointError> {
        let path = self.dir.join(step_name(info.position.step));
        write(&path, &mut info, state)?;
        if let Some(best) = &info.best {
            write_json(&self.dir.join(BEST_FILE), best)?;
        }
        self.prune(info.best.as_ref())?;
        Ok(path)
    }

    /// Removes all but the last few, the best, and leftovers of interrupted writes.
    fn prune(&self, best: Option<&Best>) -> Result<(), CheckpointError> {
        let steps = steps(&self.dir)?;
        let old = steps.len().saturating_sub(self.keep);
        for step in &steps[..old] {
            if best.is_none_or(|b| b.step != *step) {
                remove_if_there(&self.dir.join(step_name(*step)))?;
            }
        }
        for name in entries(&self.dir)?.iter().filter(|n| n.starts_with(".step-")) {
            remove_if_there(&self.dir.join(name))?;
        }
        Ok(())
    }
}

/// Writes one checkpoint as the directory `path`, whole or not at all; an existing one is replaced.
pub fn write(path: &Path, info: &mut Info, state: &State) -> Result<(), CheckpointError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = parent.join(format!(".{name}.tmp"));
    remove_if_there(&temporary)?;
    fs::create_dir_all(parent).map_err(CheckpointError::io("create", parent))?;
    fs::create_dir(&temporary).map_err(CheckpointError::io("create", &temporary))?;
    info.files = write_tensors(&temporary, state)?;
    write_json(&temporary.join(STATE_FILE), info)?;
    sync(&temporary)?;
    if path.exists() {
        // A rename cannot replace a directory; the old one moves aside first and is invisible from then on.
        let old = parent.join(format!(".{name}.old"));
        remove_if_there(&old)?;
        fs::rename(path, &old).map_err(CheckpointError::io("move aside", path))?;
    }
    fs::rename(&temporary, path).map_err(CheckpointError::io("rename into place", path))?;
    sync(parent)
}

/// Finds the checkpoint meant by `path`: itself, or of a run the best or the last.
pub fn locate(path: &Path, prefer_best: bool) -> Result<PathBuf, CheckpointError> {
    let missing = || CheckpointError::Missing { path: path.to_path_buf() };
    if path.join(STATE_FILE).is_file() {
        return Ok(path.to_path_buf());
    }
    let inner = path.join("checkpoints");
    let dir = if inner.is_dir() { inner } else { path.to_path_buf() };
    if !dir.is_dir() {
        return Err(missing());
    }
    if prefer_best && let Ok(text) = fs::read_to_string(dir.join(BEST_FILE)) {
        let best: Best = parse_json(&dir.join(BEST_FILE), &text)?;
        let found = dir.join(step_name(best.step));
        if found.join(STATE_FILE).is_file() {
            return Ok(found);
        }
    }
    steps(&dir)?.last().map(|step| dir.join(step_name(*step))).ok_or_else(missing)
}

/// Reads and checks `state.json` of a checkpoint and the hashes of its files.
pub fn read_info(checkpoint: &Path) -> Result<Info, CheckpointError> {
    let file = checkpoint.join(STATE_FILE);
    let text = fs::read_to_string(&file).map_err(CheckpointError::io("read", &file))?;
    let value: serde_json::Value = parse_json(&file, &text)?;
    let version = value.get("schema_version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version != u64::from(SCHEMA_VERSION) {
        let problem = format!("schema_version: expected {SCHEMA_VERSION}, found {version}");
        return Err(CheckpointError::content(&file, problem));
    }
    let info: Info = parse_json(&file, &text)?;
    for (name, told) in &info.files {
        let path = checkpoint.join(name);
        let found = record(&path)?;
        if found != *told {
            let problem = format!(
                "expected {} bytes with hash {}, found {} with {}; the file was changed or cut",
                told.bytes, told.blake3, found.bytes, found.blake3
            );
            return Err(CheckpointError::content(&path, problem));
        }
    }
    Ok(info)
}

impl State {
    /// Reads all tensors of a checkpoint.
    pub fn read(checkpoint: &Path) -> Result<Self, CheckpointError> {
        let mut state = Self::read_weights(checkpoint)?;
        for (name, tensor) in tensors::read(&checkpoint.join(OPTIMIZER_FILE))? {
            if let Some(name) = name.strip_prefix("first.") {
                state.first.insert(name.to_owned(), tensor);
            } else if let Some(name) = name.strip_prefix("second.") {
                state.second.insert(name.to_owned(), tensor);
            }
        }
        Ok(state)
    }

    /// Reads weights, buffers and averaged weights only.
    pub fn read_weights(checkpoint: &Path) -> Result<Self, CheckpointError> {
        let ema = checkpoint.join(EMA_FILE);
        Ok(Self {
            model: tensors::read(&checkpoint.join(MODEL_FILE))?,
            ema: if ema.exists() { tensors::read(&ema)? } else { BTreeMap::new() },
            ..Self::default()
        })
    }

    /// The weights to use: averaged where there is an average, and the buffers.
    pub fn into_best_weights(self) -> BTreeMap<String, Tensor> {
        let mut weights = self.model;
        weights.extend(self.ema);
        weights
    }
}

fn write_tensors(dir: &Path, state: &State) -> Result<BTreeMap<String, FileRecord>, CheckpointError> {
    let mut optimizer: BTreeMap<String, Tensor> = BTreeMap::new();
    for (prefix, moments) in [("first", &state.first), ("second", &state.second)] {
        optimizer.extend(moments.iter().map(|(name, t)| (format!("{prefix}.{name}"), t.shallow_clone())));
    }
    let mut files = BTreeMap::new();
    for (name, tensors) in [(MODEL_FILE, &state.model), (EMA_FILE, &state.ema), (OPTIMIZER_FILE, &optimizer)]
    {
        if tensors.is_empty() {
            continue;
        }
        let path = dir.join(name);
        tensors::write(&path, tensors)?;
        sync(&path)?;
        files.insert(name.to_owned(), record(&path)?);
    }
    Ok(files)
}

fn record(path: &Path) -> Result<FileRecord, CheckpointError> {
    let mut file = fs::File::open(path).map_err(CheckpointError::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let bytes = io::copy(&mut file, &mut hasher).map_err(CheckpointError::io("read", path))?;
    Ok(FileRecord { bytes, blake3: hasher.finalize().to_hex().to_string() })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CheckpointError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| CheckpointError::content(path, e.to_string()))?;
    let temporary = path.with_extension("json.tmp");
    fs::write(&temporary, text + "\n").map_err(CheckpointError::io("write", &temporary))?;
    sync(&temporary)?;
    fs::rename(&temporary, path).map_err(CheckpointError::io("rename into place", path))
}

fn parse_json<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, CheckpointError> {
    serde_json::from_str(text).map_err(|e| CheckpointError::content(path, e.to_string()))
}

fn sync(path: &Path) -> Result<(), CheckpointError> {
    let file = fs::File::open(path).map_err(CheckpointError::io("open", path))?;
    file.sync_all().map_err(CheckpointError::io("sync", path))
}

fn remove_if_there(dir: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CheckpointError::io("remove", dir)(e)),
        _ => Ok(()),
    }
}

fn step_name(step: u64) -> String {
    format!("step-{step:08}")
}

fn entries(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(CheckpointError::io("list", dir))? {
        let entry = entry.map_err(CheckpointError::io("list", dir))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Steps of the complete checkpoints, ascending.
fn steps(dir: &Path) -> Result<Vec<u64>, CheckpointError> {
    let complete = |name: &String| dir.join(name).join(STATE_FILE).is_file();
    let mut steps: Vec<u64> = entries(dir)?
        .iter()
        .filter(|name| complete(name))
        .filter_map(|name| name.strip_prefix("step-")?.parse().ok())
        .collect();
    steps.sort_unstable();
    Ok(steps)
}
