//! `jmp-ingest export`: a dataset's structures as extended XYZ.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ingest::extxyz::write_frame;
use shards::reader::Columns;
use shards::{Dataset, RowSet};

use super::{Refused, human_bytes, shards_error};
use crate::console::Console;

const EXAMPLES: &str = "\
Examples:
  jmp-ingest export shards/ani1x ani1x.extxyz
  jmp-ingest export shards/oc20 val.extxyz --split val_id --limit 100

ASE reads the file (ase.io.read('val.extxyz', ':')): energy, forces and stress as the results of a calculator, move_mask as a
constraint; charge, spin, id and group are in atoms.info. Every number reads back to the same bits. Units: eV and Å.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory of the dataset.
    dir: PathBuf,
    /// File to write; it must be new.
    output: PathBuf,
    /// Split to write [default: all rows].
    #[arg(long, value_name = "SPLIT")]
    split: Option<String>,
    /// Write at most this many structures, from the first.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, console: Console) -> anyhow::Result<()> {
    let dataset = Dataset::open(&args.dir).map_err(shards_error)?;
    let rows = match &args.split {
        Some(name) => dataset.split(name).map_err(shards_error)?,
        None => RowSet::from_range(0..dataset.rows()),
    };
    if args.output.exists() {
        return Err(
            Refused(format!("{} exists: remove it, or choose another name", args.output.display())).into()
        );
    }
    let wanted = args.limit.unwrap_or(u64::MAX).min(rows.len());
    let display = console.progress(dataset.name(), wanted);
    // What a stopped program leaves behind must not pass for the whole.
    let temporary = PathBuf::from(format!("{}.partial", args.output.display()));
    let written = write(&dataset, &rows, wanted, &temporary, &display);
    display.close();
    let bytes = written?;
    std::fs::rename(&temporary, &args.output)
        .with_context(|| format!("cannot rename {}", temporary.display()))?;
    console.say(&format!("wrote {wanted} structures, {}, to {}", human_bytes(bytes), args.output.display()));
    console.result(&serde_json::json!({ "output": args.output, "structures": wanted, "bytes": bytes }));
    Ok(())
}

fn write(
    dataset: &Dataset,
    rows: &RowSet,
    wanted: u64,
    path: &Path,
    display: &crate::console::Display,
) -> anyhow::Result<u64> {
    use ingest::convert::Progress as _;
    let cannot = || format!("cannot write {}", path.display());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).with_context(cannot)?);
    let mut left = wanted;
    for group in dataset.row_groups() {
        let mut here = rows.within(group.rows.clone()).take(left as usize).peekable();
        if here.peek().is_none() {
            continue;
        }
        let block = dataset.read(group, Columns::all()).map_err(shards_error)?;
        for row in here {
            let structure = block.row((row - group.rows.start) as usize).to_structure();
            write_frame(&mut out, &structure, &dataset.layout().targets).with_context(cannot)?;
            left -= 1;
            display.advance(1, 0);
        }
        if left == 0 {
            break;
        }
    }
    out.flush().with_context(cannot)?;
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(cannot)?;
    file.sync_all().with_context(cannot)?;
    Ok(file.metadata().with_context(cannot)?.len())
}
