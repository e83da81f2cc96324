//! `jmp-ingest explain`: one structure, from the source's numbers to what a model learns.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use shards::element::{hill_formula, symbol};
use shards::manifest::{SourceUnits, Unit};
use shards::statistics::{ENERGY, element_counts};
use shards::targets::TargetTransform;
use shards::{Dataset, Structure};

use super::{Refused, shards_error};
use crate::console::Console;

const EXAMPLES: &str = "\
Examples:
  jmp-ingest explain shards/ethanol ethanol/12345
  jmp-ingest explain shards/ani1x C4H10O2/17 --split train --json

Raw numbers are computed back from the stored ones with the constants of the manifest.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory of the dataset.
    dir: PathBuf,
    /// Id of the structure.
    id: String,
    /// Split whose reference and normalisation are used [default: train, else the first one that has the structure].
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
}

/// Atoms that are shown to a person.
const SHOWN_ATOMS: usize = 30;

/// One label on its way.
struct Steps {
    name: String,
    unit: String,
    raw: Option<(f64, Unit)>,
    converted: f64,
    /// Coefficient and count of each element.
    reference: Option<Vec<(u8, u32, f64)>>,
    mean: f64,
    std: f64,
}

impl Steps {
    fn reference_sum(&self) -> f64 {
        self.reference.iter().flatten().map(|&(_, n, c)| f64::from(n) * c).sum()
    }

    fn referenced(&self) -> f64 {
        self.converted - self.reference_sum()
    }

    fn normalised(&self) -> f64 {
        (self.referenced() - self.mean) / self.std
    }
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, console: Console) -> anyhow::Result<()> {
    let dataset = Dataset::open(&args.dir).map_err(shards_error)?;
    let Some(row) = dataset.find(&args.id).map_err(shards_error)? else {
        let first =
            dataset.structure(0).map_or_else(|_| String::new(), |s| format!("; the first id is `{}`", s.id));
        let text = format!("{} has no structure `{}`{first}", args.dir.display(), args.id);
        return Err(Refused(text).into());
    };
    let structure = dataset.structure(row).map_err(shards_error)?;
    let containing = splits_of(&dataset, row)?;
    let split = chosen_split(&dataset, args.split.as_deref(), &containing)?;
    let units = dataset.manifest().dataset.source_units.clone();
    let labels = labels(&dataset, split.as_deref(), &structure, units.as_ref())?;
    let transform = split
        .as_ref()
        .map(|name| TargetTransform::of_split(dataset.manifest(), dataset.dir(), name))
        .transpose()
        .map_err(shards_error)?;
    let force_scale = transform.map(|t| t.force_std);
    let shown = Shown { row, structure, containing, split, units, labels, force_scale };
    shown.say(console);
    console.result(&shown.json());
    Ok(())
}

fn splits_of(dataset: &Dataset, row: u64) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for name in dataset.manifest().splits.keys() {
        if dataset.split(name).map_err(shards_error)?.contains(row) {
            names.push(name.clone());
        }
    }
    Ok(names)
}

fn chosen_split(
    dataset: &Dataset,
    asked: Option<&str>,
    containing: &[String],
) -> anyhow::Result<Option<String>> {
    let splits = &dataset.manifest().splits;
    match asked {
        Some(name) => {
            dataset.manifest().split(dataset.dir(), name).map_err(shards_error)?;
            Ok(Some(name.to_owned()))
        }
        None if splits.contains_key("train") => Ok(Some("train".to_owned())),
        None => Ok(containing.first().or_else(|| splits.keys().next()).cloned()),
    }
}

fn labels(
    dataset: &Dataset,
    split: Option<&str>,
    structure: &Structure,
    units: Option<&SourceUnits>,
) -> anyhow::Result<Vec<Steps>> {
    let counts = element_counts(&structure.atomic_numbers);
    let targets = &dataset.layout().targets;
    let energy = (ENERGY, "eV", structure.energy);
    let others = targets.iter().zip(&structure.targets).map(|(t, v)| (t.name.as_str(), t.unit.as_str(), *v));
    let mut all = Vec::new();
    for (name, unit, value) in std::iter::once(energy).chain(others) {
        let Some(converted) = value else { continue };
        let measured = split.filter(|split| {
            let record = dataset.manifest().splits.get(*split);
            record.is_some_and(|r| r.statistics.labels.contains_key(name))
        });
        let transform = measured
            .map(|split| TargetTransform::of_label(dataset.manifest(), dataset.dir(), split, name))
            .transpose()
            .map_err(shards_error)?;
        let (reference, mean, std) = match transform {
            None => (None, 0.0, 1.0),
            Some(t) => {
                let coefficients = t.reference.as_ref().map(|r| {
                    counts.iter().map(|&(z, n)| Ok((z, n, r.of(&[z])?))).collect::<Result<Vec<_>, _>>()
                });
                (coefficients.transpose().map_err(shards_error)?, t.mean, t.std)
            }
        };
        let raw = units.filter(|_| name == ENERGY).map(|u| (converted / u.energy.size, u.energy.clone()));
        all.push(Steps {
            name: name.to_owned(),
            unit: unit.to_owned(),
            raw,
            converted,
            reference,
            mean,
            std,
        });
    }
    Ok(all)
}

struct Shown {
    row: u64,
    structure: Structure,
    containing: Vec<String>,
    split: Option<String>,
    units: Option<SourceUnits>,
    labels: Vec<Steps>,
    force_scale: Option<f64>,
}

impl Shown {
    fn say(&self, console: Console) {
        let s = &self.structure;
        let member =
            if self.containing.is_empty() { "no split".to_owned() } else { self.containing.join(", ") };
        console.say(&format!(
            "{}: row {}, {}, {} atoms",
            s.id,
            self.row,
            hill_formula(&s.atomic_numbers),
            s.atoms()
        ));
        console.say(&format!("  group      {}", s.group));
        console.say(&format!("  in         {member}"));
        if let Some(cell) = s.cell {
            let rows: Vec<String> =
                cell.chunks(3).map(|r| format!("({:.4} {:.4} {:.4})", r[0], r[1], r[2])).collect();
            console.say(&format!("  cell       {} Å, periodic {:?}", rows.join(" "), s.pbc));
        }
        for (name, value) in [("charge", s.charge), ("spin", s.spin)] {
            if let Some(value) = value {
                console.say(&format!("  {name:<10} {value}"));
            }
        }
        match &self.split {
            Some(split) => console.say(&format!("  reference and normalisation of split {split}")),
            None => console.say("  no split, and so no reference and no normalisation"),
        }
        self.labels.iter().for_each(|label| say_label(console, label));
        self.say_atoms(console);
    }

    fn say_atoms(&self, console: Console) {
        let s = &self.structure;
        let unit = self.units.as_ref().map(|u| &u.forces);
        let normalised =
            self.force_scale.map_or(String::new(), |scale| format!(", normalised by {scale:.6} eV/Å"));
        match &s.forces {
            Some(_) => console.say(&format!(
                "forces: raw ({}), converted (eV/Å){normalised}",
                unit.map_or("unknown unit", |u| &u.name)
            )),
            None => console.say("no forces"),
        }
        for i in 0..s.atoms().min(SHOWN_ATOMS) {
            let vector = |values: [f64; 3]| values.map(|x| format!("{x:>10.5}")).join(" ");
            let at = |k: usize| s.positions.get(3 * i + k);
            let mut line =
                format!("  {i:>4} {:<2} at {} Å", symbol(s.atomic_numbers[i]), vector([at(0), at(1), at(2)]));
            if let Some(forces) = &s.forces {
                let f = [0, 1, 2].map(|k| forces.get(3 * i + k));
                if let Some(unit) = unit {
                    let _ = write!(line, "  raw {}", vector(f.map(|x| x / unit.size)));
                }
                let _ = write!(line, "  converted {}", vector(f));
                if let Some(scale) = self.force_scale {
                    let _ = write!(line, "  normalised {}", vector(f.map(|x| x / scale)));
                }
            }
            console.say(&line);
        }
        if s.atoms() > SHOWN_ATOMS {
            console.say(&format!("  and {} more atoms (all with --json)", s.atoms() - SHOWN_ATOMS));
        }
    }

    fn json(&self) -> Value {
        let s = &self.structure;
        let labels: serde_json::Map<String, Value> =
            self.labels.iter().map(|label| (label.name.clone(), label_json(label))).collect();
        let forces = s.forces.as_ref().map(|f| {
            let scaled = |factor: f64| f.iter().map(|x| x * factor).collect::<Vec<f64>>();
            json!({
                "raw": self.units.as_ref().map(|u| scaled(1.0 / u.forces.size)),
                "raw_unit": self.units.as_ref().map(|u| &u.forces.name),
                "converted": f.to_f64(),
                "scale": self.force_scale,
                "normalised": self.force_scale.map(|scale| scaled(1.0 / scale)),
            })
        });
        json!({
            "id": s.id,
            "row": self.row,
            "group": s.group,
            "formula": hill_formula(&s.atomic_numbers),
            "splits": self.containing,
            "split": self.split,
            "atomic_numbers": s.atomic_numbers,
            "positions": s.positions.to_f64(),
            "cell": s.cell,
            "pbc": s.pbc,
            "tags": s.tags,
            "charge": s.charge,
            "spin": s.spin,
            "stress": s.stress,
            "labels": labels,
            "forces": forces,
        })
    }
}

fn say_label(console: Console, label: &Steps) {
    let line = |step: &str, value: f64, how: &str| console.say(&format!("  {step:<11}{value:>22.10} {how}"));
    console.say(&label.name);
    if let Some((raw, unit)) = &label.raw {
        line("raw", *raw, &unit.name);
        line("converted", label.converted, &format!("{}, × {}", label.unit, unit.size));
    } else {
        line("converted", label.converted, &label.unit);
    }
    if let Some(reference) = &label.reference {
        let terms: Vec<String> =
            reference.iter().map(|&(z, n, c)| format!("{n} {} × {c:.6}", symbol(z))).collect();
        line("reference", label.reference_sum(), &format!("{}: {}", label.unit, terms.join(" + ")));
        line("referenced", label.referenced(), &label.unit);
    }
    line(
        "normalised",
        label.normalised(),
        &format!("(less mean {:.10}, over {:.10})", label.mean, label.std),
    );
}

fn label_json(label: &Steps) -> Value {
    let coefficients = label.reference.as_ref().map(|reference| {
        let terms =
            reference.iter().map(|&(z, n, c)| json!({ "element": symbol(z), "count": n, "coefficient": c }));
        terms.collect::<Vec<_>>()
    });
    json!({
        "unit": label.unit,
        "raw": label.raw.as_ref().map(|r| r.0),
        "raw_unit": label.raw.as_ref().map(|r| &r.1.name),
        "converted": label.converted,
        "reference": label.reference.as_ref().map(|_| label.reference_sum()),
        "reference_terms": coefficients,
        "referenced": label.referenced(),
        "mean": label.mean,
        "std": label.std,
        "normalised": label.normalised(),
    })
}
