//! Files of fitted scale factors: one number a name.
//!
//! Read are our own JSON, safetensors, and the files that fairchem publishes (JSON or torch, names without `backbone.`
//! and `.scale_factor`). Written is JSON with full names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{CheckpointError, tensors};
use crate::gemnet::ScaleFactor;
use crate::published::WeightsFile;

/// Reads a file by its extension.
pub fn read(file: &Path) -> Result<BTreeMap<String, f64>, CheckpointError> {
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    let tensors = match &*extension {
        "json" => return read_json(file),
        "pt" | "pth" | "ckpt" => WeightsFile::open(file)?.read_all()?,
        _ => tensors::read(file)?,
    };
    let scalars = tensors.into_iter().filter(|(_, tensor)| tensor.numel() == 1);
    Ok(scalars.map(|(name, tensor)| (name, tensor.reshape([1]).double_value(&[0]))).collect())
}

fn read_json(file: &Path) -> Result<BTreeMap<String, f64>, CheckpointError> {
    let text = fs::read_to_string(file).map_err(CheckpointError::io("read", file))?;
    let values: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|e| CheckpointError::content(file, e.to_string()))?;
    let mut factors = BTreeMap::new();
    // fairchem's files have a comment.
    for (name, value) in values.into_iter().filter(|(name, _)| name != "comment") {
        let number = value.as_f64().ok_or_else(|| {
            CheckpointError::content(file, format!("`{name}`: expected a number, found {value}"))
        })?;
        factors.insert(name, number);
    }
    Ok(factors)
}

/// Gives every scale factor its value from a file; all must be there, each a positive number.
pub fn apply(file: &Path, factors: &[&ScaleFactor]) -> Result<(), CheckpointError> {
    let named = read(file)?;
    for factor in factors {
        let full = factor.name.as_str();
        let inner = full.strip_prefix("backbone.").unwrap_or(full);
        let short = inner.strip_suffix(".scale_factor").unwrap_or(inner);
        let value = [full, inner, short].into_iter().find_map(|name| named.get(name));
        match value {
            Some(value) if value.is_finite() && *value > 0.0 => factor.set(*value),
            Some(value) => {
                let problem = format!("`{short}`: expected a fitted factor above 0, found {value}");
                return Err(CheckpointError::content(file, problem));
            }
            None => {
                let problem = format!("no scalar `{full}` (or `{short}`) for the model's scale factor");
                return Err(CheckpointError::content(file, problem));
            }
        }
    }
    Ok(())
}

/// Writes factors as JSON, by rename.
pub fn write(file: &Path, factors: &BTreeMap<String, f64>) -> Result<(), CheckpointError> {
    let text =
        serde_json::to_string_pretty(factors).map_err(|e| CheckpointError::content(file, e.to_string()))?;
    let temporary = file.with_extension("json.tmp");
    fs::write(&temporary, text + "\n").map_err(CheckpointError::io("write", &temporary))?;
    fs::rename(&temporary, file).map_err(CheckpointError::io("rename into place", file))
}
