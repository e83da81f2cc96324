//! Transition-1x as released: `data/<formula>/<reaction>` with the images of a path, in eV and Å, and the groups `train`, `val`
//! and `test` that link to them.
//!
//! The frames are JMP's: the images of each reaction. Its reactant, transition state and product, which have groups of their
//! own, come after them if asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use shards::{FloatWidth, Floats, Structure};

use super::hdf5_units::{Part, cut};
use super::{Format, Options, description};
use crate::error::{IngestError, input_error};
use crate::hdf5::links::{Link, Links};
use crate::hdf5::{Group, Hdf5, Numbers};
use crate::input::{Input, files};
use crate::source::{Description, Members, Sink, Source, SplitPlan};

const ENERGY: &str = "wB97x_6-31G(d).energy";
const FORCES: &str = "wB97x_6-31G(d).forces";
const SPLITS: [&str; 3] = ["train", "val", "test"];
const END_POINTS: [&str; 3] = ["reactant", "transition_state", "product"];
/// A unit is closed by the reaction that brings it to this many frames.
const UNIT_ROWS: u64 = 10_000;

/// The opened file.
pub(super) struct Transition1x {
    description: Description,
    /// Reactions of each unit.
    members: Vec<Vec<Reaction>>,
    without_split: usize,
    end_points: bool,
}

/// A group that is read.
struct Reaction {
    /// `<formula>_<reaction>`: numbers may repeat between formulas.
    name: String,
    rows: u64,
    group: Group,
}

impl Transition1x {
    pub(super) fn open(inputs: &[Input], options: &Options) -> Result<Self, IngestError> {
        let found = files(inputs, &["h5", "hdf5"])?;
        let [file] = found.as_slice() else {
            return Err(input_error(
                &inputs[0].path,
                format!("Transition-1x is one HDF5 file, found {}", found.len()),
            ));
        };
        let hdf5 = Hdf5::open(&file.path)?;
        let groups = hdf5.root().groups()?;
        let Some((_, data)) = groups.iter().find(|g| g.0 == "data") else {
            return Err(IngestError::Missing {
                path: file.path.clone(),
                place: "the file".to_owned(),
                key: "data".to_owned(),
                known: groups.into_iter().map(|g| g.0).collect(),
            });
        };
        let (reactions, float) = reactions(data, options.end_points)?;
        let named = split_members(&file.path, &groups)?;
        if !named.is_empty() && named.values().all(BTreeSet::is_empty) {
            let problem = "its groups train, val and test are empty, or hold soft links of the new HDF5 style, which cannot be listed \
                           here; write the file again with libver='earliest'";
            return Err(input_error(&file.path, problem));
        }
        let covered: BTreeSet<&String> = named.values().flatten().collect();
        let without_split = reactions.iter().filter(|r| !covered.contains(&r.name)).count();
        let splits = named.into_iter().map(split_plan).collect();
        let (units, members) = cut(reactions, &file.path, UNIT_ROWS);
        let float = if options.narrow { FloatWidth::F32 } else { float };
        let mut header = description::header(Format::Transition1x, None);
        let taken = if options.end_points { "kept" } else { "left out" };
        header.choices.insert("end_points".to_owned(), taken.to_owned());
        let layout = description::layout(Format::Transition1x, float);
        Ok(Self {
            description: Description { header, layout, units, splits },
            members,
            without_split,
            end_points: options.end_points,
        })
    }
}

impl Source for Transition1x {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, unit: usize, sink: &mut dyn Sink) -> Result<(), IngestError> {
        self.members[unit].iter().try_for_each(|reaction| {
            read_frames(&reaction.group, &reaction.name, None, sink)?;
            if self.end_points {
                read_end_points(reaction, sink)?;
            }
            Ok(())
        })
    }

    fn warnings(&self) -> Vec<String> {
        match self.without_split {
            0 => Vec::new(),
            n => vec![format!(
                "{n} reactions belong to none of the groups train, val and test, and so to no split"
            )],
        }
    }
}

fn reactions(data: &Group, end_points: bool) -> Result<(Vec<Reaction>, FloatWidth), IngestError> {
    let (mut all, mut float) = (Vec::new(), FloatWidth::F32);
    for (formula, group) in data.groups()? {
        for (name, group) in group.groups()? {
            let [energy, positions] = group.require([ENERGY, "positions"])?;
            let frames = energy.shape()?.first().copied().unwrap_or(0) as u64;
            let rows = frames + if end_points { END_POINTS.len() as u64 } else { 0 };
            if !positions.is_f32()? {
                float = FloatWidth::F64;
            }
            all.push(Reaction { name: format!("{formula}_{name}"), rows, group });
        }
    }
    Ok((all, float))
}

/// The reactions of each split group, by the names under which they stand in `data`.
fn split_members(
    path: &Path,
    groups: &[(String, Group)],
) -> Result<BTreeMap<String, BTreeSet<String>>, IngestError> {
    let links = Links::open(path)?;
    let mut splits = BTreeMap::new();
    for split in SPLITS {
        let Some((_, group)) = groups.iter().find(|g| g.0 == split) else { continue };
        let mut members = BTreeSet::new();
        match links.as_ref().map(|l| l.list(split)).transpose()?.flatten() {
            Some(formulas) => {
                for (formula, _) in formulas {
                    let inside = links.as_ref().map(|l| l.list(&format!("{split}/{formula}"))).transpose()?;
                    for (reaction, link) in inside.flatten().unwrap_or_default() {
                        members.insert(member(&formula, &reaction, &link));
                    }
                }
            }
            // A new-style file: soft links cannot be listed, hard ones can.
            None => {
                for (formula, group) in group.groups()? {
                    members.extend(
                        group.groups()?.into_iter().map(|(reaction, _)| format!("{formula}_{reaction}")),
                    );
                }
            }
        }
        splits.insert(split.to_owned(), members);
    }
    Ok(splits)
}

/// The name in `data` of what a split's link means.
fn member(formula: &str, reaction: &str, link: &Link) -> String {
    let target = match link {
        Link::Soft(target) => {
            target.trim_start_matches('/').strip_prefix("data/").and_then(|t| t.split_once('/'))
        }
        Link::Hard(_) => None,
    };
    let (formula, reaction) = target.unwrap_or((formula, reaction));
    format!("{formula}_{reaction}")
}

fn split_plan((name, groups): (String, BTreeSet<String>)) -> SplitPlan {
    let algorithm = format!("the reactions that the file's group `{name}` links to");
    SplitPlan { name, algorithm, seed: None, members: Members::Groups(groups) }
}

impl Part for Reaction {
    fn name(&self) -> &str {
        &self.name
    }

    fn rows(&self) -> u64 {
        self.rows
    }
}

fn read_end_points(reaction: &Reaction, sink: &mut dyn Sink) -> Result<(), IngestError> {
    let groups = reaction.group.groups()?;
    for end_point in END_POINTS {
        // A reaction without one of them is no fault.
        if let Some((_, group)) = groups.iter().find(|(name, _)| name == end_point) {
            read_frames(group, &reaction.name, Some(end_point), sink)?;
        }
    }
    Ok(())
}

/// The frames of a group, named by their number or as the end point that they are.
fn read_frames(
    group: &Group,
    reaction: &str,
    end_point: Option<&str>,
    sink: &mut dyn Sink,
) -> Result<(), IngestError> {
    let [numbers, positions, energies, forces] =
        group.require(["atomic_numbers", "positions", ENERGY, FORCES])?;
    let atomic_numbers = numbers.atomic_numbers()?;
    let shape = energies.shape()?;
    let [rows] = shape[..] else {
        return Err(energies.malformed("one energy a frame", &format!("shape {shape:?}")));
    };
    let width = 3 * atomic_numbers.len();
    for dataset in [&positions, &forces] {
        let found = dataset.shape()?;
        let expected = [rows, atomic_numbers.len(), 3];
        if found != expected {
            return Err(dataset.malformed(&format!("shape {expected:?}"), &format!("{found:?}")));
        }
    }
    let (positions, forces) = (positions.numbers()?, forces.numbers()?);
    for (row, energy) in energies.numbers()?.into_f64().into_iter().enumerate() {
        let here = row * width..(row + 1) * width;
        sink.structure(Structure {
            energy: Some(energy),
            forces: Some(part(&forces, here.clone())),
            ..Structure::new(
                end_point.map_or(format!("{reaction}/{row}"), |name| format!("{reaction}/{name}")),
                reaction.to_owned(),
                atomic_numbers.clone(),
                part(&positions, here),
            )
        })?;
    }
    Ok(())
}

fn part(numbers: &Numbers, range: std::ops::Range<usize>) -> Floats {
    match numbers {
        Numbers::F32(v) => Floats::F32(v[range].to_vec()),
        Numbers::F64(v) => Floats::F64(v[range].to_vec()),
        Numbers::Int(v) => Floats::F64(v[range].iter().map(|&x| x as f64).collect()),
    }
}
