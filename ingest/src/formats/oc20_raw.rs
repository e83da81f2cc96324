//! OC20's S2EF sets as they are downloaded: pairs of `N.extxyz(.xz)` and `N.txt(.xz)`, in folders or still in their archive.
//!
//! The text beside each file of frames has a line `random<sid>,frame<fid>,<reference energy>` for each of them. A
//! referenced energy is the frame's energy minus that one.

use std::path::{Path, PathBuf};

use shards::{FloatWidth, Structure};

use super::labels::{Labels, TagRule};
use super::members::Membership;
use super::oc20_energy::{EnergyCheck, id_prefix};
use super::source_units::{Factors, SourceUnits};
use super::{EnergyKind, Format, Options, description, extxyz, frame_record};
use crate::compressed::{self, Stream};
use crate::error::{IngestError, input_error, io_error};
use crate::extxyz::{Frame, Frames, Mark};
use crate::input::{Input, is_split_name, relative_names, sorted_dir};
use crate::lines::Lines;
use crate::source::{Description, Sink, Source, Unit};
use crate::tar;

/// Frames of a file as upstream cut them, for the progress display when the text cannot be counted.
const USUAL_FRAMES: u64 = 5000;
/// Folders below a given one in which files are looked for: the archive unpacks to two.
const DEPTH: usize = 4;

/// The opened files.
pub(super) struct Oc20Raw {
    description: Description,
    pairs: Vec<Pair>,
    labels: Labels,
    factors: Factors,
    kind: EnergyKind,
    check: EnergyCheck,
}

/// Frames and the lines that name them.
#[derive(Debug)]
struct Pair {
    /// Name below the inputs' common directory, without extensions.
    name: String,
    prefix: &'static str,
    frames: Place,
    lines: Place,
}

/// A file, or a member of an archive.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    /// Start and number of bytes in an archive.
    range: Option<(u64, u64)>,
    bytes: u64,
}

impl Place {
    fn open(&self) -> Result<Stream, IngestError> {
        let stream = match self.range {
            Some((start, bytes)) => compressed::open_range(&self.path, start, bytes),
            None => compressed::open(&self.path),
        };
        stream.map_err(io_error("read", &self.path))
    }
}

/// A file found, by the name it has below its input.
struct Found {
    name: String,
    split: Option<String>,
    place: Place,
}

impl Oc20Raw {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let mut found = Vec::new();
        for input in inputs {
            let before = found.len();
            find(input, &mut found)?;
            if !found[before..].iter().any(|f| is_frames(&f.name)) {
                let problem = "no file named *.lmdb, *.extxyz or *.extxyz.xz, and no archive of such";
                return Err(input_error(&input.path, problem));
            }
        }
        let (mut units, mut pairs, mut membership) = (vec![], vec![], Membership::default());
        for (pair, split) in pair_up(found)? {
            membership.add(split.as_deref(), units.len());
            let mut files = vec![pair.frames.path.clone()];
            if pair.lines.path != pair.frames.path {
                files.push(pair.lines.path.clone());
            }
            units.push(Unit { name: pair.name.clone(), files, structures: USUAL_FRAMES });
            pairs.push(pair);
        }
        count_structures(&mut units, &pairs)?;
        let mut header = description::header(Format::Oc20, None);
        // References make totals of the LMDBs beside; here the totals are at hand.
        let kind = if options.oc20_ref.is_some() { EnergyKind::Total } else { options.energy };
        header.choices.insert("energy".to_owned(), kind.name().to_owned());
        let float = if options.narrow { FloatWidth::F32 } else { FloatWidth::F64 };
        let layout = description::layout(Format::Oc20, float);
        let exact = |name: &str| Some(name.to_owned());
        Ok(Self {
            description: Description { header, layout, units, splits: membership.into_splits() },
            pairs,
            labels: Labels { energy_key: exact("energy"), forces_key: exact("forces"), ..Labels::default() },
            factors: SourceUnits::default().factors(options.constants),
            kind,
            check: EnergyCheck::new(EnergyKind::Total, false),
        })
    }

    fn structure(&self, frame: Frame, line: &Line) -> Result<Structure, String> {
        let id = format!("{}/{}", line.system, line.frame);
        let mut raw = frame_record::raw(frame, &self.labels, id)?;
        if let Some(energy) = raw.energy {
            self.check.note(energy);
        }
        if self.kind == EnergyKind::Referenced {
            raw.energy = match (raw.energy, line.reference) {
                (Some(energy), Some(reference)) => Some(energy - reference),
                (Some(_), None) => {
                    return Err("its line has no third column, the reference energy".to_owned());
                }
                (None, _) => None,
            };
        }
        raw.group = Some(line.system.clone());
        raw.into_structure(self.factors, TagRule::AsStated)
    }
}

/// Files below an input: itself, its folders', or an archive's.
fn find(input: &Input, found: &mut Vec<Found>) -> Result<(), IngestError> {
    let meta = std::fs::metadata(&input.path).map_err(io_error("open", &input.path))?;
    let root = input.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let split = input.split.clone().or_else(|| split_of(&root));
    if meta.is_dir() {
        return find_in(&input.path, DEPTH, split.as_deref(), found);
    }
    if has_ending(&root, &["tar"]) {
        for member in tar::members(&input.path)? {
            let place = Place {
                path: input.path.clone(),
                range: Some((member.offset, member.bytes)),
                bytes: member.bytes,
            };
            let name = format!("{}/{}", input.path.display(), member.name);
            found.push(Found { name, split: split.clone(), place });
        }
        return Ok(());
    }
    // A single file of frames: its text lies beside it.
    add_file(&input.path, meta.len(), split.as_deref(), found);
    if let Some(stem) = is_frames(&root).then(|| stem(&root)) {
        for end in ["txt", "txt.xz"] {
            let beside = input.path.with_file_name(format!("{stem}.{end}"));
            if let Ok(meta) = std::fs::metadata(&beside) {
                add_file(&beside, meta.len(), split.as_deref(), found);
            }
        }
    }
    Ok(())
}

fn find_in(dir: &Path, depth: usize, split: Option<&str>, found: &mut Vec<Found>) -> Result<(), IngestError> {
    for path in sorted_dir(dir)? {
        let meta = std::fs::metadata(&path).map_err(io_error("look at", &path))?;
        if meta.is_file() {
            add_file(&path, meta.len(), split, found);
        } else if meta.is_dir() && depth > 0 {
            let own = path.file_name().and_then(|n| split_of(&n.to_string_lossy()));
            find_in(&path, depth - 1, split.or(own.as_deref()), found)?;
        }
    }
    Ok(())
}

fn add_file(path: &Path, bytes: u64, split: Option<&str>, found: &mut Vec<Found>) {
    let place = Place { path: path.to_path_buf(), range: None, bytes };
    found.push(Found { name: path.display().to_string(), split: split.map(str::to_owned), place });
}

fn is_frames(name: &str) -> bool {
    has_ending(name, &["extxyz", "extxyz.xz"])
}

fn is_text(name: &str) -> bool {
    has_ending(name, &["txt", "txt.xz"])
}

fn has_ending(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|e| name.strip_suffix(e).is_some_and(|stem| stem.ends_with('.')))
}

/// A name without `.extxyz`, `.txt.xz` and so on.
fn stem(name: &str) -> &str {
    let name = name.strip_suffix(".xz").unwrap_or(name);
    name.strip_suffix(".extxyz").or_else(|| name.strip_suffix(".txt")).unwrap_or(name)
}

/// The split that a folder or archive of a download is: `s2ef_train_2M.tar` is `train`, `s2ef_val_id` is `val_id`.
fn split_of(name: &str) -> Option<String> {
    let name = name.strip_suffix(".tar").unwrap_or(name);
    let name = name.strip_suffix("_uncompressed").unwrap_or(name);
    match name.strip_prefix("s2ef_") {
        Some(set) if set == "train" || set.starts_with("train_") => Some("train".to_owned()),
        Some(set @ ("rattled" | "md")) => Some(set.to_owned()),
        Some(set) if is_split_name(set) => Some(set.to_owned()),
        Some(_) => None,
        None => Some(name).filter(|n| is_split_name(n) || ["rattled", "md"].contains(n)).map(str::to_owned),
    }
}

/// Each file of frames with its text; sorted by folder and number, so that `2` comes before `10`.
fn pair_up(found: Vec<Found>) -> Result<Vec<(Pair, Option<String>)>, IngestError> {
    let (frames, texts): (Vec<Found>, Vec<Found>) = found
        .into_iter()
        .filter(|f| is_frames(&f.name) || is_text(&f.name))
        .partition(|f| is_frames(&f.name));
    let texts: std::collections::BTreeMap<String, Place> =
        texts.into_iter().map(|f| (stem(&f.name).to_owned(), f.place)).collect();
    let paths: Vec<PathBuf> = frames.iter().map(|f| PathBuf::from(&f.name)).collect();
    let mut pairs = Vec::new();
    for (file, relative) in frames.into_iter().zip(relative_names(&paths)) {
        let full = stem(&file.name);
        let lines = texts.get(full).cloned().ok_or_else(|| {
            let name = Path::new(full).file_name().unwrap_or_default().to_string_lossy();
            let problem =
                format!("{}: no {name}.txt or {name}.txt.xz beside it, which names the frames", file.name);
            input_error(&file.place.path, problem)
        })?;
        let prefix = id_prefix(file.split.as_deref());
        let name = stem(&relative).to_owned();
        pairs.push((Pair { name, prefix, frames: file.place, lines }, file.split));
    }
    pairs.sort_by_cached_key(|(pair, _)| natural_key(&pair.name));
    if let Some(pair) = pairs.windows(2).find(|p| p[0].0.name == p[1].0.name) {
        let problem = format!("{} is there twice, packed and unpacked: give one of them", pair[0].0.name);
        return Err(input_error(&pair[0].0.frames.path, problem));
    }
    Ok(pairs)
}

/// Folder, then number, then name.
fn natural_key(name: &str) -> (String, u64, String) {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    (folder.to_owned(), file.parse().unwrap_or(u64::MAX), file.to_owned())
}

/// Frames of each file: the lines of the first text, in proportion to the texts' sizes. Counting all of 26,800 packed texts
/// would take minutes, and the number serves the progress display.
fn count_structures(units: &mut [Unit], pairs: &[Pair]) -> Result<(), IngestError> {
    let Some(first) = pairs.first() else { return Ok(()) };
    let mut lines = Lines::new(first.lines.open()?, 0, 1);
    while lines.advance().map_err(io_error("read", &first.lines.path))?.is_some() {}
    let line_bytes = first.lines.bytes as f64 / lines.number().max(1) as f64;
    for (unit, pair) in units.iter_mut().zip(pairs) {
        unit.structures = (pair.lines.bytes as f64 / line_bytes).round() as u64;
    }
    Ok(())
}

/// A line of the text: `random2181546,frame120,-1234.5`.
struct Line {
    system: String,
    frame: String,
    reference: Option<f64>,
}

fn parse_line(text: &[u8]) -> Result<Line, String> {
    let text = String::from_utf8_lossy(text);
    let wrong = || format!("expected random<sid>,frame<fid>,<reference energy>, found {text:?}");
    let mut words = text.trim().split(',').map(str::trim);
    let mut name = || words.next().filter(|w| !w.is_empty()).map(str::to_owned);
    let (system, frame) = name().zip(name()).ok_or_else(wrong)?;
    let reference = words.next().map(|w| w.parse().map_err(|_| wrong())).transpose()?;
    Ok(Line { system, frame, reference })
}

impl Source for Oc20Raw {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let pair = &self.pairs[unit];
        let wanted = frame_record::wanted(&self.labels);
        let mut frames = Frames::new(pair.frames.open()?, Mark::START, &wanted);
        let mut lines = Lines::new(pair.lines.open()?, 0, 1);
        let (mut seen, mut failed) = (0, None);
        extxyz::each_frame(&mut frames, &pair.frames.path, &pair.name, sink, |frame| {
            // A frame that could not be read has its line all the same.
            while seen <= frame.index {
                match lines.advance() {
                    Ok(Some(_)) => seen += 1,
                    Ok(None) => return Err(format!("the text beside it names only {seen} frames")),
                    Err(error) => {
                        failed = Some(error);
                        return Err("the text beside it cannot be read".to_owned());
                    }
                }
            }
            let line = parse_line(lines.current())
                .map_err(|p| format!("line {} of the text: {p}", lines.number()))?;
            let mut structure = self.structure(frame, &line)?;
            structure.id.insert_str(0, pair.prefix);
            Ok(structure)
        })?;
        if let Some(error) = failed {
            return Err(io_error("read", &pair.lines.path)(error));
        }
        let named = seen;
        let mut rest = 0u64;
        while let Some(text) = lines.advance().map_err(io_error("read", &pair.lines.path))? {
            rest += u64::from(!text.is_empty());
        }
        if rest > 0 {
            let reason = format!(
                "{}: the text beside {} names {} frames, but {named} are there: the file of frames is truncated; fetch it again",
                pair.lines.path.display(),
                pair.name,
                named + rest
            );
            sink.reject(&format!("{}/{named}", pair.name), "missing", &reason)?;
        }
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        self.check.warnings()
    }
}
