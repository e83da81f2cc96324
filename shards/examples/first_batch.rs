//! How long the first batch takes over a manifest of any size: a dataset's parts are hard-linked as often as asked.
//!
//!     cargo run --release --workspace --example first_batch -- DATASET OUT STRUCTURES
//!
//! DATASET needs a split `train`. Prints one JSON object for the epoch's beginning and one for a cursor near its end.

#![allow(clippy::print_stdout, reason = "its purpose")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use shards::stream::{BatchRule, Cursor, Share, Stream, StreamConfig, StreamDataset, Temperature};
use shards::targets::TargetTransform;
use shards::{Manifest, RowSet, ShardError};

const SPLIT: &str = "train";
const BATCH: u64 = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [dataset, out, structures] = given.as_slice() else {
        return Err("say DATASET OUT STRUCTURES".into());
    };
    let out = PathBuf::from(out);
    if !out.join("manifest.json").exists() {
        multiply(Path::new(dataset), &out, structures.parse()?)?;
    }
    let rows = Manifest::read(&out)?.rows;
    for step in [0, (rows / BATCH).saturating_sub(1_000)] {
        let (seconds, structures) =
            first_batch(&out, Cursor { epoch: 0, step, position: step * BATCH, lanes: vec![] })?;
        let report = serde_json::json!({
            "rows": rows, "from": step * BATCH, "structures": structures, "first_batch_seconds": seconds,
        });
        println!("{report}");
    }
    Ok(())
}

/// Seconds from opening the dataset to its first batch, and the batch's structures.
fn first_batch(dir: &Path, cursor: Cursor) -> Result<(f64, usize), ShardError> {
    let begin = Instant::now();
    let transform = TargetTransform::of_split(&Manifest::read(dir)?, dir, SPLIT)?;
    let config = StreamConfig {
        datasets: vec![StreamDataset { dir: dir.to_path_buf(), split: SPLIT.into(), graph: None, transform }],
        temperature: Temperature::Finite(1.0),
        seed: 0,
        batch: BatchRule::Structures(BATCH as usize),
        micro_batches: 1,
        lanes: 1,
        window: 4,
        edge_dropout: 0.0,
        epochs: 1,
        count_free_atoms: false,
        workers: 2,
        prefetch: 4,
        memory: None,
    };
    let mut stream = Stream::open(config, Share::WHOLE, cursor)?;
    let structures = stream.next().transpose()?.map_or(0, |global| global.totals.all.structures as usize);
    Ok((begin.elapsed().as_secs_f64(), structures))
}

/// Links the parts of a dataset again and again; the split is all rows, with the statistics of the original's.
fn multiply(from: &Path, out: &Path, structures: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut manifest = Manifest::read(from)?;
    let parts = std::mem::take(&mut manifest.parts);
    let times = structures.div_ceil(manifest.rows);
    fs::create_dir_all(out.join("data"))?;
    fs::create_dir_all(out.join("splits"))?;
    for part in (0..times).flat_map(|_| &parts) {
        let mut part = part.clone();
        let source = from.join("data").join(&part.file);
        part.unit = manifest.parts.len() as u32;
        part.file = format!("part-{:05}.parquet", part.unit);
        fs::hard_link(source, out.join("data").join(&part.file))?;
        manifest.parts.push(part);
    }
    manifest.rows *= times;
    manifest.atoms *= times;
    let mut split = manifest.split(from, SPLIT)?.clone();
    let file = out.join(&split.file);
    RowSet::from_range(0..manifest.rows).write(&file)?;
    split.rows = manifest.rows;
    split.blake3 = blake3::hash(&fs::read(&file)?).to_hex().to_string();
    manifest.splits = BTreeMap::from([(SPLIT.to_string(), split)]);
    Ok(manifest.write(out)?)
}
