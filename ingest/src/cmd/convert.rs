//! `jmp-ingest convert`: a source dataset → a directory of shards.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ingest::IngestError;
use ingest::convert::{Settings, convert, convert_partition};
use ingest::filter::Filter;
use ingest::formats::{EnergyKind, Format, Labels, Options, RelaxationFrames, SourceUnits, open};
use ingest::input::Input;
use ingest::partition::Share;
use ingest::reference;
use shards::NeighborStorage;
use shards::units::ConstantSet;
use shards::writer::DuplicateIds;

use super::report::{report, report_partition};
use crate::console::Console;

const EXAMPLES: &str = "\
Examples:
  jmp-ingest convert --dataset ani1x --input ani1x-release.h5 --output shards/ani1x
  jmp-ingest convert --dataset oc20 --input train=s2ef/200k/train val_id=s2ef/all/val_id --output shards/oc20
  jmp-ingest convert --dataset oc22 --input s2ef-total --output shards/oc22 --jobs 16
  jmp-ingest convert --dataset rmd17 --input rmd17/npz_data/rmd17_aspirin.npz --output shards/rmd17-aspirin
  jmp-ingest convert --dataset oc20 --input s2ef --output parts/3 --partition 3/16
  jmp-ingest convert --dataset ani1x --input ani1x-release.h5 --output shards/calm --filter max-force=50
  jmp-ingest convert --dataset rmd17 --input train_01=a.npz test_01=b.npz --output shards/ethanol
  jmp-ingest convert --dataset qm9 --input dsgdb9nsd.xyz.tar.bz2 uncharacterized.txt --output shards/qm9
  jmp-ingest convert --dataset spice --input SPICE.hdf5 --subset dipeptides --output shards/dipeptides
  jmp-ingest convert --dataset extxyz --input train=mine.extxyz --energy-key REF_energy --units hartree,Å --output shards/mine
  jmp-ingest convert --dataset matbench --input matbench_phonons.json.gz --output shards/phonons
  jmp-ingest convert --dataset qmof --input qmof_database --output shards/qmof

A directory is searched for the format's files; its sub-directories named train, val, test, val_id, … become splits.
Stopped by Ctrl-C or killed, a conversion keeps its finished units: repeat the command with --resume.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[allow(clippy::struct_excessive_bools, reason = "switches of the command line")]
pub(crate) struct Args {
    /// What the input is; an unknown name lists those that are known.
    #[arg(long, value_name = "NAME")]
    dataset: Format,
    /// Files or directories, each with or without the split that it makes up. Only read.
    #[arg(long, value_name = "[SPLIT=]PATH", required = true, num_args = 1..)]
    input: Vec<String>,
    /// Directory to make; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Threads [default: one for each processor]. The result does not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Neighbour lists to store: full, nearest:K or none [default: full for molecules, none for slabs].
    #[arg(long, value_name = "WHICH")]
    neighbors: Option<NeighborStorage>,
    /// Leave out up to this many unusable structures; each is listed in rejects.parquet.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_rejects: u64,
    #[command(flatten)]
    handling: Handling,
    /// OC20: total or referenced energies. LMDBs do not say which they hold: say it here. Raw sets hold both: choose.
    #[arg(long, value_name = "KIND", default_value = "total", value_parser = parse_energy)]
    energy: EnergyKind,
    /// OC20: add the energies of this file (oc20_ref.pkl) to referenced ones, which makes them total ones.
    #[arg(long, value_name = "FILE")]
    oc20_ref: Option<PathBuf>,
    /// OC20's IS2RE: frames to take of each relaxation, initial, relaxed or both.
    #[arg(long, value_name = "WHICH", default_value = "initial", value_parser = parse_relaxation)]
    frames: RelaxationFrames,
    /// Constants for hartree and kcal/mol: ase2014, codata2018 or jmp.
    #[arg(long, value_name = "SET", default_value = "ase2014", value_parser = parse_constants)]
    constants: ConstantSet,
    /// ANI-1x: level of theory, the prefix of its datasets' names.
    #[arg(long, value_name = "NAME", default_value = "wb97x_dz")]
    level: String,
    /// ANI-1x: keep formulas of fewer than four atoms, which JMP leaves out.
    #[arg(long)]
    keep_small: bool,
    /// Transition-1x: take reactant, transition state and product of each reaction, too, which JMP leaves out.
    #[arg(long)]
    end_points: bool,
    /// MD17, rMD17, MD22, whole file: rows of JMP's training and validation sets together [default: JMP's own number].
    #[arg(long, value_name = "N")]
    train_total: Option<u64>,
    /// SPICE: convert the subset whose name has these words, such as dipeptides or "solvated amino acids" [default: all].
    #[arg(long, value_name = "WORDS")]
    subset: Option<String>,
    /// SPICE: leave out conformers with a gradient component above this, in hartree/bohr.
    #[arg(long, value_name = "X", value_parser = parse_positive)]
    max_gradient: Option<f64>,
    /// QMOF: training rows of the splits train, val and test; the rest is halved.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    train_size: u64,
    /// QMOF: store the band gaps of all functionals, not only PBE's.
    #[arg(long)]
    all_targets: bool,
    /// Seed of the splits drawn at conversion (ANI-1x, QM9, MD17, rMD17, MD22, SPICE).
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u32,
    /// Narrow positions and forces to 32 bits.
    #[arg(long)]
    f32: bool,
    #[command(flatten)]
    own: OwnData,
}

/// What concerns every dataset alike.
#[derive(Debug, clap::Args)]
struct Handling {
    /// Continue an interrupted conversion.
    #[arg(long)]
    resume: bool,
    /// Convert only the i-th of n shares of the source, for `jmp-ingest merge`.
    #[arg(long, value_name = "i/n")]
    partition: Option<Share>,
    /// Leave out structures that break a rule: max-force, max-net-force, max-energy-per-atom, min-energy-per-atom, min-distance,
    /// max-atoms, min-atoms (=NUMBER; eV, eV/Å, Å) or elements=H:C:N:O. Recorded in the manifest; each is listed.
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Take this published reference of the energy (npz with `coeff` by atomic number, eV) instead of fitting one.
    #[arg(long, value_name = "FILE.npz")]
    linear_reference: Option<PathBuf>,
    /// Count and list ids that come more than once, instead of stopping.
    #[arg(long)]
    allow_duplicate_ids: bool,
    /// Tell where the time went.
    #[arg(long)]
    profile: bool,
}

/// What a user says about data of their own.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Own data (extxyz, aselmdb, traj, db)")]
struct OwnData {
    /// Entry that holds the energy [default: energy, else free_energy].
    #[arg(long, value_name = "KEY")]
    energy_key: Option<String>,
    /// Column or array that holds the forces [default: forces, else force].
    #[arg(long, value_name = "KEY")]
    forces_key: Option<String>,
    /// Entry that becomes the structure's id [default: file and number].
    #[arg(long, value_name = "KEY")]
    id_key: Option<String>,
    /// Entry that says which structures must not be split apart [default: each is by itself].
    #[arg(long, value_name = "KEY")]
    group_key: Option<String>,
    /// Scalar targets to store beside the energy, each with its unit.
    #[arg(long, value_name = "KEY=UNIT", num_args = 1.., value_parser = parse_target)]
    target: Vec<(String, String)>,
    /// Units: ENERGY,LENGTH[,FORCE[,STRESS]], for example hartree,Å,hartree/bohr or eV,Å,eV/Å,GPa.
    #[arg(long, value_name = "UNITS", default_value = "eV,Å")]
    units: SourceUnits,
    /// Leave out the tags, when they are not 0 sub-surface, 1 surface, 2 adsorbate.
    #[arg(long)]
    ignore_tags: bool,
    /// Name of the dataset [default: that of the format].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Level of theory, in words, for the manifest.
    #[arg(long, value_name = "TEXT")]
    theory: Option<String>,
    /// Licence of the data, for the manifest.
    #[arg(long, value_name = "TEXT")]
    licence: Option<String>,
}

impl OwnData {
    fn labels(&self) -> Labels {
        Labels {
            energy_key: self.energy_key.clone(),
            forces_key: self.forces_key.clone(),
            id_key: self.id_key.clone(),
            group_key: self.group_key.clone(),
            targets: self.target.clone(),
            units: self.units.clone(),
            ignore_tags: self.ignore_tags,
            name: self.name.clone(),
            theory: self.theory.clone(),
            licence: self.licence.clone(),
        }
    }
}

fn parse_target(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, unit)) if !key.is_empty() && !unit.is_empty() => Ok((key.to_owned(), unit.to_owned())),
        _ => Err("expected KEY=UNIT, for example band_gap=eV".to_owned()),
    }
}

fn parse_positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|x: &f64| *x > 0.0 && x.is_finite())
        .ok_or_else(|| "expected a positive number".to_owned())
}

fn parse_energy(text: &str) -> Result<EnergyKind, String> {
    match text {
        "total" => Ok(EnergyKind::Total),
        "referenced" => Ok(EnergyKind::Referenced),
        _ => Err("expected total or referenced".to_owned()),
    }
}

fn parse_relaxation(text: &str) -> Result<RelaxationFrames, String> {
    let known = [RelaxationFrames::Initial, RelaxationFrames::Relaxed, RelaxationFrames::Both];
    known.into_iter().find(|f| f.name() == text).ok_or_else(|| "expected initial, relaxed or both".to_owned())
}

fn parse_constants(text: &str) -> Result<ConstantSet, String> {
    match text {
        "ase2014" => Ok(ConstantSet::Ase2014),
        "codata2018" => Ok(ConstantSet::Codata2018),
        "jmp" => Ok(ConstantSet::Jmp),
        _ => Err("expected ase2014, codata2018 or jmp".to_owned()),
    }
}

impl Args {
    /// What concerns the format.
    fn options(&self) -> Options {
        Options {
            energy: self.energy,
            oc20_ref: self.oc20_ref.clone(),
            relaxation: self.frames,
            constants: self.constants,
            level: self.level.clone(),
            keep_small: self.keep_small,
            end_points: self.end_points,
            train_total: self.train_total,
            subset: self.subset.clone(),
            max_gradient: self.max_gradient,
            train_size: self.train_size,
            all_targets: self.all_targets,
            seed: self.seed,
            narrow: self.f32,
            labels: self.own.labels(),
        }
    }

    /// What concerns every conversion.
    fn settings(&self) -> anyhow::Result<Settings> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Settings {
            output: self.output.clone(),
            jobs: self.jobs.map_or(processors, usize::from),
            neighbors: self.neighbors,
            max_rejects: self.max_rejects,
            resume: self.handling.resume,
            filters: self.handling.filter.clone(),
            reference: self.handling.linear_reference.as_deref().map(reference::read).transpose()?,
            duplicate_ids: if self.handling.allow_duplicate_ids {
                DuplicateIds::Allow
            } else {
                DuplicateIds::Refuse
            },
        })
    }
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, console: Console) -> anyhow::Result<()> {
    let inputs: Vec<Input> = args.input.iter().map(|text| Input::parse(text)).collect();
    let source = open(args.dataset, &inputs, &args.options())?;
    let settings = args.settings()?;
    let stop = stop_on_signal()?;
    let units = match args.handling.partition {
        Some(share) => share.units(source.units()),
        None => (0..source.units().len()).collect(),
    };
    let total = units.iter().map(|&u| source.units()[u].structures).sum();
    let display = console.progress(&source.header().name, total);
    if let Some(share) = args.handling.partition {
        let result = convert_partition(source.as_ref(), &settings, share, &display, &stop);
        display.close();
        let outcome = result.map_err(|error| explain(error, args))?;
        report_partition(console, &args.output, &outcome, display.rate(), args.handling.profile);
    } else {
        let result = convert(source.as_ref(), &settings, &display, &stop);
        display.close();
        let outcome = result.map_err(|error| explain(error, args))?;
        report(console, &args.output, &outcome, Some(display.rate()), args.handling.profile);
    }
    Ok(())
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the program at once.
fn stop_on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(1);
        }
    })?;
    Ok(stop)
}

fn explain(error: IngestError, args: &Args) -> anyhow::Error {
    match error {
        IngestError::Interrupted => {
            anyhow::anyhow!(
                "interrupted; finished units are kept in {}: repeat the command with --resume",
                args.output.display()
            )
        }
        other => other.into(),
    }
}
