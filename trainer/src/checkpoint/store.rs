//! The `checkpoints` directory of a run: written atomically, pruned, found again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use tch::Tensor;

use super::{CheckpointError, FileRecord, Info, SCHEMA_VERSION, State, tensors};

const STATE_FILE: &str = "state.json";
const BEST_FILE: &str = "best.json";
const MODEL_FILE: &str = "model.safetensors";
const EMA_FILE: &str = "ema.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The tensor beside the moments that counts what they have seen.
const UPDATES: &str = "updates";

/// The best validation of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Optimiser steps done then; also names the checkpoint.
    pub step: u64,
    /// What was to be small; finite.
    #[serde(deserialize_with = "number_or_null")]
    pub metric: f64,
}

/// Earlier versions wrote a metric that was not finite as null; every other is better than it.
fn number_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::INFINITY))
}

/// The checkpoints of one run.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    keep: usize,
}

impl Store {
    /// Opens or creates the directory; the last `keep` checkpoints and the best stay in it. It has one owner at a time.
    pub fn open(dir: PathBuf, keep: u64) -> Result<Self, CheckpointError> {
        fs::create_dir_all(&dir).map_err(CheckpointError::io("create", &dir))?;
        for step in steps(&dir)? {
            put_back(&dir.join(step_name(step)))?;
        }
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
    put_back(path)?;
    if path.exists() {
        // A rename cannot replace a directory; the old one moves aside first, and is taken for it while nothing else is there.
        let old = aside(path);
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
        if let Some(found) = complete(&dir.join(step_name(best.step))) {
            return Ok(found);
        }
    }
    let last = steps(&dir)?.last().and_then(|step| complete(&dir.join(step_name(*step))));
    last.ok_or_else(missing)
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

/// Keeps in a checkpoint what is missing to energies of tasks that were trained on forces alone, eV by task.
pub fn keep_energy_shifts(checkpoint: &Path, shifts: &BTreeMap<String, f64>) -> Result<(), CheckpointError> {
    let file = checkpoint.join(STATE_FILE);
    let text = fs::read_to_string(&file).map_err(CheckpointError::io("read", &file))?;
    let mut info: Info = parse_json(&file, &text)?;
    for task in &mut info.tasks {
        task.energy_shift = shifts.get(&task.name).copied().or(task.energy_shift);
    }
    write_json(&file, &info)
}

impl State {
    /// Reads all tensors of a checkpoint.
    pub fn read(checkpoint: &Path) -> Result<Self, CheckpointError> {
        let mut state = Self::read_weights(checkpoint)?;
        let file = checkpoint.join(OPTIMIZER_FILE);
        for (name, tensor) in tensors::read(&file)? {
            if name == UPDATES {
                state.updates = Some(count(&file, &tensor)?);
            } else if let Some(name) = name.strip_prefix("first.") {
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

/// The number in a tensor that counts.
fn count(file: &Path, tensor: &Tensor) -> Result<u64, CheckpointError> {
    let told = i64::try_from(tensor).ok().and_then(|told| u64::try_from(told).ok());
    let problem = || format!("tensor `{UPDATES}`: expected one whole number, 0 or more, found {tensor:?}");
    told.ok_or_else(|| CheckpointError::content(file, problem()))
}

fn write_tensors(dir: &Path, state: &State) -> Result<BTreeMap<String, FileRecord>, CheckpointError> {
    let mut optimizer: BTreeMap<String, Tensor> = BTreeMap::new();
    for (prefix, moments) in [("first", &state.first), ("second", &state.second)] {
        optimizer.extend(moments.iter().map(|(name, t)| (format!("{prefix}.{name}"), t.shallow_clone())));
    }
    optimizer.extend(state.updates.map(|updates| (UPDATES.to_owned(), Tensor::from(updates as i64))));
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

/// Where a checkpoint waits that is being replaced.
fn aside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.old"))
}

/// The complete checkpoint called `path`: there, or aside if its replacement was interrupted.
fn complete(path: &Path) -> Option<PathBuf> {
    [path.to_path_buf(), aside(path)].into_iter().find(|dir| dir.join(STATE_FILE).is_file())
}

/// Undoes a replacement that was interrupted.
fn put_back(path: &Path) -> Result<(), CheckpointError> {
    let old = aside(path);
    if path.exists() || !old.join(STATE_FILE).is_file() {
        return Ok(());
    }
    fs::rename(&old, path).map_err(CheckpointError::io("move back", &old))
}

/// Steps of the complete checkpoints, ascending.
fn steps(dir: &Path) -> Result<Vec<u64>, CheckpointError> {
    let step = |name: &String| -> Option<u64> {
        let name = name.strip_prefix('.').and_then(|name| name.strip_suffix(".old")).unwrap_or(name);
        name.strip_prefix("step-")?.parse().ok()
    };
    let mut steps: Vec<u64> = entries(dir)?.iter().filter_map(step).collect();
    steps.retain(|step| complete(&dir.join(step_name(*step))).is_some());
    steps.sort_unstable();
    steps.dedup();
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that passes for a checkpoint.
    fn make(path: &Path, told: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join(STATE_FILE), told).unwrap();
    }

    fn told(path: &Path) -> String {
        fs::read_to_string(path.join(STATE_FILE)).unwrap()
    }

    #[test]
    fn a_replacement_that_was_interrupted_leaves_the_old_checkpoint() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("checkpoints");
        // Between the two renames: the old one aside, the new one not yet there.
        make(&dir.join(".step-00000005.old"), "old");
        make(&dir.join(".step-00000005.tmp"), "new");
        assert_eq!(told(&locate(home.path(), false).unwrap()), "old");
        fs::write(dir.join(BEST_FILE), r#"{"step": 5, "metric": 0.5}"#).unwrap();
        assert_eq!(told(&locate(home.path(), true).unwrap()), "old");
        let store = Store::open(dir.clone(), 1).unwrap();
        assert_eq!(told(&dir.join("step-00000005")), "old");
        store.prune(None).unwrap();
        assert_eq!(entries(&dir).unwrap(), ["best.json", "step-00000005"]);
    }

    #[test]
    fn what_was_replaced_is_not_found_again() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("checkpoints");
        make(&dir.join(".step-00000005.old"), "old");
        make(&dir.join("step-00000005"), "new");
        assert_eq!(told(&locate(home.path(), false).unwrap()), "new");
        Store::open(dir.clone(), 1).unwrap().prune(None).unwrap();
        assert_eq!(entries(&dir).unwrap(), ["step-00000005"]);
        assert_eq!(told(&dir.join("step-00000005")), "new");
    }

    #[test]
    fn the_count_of_updates_comes_back_and_earlier_versions_had_none() {
        let dir = tempfile::tempdir().unwrap();
        let weights = |x: f32| BTreeMap::from([("w".to_owned(), Tensor::from_slice(&[x]))]);
        for updates in [Some(7), None] {
            let (model, first, second) = (weights(1.0), weights(2.0), weights(3.0));
            let state = State { model, first, second, updates, ..State::default() };
            write_tensors(dir.path(), &state).unwrap();
            let back = State::read(dir.path()).unwrap();
            assert_eq!((back.updates, back.first.len(), back.second.len()), (updates, 1, 1));
        }
        let state = State { model: weights(1.0), second: weights(3.0), ..State::default() };
        write_tensors(dir.path(), &state).unwrap();
        let file = dir.path().join(OPTIMIZER_FILE);
        tensors::write(&file, &BTreeMap::from([(UPDATES.to_owned(), Tensor::from(-1_i64))])).unwrap();
        let message = State::read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("`updates`: expected one whole number"), "{message}");
    }

    #[test]
    fn a_best_validation_without_a_number_is_worse_than_any() {
        let best: Best = serde_json::from_str(r#"{"step": 1, "metric": null}"#).unwrap();
        assert_eq!(best, Best { step: 1, metric: f64::INFINITY });
    }
}
