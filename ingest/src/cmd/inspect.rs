//! `jmp-ingest inspect`: what a file or a dataset is, and its first structures.

use std::path::{Path, PathBuf};

use ingest::IngestError;
use ingest::formats::{Format, Options, open};
use ingest::hdf5::Hdf5;
use ingest::input::Input;
use ingest::lmdb::Reader;
use ingest::npz::Npz;
use ingest::pickle::{Attribute, Decoded, Item, Limits, Record, Value, decode};
use ingest::source::Sink;
use serde_json::json;
use shards::element::hill_formula;
use shards::{Dataset, Structure};

use super::{Refused, counted, human_bytes, say_splits, shards_error};
use crate::console::Console;

const EXAMPLES: &str = "\
Examples:
  jmp-ingest inspect shards/ani1x
  jmp-ingest inspect data.0000.lmdb
  jmp-ingest inspect ani1x-release.h5 --first 10";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A dataset's directory, or a file: LMDB, HDF5, npz, pickle, .pt, extxyz, aselmdb, traj, db, QM9's, MatBench's, QMOF's, an archive of OC20.
    path: PathBuf,
    /// How many structures, groups or keys to show.
    #[arg(long, value_name = "N", default_value_t = 3)]
    first: usize,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, console: Console) -> anyhow::Result<()> {
    let path = args.path.as_path();
    if path.join("manifest.json").is_file() || path.join(".progress").is_dir() {
        return dataset(path, args.first, console);
    }
    let start = first_bytes(path)?;
    let lines = match path.extension().and_then(|e| e.to_str()).unwrap_or_default() {
        "npz" => npz(path)?,
        _ if start.starts_with(b"\x89HDF\r\n\x1a\n") => hdf5(path, args.first)?,
        _ if own_format(path).is_some() => structures(path, args.first)?,
        "lmdb" | "mdb" => lmdb(path, args.first)?,
        "pkl" | "pickle" | "pt" => pickle(path, args.first)?,
        _ if path.is_dir() => lmdb(path, args.first)?,
        _ => {
            return Err(
                Refused(format!("{}: neither a dataset nor a file of a known kind", path.display())).into()
            );
        }
    };
    for line in &lines {
        console.say(line);
    }
    console.result(&json!({ "path": path, "description": lines }));
    Ok(())
}

fn first_bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let wrap = |source| IngestError::Io { action: "open", path: path.to_path_buf(), source };
    if path.is_dir() {
        return Ok(Vec::new());
    }
    let mut start = Vec::new();
    std::fs::File::open(path).and_then(|f| f.take(8).read_to_end(&mut start)).map_err(wrap)?;
    Ok(start)
}

fn dataset(dir: &Path, first: usize, console: Console) -> anyhow::Result<()> {
    let dataset = Dataset::open(dir).map_err(shards_error)?;
    let manifest = dataset.manifest();
    let header = &manifest.dataset;
    let bytes: u64 = manifest.parts.iter().map(|p| p.bytes).sum();
    console.say(&format!(
        "{}: dataset {} ({}), {}",
        dir.display(),
        header.name,
        header.domain,
        header.level_of_theory
    ));
    console.say(&format!("  licence {}; made by {}", header.licence, manifest.tool));
    console.say(&format!(
        "  {} structures, {} atoms, {} in {}, from {}",
        manifest.rows,
        manifest.atoms,
        human_bytes(bytes),
        counted(manifest.parts.len(), "part"),
        counted(manifest.sources.len(), "source file")
    ));
    let graph = &manifest.layout.graph;
    console.say(&format!(
        "  graphs: cutoff {} Å, {} neighbours; stored lists: {:?}",
        graph.cutoff, graph.main, manifest.layout.neighbors
    ));
    for (name, value) in &header.choices {
        console.say(&format!("  {name}: {value}"));
    }
    for (code, count) in &manifest.rejects {
        console.say(&format!("  left out: {count} ({code})"));
    }
    say_splits(console, manifest);
    let mut shown = Vec::new();
    for row in 0..dataset.rows().min(first as u64) {
        let structure = dataset.structure(row).map_err(shards_error)?;
        console.say(&format!("  row {row}: {}", describe(&structure)));
        shown.push(json!({ "id": structure.id, "atoms": structure.atoms(), "energy": structure.energy }));
    }
    console.result(&json!({ "path": dir, "manifest": manifest, "first": shown }));
    Ok(())
}

fn describe(structure: &Structure) -> String {
    let energy = structure.energy.map_or_else(|| "no energy".to_owned(), |e| format!("{e:.6} eV"));
    let forces = if structure.forces.is_some() { "forces" } else { "no forces" };
    let periodic = if structure.pbc == [false; 3] { "" } else { ", periodic" };
    let formula = hill_formula(&structure.atomic_numbers);
    let targets = structure.targets.iter().flatten().count();
    let labels = match (structure.energy, &structure.forces, targets) {
        (None, None, 1..) => counted(targets, "target"),
        (_, _, 0) => format!("{energy}, {forces}"),
        _ => format!("{energy}, {forces}, {}", counted(targets, "target")),
    };
    format!("{} {formula} ({} atoms{periodic}), {labels}", structure.id, structure.atoms())
}

/// The format of a file in which ASE or a user keeps structures, of one of QM9's, MatBench's or QMOF's, or of an archive of
/// OC20.
fn own_format(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?;
    let named = [("dsgdb9nsd", Format::Qm9), ("matbench_", Format::Matbench), ("qmof", Format::Qmof)];
    if let Some((_, format)) = named.into_iter().find(|(start, _)| name.starts_with(start)) {
        return Some(format);
    }
    let name = name.strip_suffix(".xz").or_else(|| name.strip_suffix(".gz")).unwrap_or(name);
    let end = name.rsplit_once('.')?.1;
    match end {
        "extxyz" | "xyz" => Some(Format::Extxyz),
        "aselmdb" => Some(Format::AseLmdb),
        "traj" => Some(Format::Traj),
        "db" => Some(Format::Db),
        "sdf" => Some(Format::Qm9),
        "tar" => Some(Format::Oc20),
        _ => None,
    }
}

/// Keeps the first structures and then stops the reading.
struct First {
    wanted: usize,
    lines: Vec<String>,
}

impl First {
    fn add(&mut self, line: String) -> Result<(), IngestError> {
        if self.lines.len() < self.wanted {
            self.lines.push(line);
        }
        if self.lines.len() < self.wanted { Ok(()) } else { Err(IngestError::Interrupted) }
    }
}

impl Sink for First {
    fn structure(&mut self, structure: Structure) -> Result<(), IngestError> {
        self.add(format!("  {}", describe(&structure)))
    }

    fn reject(&mut self, id: &str, _: &'static str, reason: &str) -> Result<(), IngestError> {
        self.add(format!("  {id} cannot be read: {reason}"))
    }

    fn leave_out(&mut self, _: &str, _: &'static str, _: &str) {}
}

fn structures(path: &Path, first: usize) -> Result<Vec<String>, IngestError> {
    let Some(format) = own_format(path) else { return Ok(Vec::new()) };
    let input = Input { split: None, path: path.to_path_buf() };
    let source = open(format, &[input], &Options::default())?;
    let count: u64 = source.units().iter().map(|u| u.structures).sum();
    let counted = if count > 0 { format!(", {count} structures") } else { String::new() };
    let mut shown = First { wanted: first, lines: vec![] };
    for unit in 0..source.units().len() {
        match source.read(unit, &mut shown) {
            Ok(()) => {}
            Err(IngestError::Interrupted) => break,
            Err(error) => return Err(error),
        }
    }
    let mut lines = vec![format!("{}: {}{counted}", path.display(), format.name())];
    lines.append(&mut shown.lines);
    lines.extend(source.warnings().into_iter().map(|w| format!("  note: {w}")));
    Ok(lines)
}

fn npz(path: &Path) -> Result<Vec<String>, IngestError> {
    let wrap = |source| IngestError::Npz { path: path.to_path_buf(), source: Box::new(source) };
    let mut npz = Npz::open(path).map_err(wrap)?;
    let names = npz.names();
    let mut lines = vec![format!("{}: npz archive of {} arrays", path.display(), names.len())];
    for name in names {
        let info = npz.info(&name).map_err(wrap)?;
        lines.push(format!("  {name}: {} {:?}", info.descr, info.shape));
    }
    Ok(lines)
}

fn hdf5(path: &Path, first: usize) -> Result<Vec<String>, IngestError> {
    let root = Hdf5::open(path)?.root();
    let groups = root.groups()?;
    let mut lines = vec![format!("{}: HDF5 file of {} groups", path.display(), groups.len())];
    for (name, group) in groups.iter().take(first) {
        lines.push(format!("  group {name}"));
        let inner = group.groups()?;
        if !inner.is_empty() {
            lines.push(format!("    {} groups: {} …", inner.len(), inner[0].0));
        }
        for dataset in group.datasets()? {
            let [found] = group.require([dataset.as_str()])?;
            lines.push(format!("    {dataset} {:?}", found.shape()?));
        }
    }
    Ok(lines)
}

fn lmdb(path: &Path, first: usize) -> Result<Vec<String>, IngestError> {
    let wrap = |source| IngestError::Lmdb { path: path.to_path_buf(), source };
    let mut reader = Reader::open(path).map_err(wrap)?;
    let mut lines = vec![format!("{}: LMDB file of {} entries", path.display(), reader.entries())];
    let keys: Vec<String> = (0..first).map(|i| i.to_string()).chain(["length".to_owned()]).collect();
    for key in keys {
        let Some(value) = reader.get(key.as_bytes()).map_err(wrap)? else { continue };
        lines.push(format!("  key {key}: {} bytes", value.len()));
        match decode(&value, Limits::RECORD) {
            Ok(decoded) => {
                lines
                    .extend(describe_value(&decoded, decoded.root()).into_iter().map(|l| format!("    {l}")));
            }
            Err(error) => lines.push(format!("    no known pickle: {error}")),
        }
    }
    Ok(lines)
}

fn pickle(path: &Path, first: usize) -> Result<Vec<String>, IngestError> {
    let bytes = std::fs::read(path).map_err(|source| IngestError::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let wrap = |source| IngestError::Pickle {
        path: path.to_path_buf(),
        key: "the whole file".to_owned(),
        source: Box::new(source),
    };
    let decoded = decode(&bytes, Limits::FILE).map_err(wrap)?;
    let mut lines = vec![format!("{}: pickle of {}", path.display(), human_bytes(bytes.len() as u64))];
    match decoded.item(decoded.root()) {
        Item::Sequence(items) => {
            lines.push(format!("  {} items", items.len()));
            for (i, item) in items.iter().take(first).enumerate() {
                lines.push(format!("  item {i}"));
                lines.extend(describe_value(&decoded, *item).into_iter().map(|l| format!("    {l}")));
            }
        }
        _ => lines.extend(describe_value(&decoded, decoded.root()).into_iter().map(|l| format!("  {l}"))),
    }
    Ok(lines)
}

/// Most attributes of a record that are shown.
const SHOWN_ATTRIBUTES: usize = 40;

fn describe_value(decoded: &Decoded<'_>, value: Value) -> Vec<String> {
    let Some(record) = Record::of(decoded, value) else {
        return vec![match decoded.item(value) {
            Item::Int(i) => i.to_string(),
            Item::Float(f) => f.to_string(),
            Item::Str(s) => s.to_owned(),
            Item::Sequence(items) => format!("a sequence of {}", items.len()),
            other => format!("{other:?}").chars().take(60).collect(),
        }];
    };
    let lines = record.names().take(SHOWN_ATTRIBUTES).filter_map(|name| {
        Some(match record.get(name)? {
            Attribute::Int(i) => format!("{name}: {i}"),
            Attribute::Float(x) => format!("{name}: {x}"),
            Attribute::Str(s) => format!("{name}: {s:?}"),
            Attribute::Array(a) => format!("{name}: {:?} {:?}", a.dtype(), a.shape()),
            Attribute::Other => format!("{name}: …"),
        })
    });
    lines.collect()
}
