//! `jmp-ingest split`: a named row set of a dataset, chosen at random or listed. No row is copied.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;
use shards::splits::{SplitDefinition, add, listed, random, random_groups};
use shards::{Dataset, RowSet};

use super::{Refused, say_splits, shards_error};
use crate::console::Console;

const EXAMPLES: &str = "\
Examples:
  jmp-ingest split shards/ethanol --from train_01 --random 42 --sizes train=950,val=50
  jmp-ingest split shards/ethanol --from train_01 --random 0 --sizes few_shot=50
  jmp-ingest split shards/oc20 --from train --random 1 --sizes dev_train=90%,dev_val=10% --grouped
  jmp-ingest split shards/oc20 --from train,rattled,md --random 0 --sizes train_100m=100000000
  jmp-ingest split shards/rmd17 --random 42 --sizes train=950,val=50,test=rest
  jmp-ingest split shards/ani1x --list train=train_formulas.txt val=val_formulas.txt --by group

Rows are shuffled as numpy's RandomState(SEED).shuffle does and cut into runs, so JMP's published splits come out bit for bit.";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Directory of the dataset.
    dir: PathBuf,
    /// Splits to draw from, together [default: all rows].
    #[arg(long, value_name = "SPLIT,…", value_delimiter = ',')]
    from: Vec<String>,
    /// Seed of the shuffle.
    #[arg(long, value_name = "SEED", required_unless_present = "list")]
    random: Option<u32>,
    /// Splits to make, in the order in which they take rows: NAME=ROWS, NAME=PERCENT% or NAME=rest.
    #[arg(long, value_name = "NAME=SIZE,…", value_delimiter = ',', required_unless_present = "list", value_parser = Size::parse)]
    sizes: Vec<Size>,
    /// Put before each name, with a dash.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Keep groups (formula, reaction, relaxation) together; sizes are then reached or passed by the group that fills them.
    #[arg(long)]
    grouped: bool,
    /// Splits to make of given lists: a file for each, with an id or group a line; # begins a comment.
    #[arg(long, value_name = "NAME=FILE", num_args = 1.., value_parser = List::parse, conflicts_with_all = ["from", "random", "sizes", "grouped"])]
    list: Vec<List>,
    /// What the lists hold.
    #[arg(long, value_name = "WHAT", value_enum, default_value = "id", requires = "list")]
    by: By,
}

/// What a list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// Structures.
    Id,
    /// Groups: formulas, reactions, relaxations.
    Group,
}

/// One entry of `--list`.
#[derive(Debug, Clone, PartialEq)]
struct List {
    name: String,
    file: PathBuf,
}

impl List {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("expected NAME=FILE")?;
        Ok(Self { name: name.to_owned(), file: PathBuf::from(file) })
    }

    /// The rows that the file names; every name must be there.
    fn definition(&self, dataset: &Dataset, by: By) -> anyhow::Result<SplitDefinition> {
        let shown = self.file.display();
        let text = std::fs::read_to_string(&self.file).map_err(|e| Refused(format!("{shown}: {e}")))?;
        let names: BTreeSet<String> = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or(line).trim())
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        let (rows, missing) = listed(dataset, &names, by == By::Group).map_err(shards_error)?;
        let what = if by == By::Group { "group" } else { "id" };
        if let Some(first) = missing.first() {
            let (found, all) = (names.len() - missing.len(), names.len());
            return Err(Refused(format!(
                "{shown}: {} has no {what} `{first}` ({found} of the {all} listed are there)",
                dataset.dir().display()
            ))
            .into());
        }
        if rows.is_empty() {
            return Err(Refused(format!("{shown} lists nothing")).into());
        }
        let file = self.file.file_name().unwrap_or_default().to_string_lossy();
        let hash = blake3::hash(text.as_bytes()).to_hex();
        let algorithm = format!("the {} {what}s listed in {file} (BLAKE3 {hash})", names.len());
        SplitDefinition::new(&self.name, &algorithm, None, rows).map_err(shards_error)
    }
}

/// One entry of `--sizes`.
#[derive(Debug, Clone, PartialEq)]
struct Size {
    name: String,
    amount: Amount,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Rows(u64),
    Percent(f64),
    Rest,
}

impl Size {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, amount) = text.split_once('=').ok_or("expected NAME=SIZE")?;
        let amount = match (amount, amount.strip_suffix('%')) {
            ("rest", _) => Amount::Rest,
            (_, Some(percent)) => {
                let percent: f64 = percent.parse().map_err(|_| format!("{percent} is no number"))?;
                if !(percent > 0.0 && percent <= 100.0) {
                    return Err(format!("{percent} % is not between 0 and 100"));
                }
                Amount::Percent(percent)
            }
            (rows, None) => Amount::Rows(rows.parse().map_err(|_| format!("{rows} is no number of rows"))?),
        };
        Ok(Self { name: name.to_owned(), amount })
    }
}

/// Rows that each entry takes of `total`; percentages are truncated.
fn lengths(sizes: &[Size], total: u64) -> Result<Vec<u64>, Refused> {
    let mut taken = 0u64;
    let mut lengths = Vec::with_capacity(sizes.len());
    for (at, size) in sizes.iter().enumerate() {
        let length = match size.amount {
            Amount::Rows(rows) => rows,
            Amount::Percent(percent) => (total as f64 * percent / 100.0) as u64,
            Amount::Rest if at + 1 == sizes.len() => total.saturating_sub(taken),
            Amount::Rest => return Err(Refused("`rest` must be the last of --sizes".to_owned())),
        };
        taken = taken.saturating_add(length);
        lengths.push(length);
    }
    if taken > total {
        return Err(Refused(format!("--sizes ask for {taken} rows, there are {total} to draw from")));
    }
    Ok(lengths)
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args, console: Console) -> anyhow::Result<()> {
    let dataset = Dataset::open(&args.dir).map_err(shards_error)?;
    let definitions = match args.random {
        Some(seed) => drawn(args, seed, &dataset)?,
        None => args.list.iter().map(|list| list.definition(&dataset, args.by)).collect::<Result<_, _>>()?,
    };
    make(args, definitions, console)
}

/// Splits drawn at random.
fn drawn(args: &Args, seed: u32, dataset: &Dataset) -> anyhow::Result<Vec<SplitDefinition>> {
    let rows = match args.from.as_slice() {
        [] => RowSet::from_range(0..dataset.rows()),
        [name] => dataset.split(name).map_err(shards_error)?,
        names => {
            let sets: Result<Vec<RowSet>, _> = names.iter().map(|name| dataset.split(name)).collect();
            RowSet::from_rows(sets.map_err(shards_error)?.iter().flat_map(RowSet::iter).collect())
        }
    };
    let lengths = lengths(&args.sizes, rows.len())?;
    let sets = if args.grouped {
        random_groups(dataset, &rows, seed, &lengths).map_err(shards_error)?
    } else {
        random(&rows, seed, &lengths).map_err(Refused)?
    };
    let from = if args.from.is_empty() { "all rows".to_owned() } else { args.from.join(" and ") };
    let kind = if args.grouped { "groups" } else { "rows" };
    let mut definitions = Vec::new();
    for (size, set) in args.sizes.iter().zip(sets) {
        let name =
            args.name.as_ref().map_or_else(|| size.name.clone(), |prefix| format!("{prefix}-{}", size.name));
        if set.is_empty() {
            return Err(Refused(format!("split `{name}` would have no rows")).into());
        }
        let sizes: Vec<String> =
            args.sizes.iter().zip(&lengths).map(|(s, n)| format!("{} {n}", s.name)).collect();
        let algorithm = format!(
            "{kind} of {from} shuffled by numpy's RandomState({}), cut into {}",
            seed,
            sizes.join(", ")
        );
        let seed = Some(u64::from(seed));
        definitions.push(SplitDefinition::new(&name, &algorithm, seed, set).map_err(shards_error)?);
    }
    Ok(definitions)
}

/// Adds the splits and tells of them.
fn make(args: &Args, definitions: Vec<SplitDefinition>, console: Console) -> anyhow::Result<()> {
    let made: Vec<(String, u64)> = definitions.iter().map(|d| (d.name.clone(), d.rows.len())).collect();
    add(&args.dir, definitions).map_err(shards_error)?;
    let dataset = Dataset::open(&args.dir).map_err(shards_error).context("reading the dataset back")?;
    for (name, rows) in &made {
        console.say(&format!("made split {name}: {rows} rows"));
    }
    say_splits(console, dataset.manifest());
    let made: serde_json::Map<String, serde_json::Value> =
        made.into_iter().map(|(n, r)| (n, r.into())).collect();
    console.result(
        &serde_json::json!({ "dir": args.dir, "made": made, "manifest_hash": dataset.manifest().hash }),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Vec<Size> {
        text.split(',').map(|t| Size::parse(t).unwrap()).collect()
    }

    #[test]
    fn sizes_are_rows_percentages_or_the_rest() {
        assert_eq!(lengths(&sizes("train=950,val=50"), 1000).unwrap(), [950, 50]);
        assert_eq!(lengths(&sizes("a=33%,b=10,c=rest"), 100).unwrap(), [33, 10, 57]);
        assert!(lengths(&sizes("a=rest,b=1"), 100).unwrap_err().to_string().contains("last"));
        assert!(
            lengths(&sizes("a=90%,b=11"), 100).unwrap_err().to_string().contains("101 rows, there are 100")
        );
        for bad in ["train", "a=x", "a=0%", "a=101%", "a=-1"] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
    }
}
