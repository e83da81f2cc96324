//! Extended XYZ of any origin: one file or many, also packed with xz or gzip.
//!
//! Ids are the entry that `--id-key` names, else `<file>/<frame>`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use shards::{FloatWidth, Structure};

use super::labels::Labels;
use super::source_units::Factors;
use super::{Format, Options, description, frame_record, members};
use crate::compressed::{self, Packing, Stream};
use crate::error::{IngestError, input_error, io_error};
use crate::extxyz::{FrameError, Frames, Mark, scan};
use crate::input::{Input, files, relative_names};
use crate::source::{Description, Sink, Source, Unit};

/// Frames of a unit: a large file is read by several threads.
const UNIT_FRAMES: u64 = 10_000;
/// Names of files that are looked for in directories.
const EXTENSIONS: [&str; 6] = ["extxyz", "xyz", "extxyz.xz", "xyz.xz", "extxyz.gz", "xyz.gz"];

/// The opened files.
pub(super) struct Extxyz {
    description: Description,
    parts: Vec<Part>,
    labels: Labels,
    factors: Factors,
    without_energy: AtomicU64,
    without_forces: AtomicU64,
    like_energy: Mutex<BTreeSet<String>>,
}

/// Frames of a file.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    /// The file's name below the inputs' common directory, without its extension.
    name: String,
    start: Mark,
    /// One past the last byte; `None`: to the end.
    end: Option<u64>,
}

impl Extxyz {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &EXTENSIONS)?;
        let paths: Vec<PathBuf> = found.iter().map(|f| f.path.clone()).collect();
        let (mut units, mut parts, mut membership) = (vec![], vec![], members::Membership::default());
        for (file, relative) in found.iter().zip(relative_names(&paths)) {
            let name = stem(&relative).to_owned();
            let cuts = parts_of(&file.path, &name)?;
            let several = cuts.len() > 1;
            for (part, frames) in cuts {
                membership.add(file.split.as_deref(), units.len());
                let unit = match part.start.frame {
                    first if several => format!("{name}[{first}..{}]", first + frames),
                    _ => name.clone(),
                };
                units.push(Unit { name: unit, files: vec![file.path.clone()], structures: frames });
                parts.push(part);
            }
        }
        if units.is_empty() {
            return Err(input_error(&inputs[0].path, "the files hold no frames"));
        }
        let labels = options.labels.clone();
        let constants = labels.units.needs_constants().then_some(options.constants);
        let mut header = description::header(Format::Extxyz, constants);
        labels.describe(&mut header);
        header.source_units = Some(labels.units.described(options.constants));
        let float = if options.narrow { FloatWidth::F32 } else { FloatWidth::F64 };
        let mut layout = description::layout(Format::Extxyz, float);
        layout.targets = labels.columns();
        Ok(Self {
            description: Description { header, layout, units, splits: membership.into_splits() },
            parts,
            factors: labels.units.factors(options.constants),
            labels,
            without_energy: AtomicU64::new(0),
            without_forces: AtomicU64::new(0),
            like_energy: Mutex::default(),
        })
    }
}

/// A name without `.extxyz`, `.xyz.gz` and so on.
pub(super) fn stem(name: &str) -> &str {
    let ends = EXTENSIONS.iter().filter_map(|e| name.strip_suffix(e)?.strip_suffix('.'));
    ends.min_by_key(|s| s.len()).unwrap_or(name)
}

/// Cuts a file into parts with their numbers of frames. A packed file is one part, of unknown size.
fn parts_of(path: &Path, name: &str) -> Result<Vec<(Part, u64)>, IngestError> {
    let part = |start, end| Part { path: path.to_path_buf(), name: name.to_owned(), start, end };
    if Packing::of_file(path).map_err(io_error("open", path))? != Packing::Plain {
        return Ok(vec![(part(Mark::START, None), 0)]);
    }
    let file = File::open(path).map_err(io_error("open", path))?;
    let marks = scan(BufReader::with_capacity(1 << 20, file), UNIT_FRAMES).map_err(io_error("read", path))?;
    if marks.len() == 1 {
        // No frame at all, or none that can be read: its reader says so.
        return Ok(vec![(part(Mark::START, None), 0)]);
    }
    let last = marks.len() - 2;
    let cut = |(at, pair): (usize, &[Mark])| {
        let end = if at == last { None } else { Some(pair[1].offset) };
        (part(pair[0], end), pair[1].frame - pair[0].frame)
    };
    Ok(marks.windows(2).enumerate().map(cut).collect())
}

impl Part {
    fn open(&self) -> Result<Stream, IngestError> {
        let wrap = || io_error("read", &self.path);
        if self.start == Mark::START && self.end.is_none() {
            return compressed::open(&self.path).map_err(wrap());
        }
        let mut file = File::open(&self.path).map_err(wrap())?;
        file.seek(SeekFrom::Start(self.start.offset)).map_err(wrap())?;
        let bytes = self.end.map_or(u64::MAX, |end| end - self.start.offset);
        let part = std::io::Read::take(file, bytes);
        Ok(Box::new(BufReader::with_capacity(1 << 18, part)))
    }
}

impl Source for Extxyz {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        let part = &self.parts[unit];
        let wanted = frame_record::wanted(&self.labels);
        let mut frames = Frames::new(part.open()?, part.start, &wanted);
        each_frame(&mut frames, &part.path, &part.name, sink, |frame| {
            let id = format!("{}/{}", part.name, frame.index);
            let keys: Vec<String> = frame.info.keys().map(str::to_owned).collect();
            let raw = frame_record::raw(frame, &self.labels, id)?;
            if raw.energy.is_none() && self.without_energy.fetch_add(1, Ordering::Relaxed) < 100 {
                let like = keys.into_iter().filter(|k| k.to_lowercase().contains("energy"));
                self.like_energy.lock().unwrap_or_else(PoisonError::into_inner).extend(like);
            }
            self.without_forces.fetch_add(u64::from(raw.forces.is_none()), Ordering::Relaxed);
            raw.into_structure(self.factors, self.labels.tag_rule())
        })
    }

    fn warnings(&self) -> Vec<String> {
        let energy = self.without_energy.load(Ordering::Relaxed);
        let forces = self.without_forces.load(Ordering::Relaxed);
        let like = self.like_energy.lock().unwrap_or_else(PoisonError::into_inner);
        let like: Vec<&str> = like.iter().map(String::as_str).collect();
        missing_labels(&self.labels, energy, forces, &like)
    }
}

/// Warnings about structures without labels; `like`: keys that may hold the energy.
pub(super) fn missing_labels(labels: &Labels, energy: u64, forces: u64, like: &[&str]) -> Vec<String> {
    let mut warnings = Vec::new();
    if energy > 0 {
        let names = labels.energy_keys().join("`, `");
        let hint = match like {
            [] => String::new(),
            keys => format!("; there is {}: name one with --energy-key", keys.join(", ")),
        };
        warnings.push(format!("{energy} structures have no energy (`{names}`){hint}"));
    }
    if forces > 0 {
        let names = labels.forces_keys().join("`, `");
        warnings.push(format!("{forces} structures have no forces (`{names}`; --forces-key names another)"));
    }
    warnings
}

/// Reads frames to the end into the sink; one that is malformed is rejected, and ends the unit if what follows is lost.
pub(super) fn each_frame(
    frames: &mut Frames<Stream>,
    path: &Path,
    name: &str,
    sink: &mut dyn Sink,
    mut structure: impl FnMut(crate::extxyz::Frame) -> Result<Structure, String>,
) -> Result<(), IngestError> {
    loop {
        let (frame, line, problem, go_on) = match frames.next_frame() {
            Ok(None) => return Ok(()),
            Ok(Some(frame)) => {
                let (index, line) = (frame.index, frame.line);
                match structure(frame) {
                    Ok(structure) => {
                        sink.structure(structure)?;
                        continue;
                    }
                    Err(problem) => (index, line, problem, true),
                }
            }
            Err(FrameError { frame, line, problem, can_go_on }) => (frame, line, problem, can_go_on),
        };
        let reason = format!("{}: frame {frame} (line {line}): {problem}", path.display());
        sink.reject(&format!("{name}/{frame}"), "unreadable", &reason)?;
        if !go_on {
            return Ok(());
        }
    }
}
