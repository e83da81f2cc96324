use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{ShardError, io_error};
use crate::layout::Layout;
use crate::linear_reference::GivenReference;
use crate::manifest::{DatasetHeader, write_durably};
use crate::schema;

/// What a dataset will be: a resumed conversion, and every partition of one, must agree on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Program and version.
    pub tool: String,
    /// What the dataset is.
    pub header: DatasetHeader,
    /// Its columns.
    pub layout: Layout,
    /// Names of its source units, in the order of the rows.
    pub units: Vec<String>,
    /// A published reference for the energy, instead of a fit.
    pub reference: Option<GivenReference>,
}

impl Plan {
    /// Reads a plan; `None` if it is none of this program's.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, ShardError> {
        let text = fs::read(path).map_err(io_error("read", path))?;
        Ok(serde_json::from_slice(&text).ok())
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), ShardError> {
        let failed = |e: serde_json::Error| ShardError::Io {
            action: "write",
            path: path.to_path_buf(),
            source: e.into(),
        };
        let text = serde_json::to_string_pretty(self).map_err(failed)?;
        write_durably(path, text.as_bytes())
    }

    /// Rules that the columns rely on.
    pub(super) fn check(&self, dir: &Path) -> Result<(), ShardError> {
        let refuse = |problem: String| Err(ShardError::Output { dir: dir.to_path_buf(), problem });
        let layout = &self.layout;
        if layout.row_group_rows == 0 {
            return refuse("row groups of 0 rows; at least 1 is needed".into());
        }
        if layout.neighbors.limit(&layout.graph).is_some_and(|limit| limit > u32::from(u16::MAX)) {
            return refuse(
                "more than 65535 stored neighbours an atom; lower the number, or convert with --neighbors none"
                    .into(),
            );
        }
        for (k, target) in layout.targets.iter().enumerate() {
            if schema::is_reserved(&target.name) || layout.targets[..k].iter().any(|t| t.name == target.name)
            {
                return refuse(format!("target `{}` has the name of another column", target.name));
            }
        }
        Ok(())
    }
}
