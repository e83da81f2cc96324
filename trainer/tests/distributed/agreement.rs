//! What ranks know of each other without asking: counts of the global batch, and whose part of a validation is whose.

use std::cell::Cell;
use std::path::Path;
use std::sync::Mutex;

use shards::Structure;
use shards::stream::{Cursor, Share, Totals};
use tch::{Device, Kind, Tensor};
use trainer::config::sections::{LossSection, Reduction};
use trainer::config::{Config, Source};
use trainer::data::{GlobalBatch, TrainingData, sequential};
use trainer::distributed::World;
use trainer::evaluate::{Interrupted, Judge, Judgement, validate};
use trainer::learner::Whole;
use trainer::loss::{Loss, LossCounts, TaskWeights};
use trainer::network::Network;
use trainer::setup;
use trainer::task::Task;

use crate::exchange::on_ranks;
use crate::molecules;

const CONFIG: &str = r#"
kind = "pretrain"
run = { dir = "run", seed = 3, device = "cpu", threads = 1, precision = "f64" }
model = { preset = "tiny" }
sampling = { batch_size = 2, accumulate = 3, temperature = 2.0 }
optimizer = { lr = 1e-3, clip = "none" }
schedule = { epochs = 1, warmup_steps = 5 }
validation = { batch_size = 3 }

[[dataset]]
name = "whole"
path = "DIR/whole"
train = "all"
val = "all"
cutoff = 4.0
neighbors = 6

[[dataset]]
name = "patchy"
path = "DIR/patchy"
train = "all"
val = "all"
cutoff = 4.0
neighbors = 6
"#;

/// Molecule `i` with some atoms held in place, all of them in every fifth, and some labels missing.
fn patchy(i: u64) -> Structure {
    let whole = molecules::molecule(i);
    let atoms = whole.atomic_numbers.len() as u64;
    Structure {
        fixed: (!i.is_multiple_of(3))
            .then(|| (0..atoms).map(|a| i.is_multiple_of(5) || (a + i).is_multiple_of(3)).collect()),
        energy: whole.energy.filter(|_| i % 4 != 1),
        forces: whole.forces.filter(|_| i % 4 != 2),
        ..molecules::molecule(i)
    }
}

fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let whole: Vec<_> = (0..14).map(molecules::molecule).collect();
    let patchy: Vec<_> = (100..123).map(patchy).collect();
    molecules::write(&folder.path().join("whole"), &molecules::layout(), &[whole], 1);
    molecules::write(&folder.path().join("patchy"), &molecules::layout(), &[patchy], 1);
    folder
}

fn config(folder: &Path, settings: &[&str]) -> (Config, Vec<Task>) {
    let text = CONFIG.replace("DIR", &folder.display().to_string());
    let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
    let source = Source::from_text(Path::new("config.toml"), text, &settings).unwrap();
    let config = Config::from_source(&source).unwrap();
    let tasks = Task::open_all(&config).unwrap();
    (config, tasks)
}

/// The counts of eq. 1, spelt out over the structures of a batch.
fn counted(rule: LossSection, batch: &shards::batch::HostBatch) -> LossCounts {
    let mut counts = LossCounts::default();
    let mut atom = 0;
    for g in 0..batch.structures() {
        let atoms = atom..atom + batch.natoms[g] as usize;
        counts.energies += f64::from(u8::from(batch.has_energy[g]));
        if batch.has_forces[g] {
            counts.forces += match rule.reduction {
                Reduction::Structure => 1.0,
                Reduction::Atom => {
                    atoms.clone().filter(|&a| !rule.free_atoms_only || !batch.fixed[a]).count() as f64
                }
            };
        }
        atom = atoms.end;
    }
    counts
}

#[test]
fn distributed_planned_counts_are_those_of_the_decoded_batches_on_any_number_of_ranks() {
    let folder = workshop();
    for (reduction, free_only) in [("structure", false), ("structure", true), ("atom", false), ("atom", true)]
    {
        let settings = [format!("loss.reduction={reduction:?}"), format!("loss.free_atoms_only={free_only}")];
        let (config, tasks) = config(folder.path(), &settings.each_ref().map(String::as_str));
        let weights: Vec<_> = tasks.iter().map(|t| TaskWeights::of(&t.record)).collect();
        let loss = Loss::new(config.loss, &weights, &Tensor::zeros([1], (Kind::Double, Device::Cpu)));
        for ranks in 1..=4 {
            let of_rank = |rank| -> Vec<GlobalBatch> {
                let share = Share { rank, ranks };
                TrainingData::open(&config, &tasks, 2, share, Cursor::default())
                    .unwrap()
                    .map(Result::unwrap)
                    .collect()
            };
            let all: Vec<Vec<GlobalBatch>> = (0..ranks).map(of_rank).collect();
            assert!(all[0].len() > 6);
            let mut seen = Vec::new();
            for step in 0..all[0].len() {
                let mut whole = Whole::default();
                for batch in all.iter().flat_map(|rank| &rank[step].parts) {
                    whole.counts.add(counted(config.loss, batch));
                    whole.structures += batch.structures() as u64;
                    assert_eq!(loss.counts(batch), counted(config.loss, batch));
                }
                let plans: Vec<&Totals> = all.iter().map(|rank| &rank[step].totals).collect();
                assert!(
                    plans.iter().all(|plan| Whole::planned(&loss, plan) == whole),
                    "{plans:?}, {whole:?}"
                );
                seen.push(whole);
            }
            let incomplete = |w: &&Whole| w.counts.energies < w.structures as f64;
            assert!(seen.iter().any(|w| w.counts.energies > 0.0) && seen.iter().find(incomplete).is_some());
        }
    }
}

/// A judgement to the last bit.
fn bits(judgement: Judgement) -> String {
    let Judgement { metric, tasks } = judgement;
    format!("{} {}", metric.to_bits(), serde_json::to_string(&tasks).unwrap())
}

/// A network whose weights are the same in all threads, though libtorch draws them from one source for all.
fn network(config: &Config) -> Network {
    static DRAWING: Mutex<()> = Mutex::new(());
    let _alone = DRAWING.lock().unwrap();
    tch::set_num_threads(1);
    setup::network(config, Device::Cpu)
}

/// Judges on this many ranks; `interrupted` tells it of a rank and how often it was asked.
fn judged(
    folder: &Path,
    settings: &[&str],
    ranks: u32,
    interrupted: fn(u32, u32) -> bool,
) -> Vec<Result<String, String>> {
    on_ranks(ranks, |world: World| {
        let (config, tasks) = config(folder, settings);
        let network = network(&config);
        let judge = Judge { network: &network, config: &config, tasks: &tasks, world: &world };
        let asked = Cell::new(0);
        let outcome = validate(judge, || {
            asked.set(asked.get() + 1);
            interrupted(world.rank(), asked.get())
        });
        outcome.map(|judgement| bits(judgement.unwrap())).map_err(|e| {
            assert!(e.is::<Interrupted>(), "{e:#}");
            e.to_string()
        })
    })
}

#[test]
fn distributed_judgements_are_the_same_to_the_last_bit() {
    let folder = workshop();
    // 14 and 23 structures in batches of 3: 5 and 8 batches, the last ones smaller; more ranks than batches, too.
    for settings in [&[][..], &["validation.max_structures=7"], &["validation.free_atoms_only=false"]] {
        let alone = judged(folder.path(), settings, 1, |_, _| false).remove(0);
        assert!(alone.as_ref().unwrap().contains("\"force_mae\":0."), "{alone:?}");
        for ranks in [2, 3, 6] {
            for judgement in judged(folder.path(), settings, ranks, |_, _| false) {
                assert_eq!(judgement, alone, "{ranks} ranks, {settings:?}");
            }
        }
    }
}

#[test]
fn distributed_a_judgement_that_one_rank_cuts_short_is_cut_short_for_all() {
    let folder = workshop();
    // Rank 1 of three has two of the first five batches: it is interrupted in the second dataset, others are not.
    let told = judged(folder.path(), &[], 3, |rank, asked| rank == 1 && asked > 2);
    assert_eq!(told, vec![Err("interrupted".to_owned()); 3]);
    let told = judged(folder.path(), &[], 1, |_, asked| asked > 2);
    assert_eq!(told, [Err("interrupted".to_owned())]);
}

/// Ranks prepare their own batches and no others.
#[test]
fn distributed_ranks_read_their_own_part_of_a_split() {
    let folder = workshop();
    let (config, tasks) = config(folder.path(), &[]);
    let places = |rank, ranks| -> Vec<u32> {
        let share = Share { rank, ranks };
        let batches = sequential(&config, &tasks[1], 1, ("all", u64::MAX), share).unwrap();
        batches.map(|batch| batch.unwrap().index).collect()
    };
    assert_eq!(places(0, 1), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!([places(0, 3), places(1, 3), places(2, 3)], [vec![0, 3, 6], vec![1, 4, 7], vec![2, 5]]);
}
