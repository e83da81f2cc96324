//! Predictions that are not finite: counted and named, in no mean, and never in the way.

use std::fs::File;
use std::sync::OnceLock;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use shards::layout::{Layout, Target};
use shards::splits::SplitDefinition;
use shards::writer::{DatasetWriter, DuplicateIds};
use shards::{RowSet, Structure};

use crate::{fresh, molecules, refused, structures, succeeds, workshop};

/// One step so long that the vectors of the elements which it saw and the heads' last layers overflow when they meet; the vectors
/// of other elements stay.
const CONFIG: &str = r#"
kind = "finetune"
run = { dir = "exploded", seed = 4, device = "cpu", threads = 1 }
model = { preset = "tiny" }
dataset = { name = "halves", path = "halves", train = "train", val = "all", test = "all", cutoff = 8.0, neighbors = 30, reference = false }
transfer = { freeze = ["backbone", "out_*.0", "out_*.2", "out_*.4", "out_*.6"] }
sampling = { batch_size = 10 }
optimizer = { lr = 1e25, weight_decay = 0.0, clip = "none" }
schedule = { warmup_epochs = 0 }
stop = { epochs = 1, max_steps = 1 }
guard = { non_finite = "skip" }
"#;

/// Rows 0 to 9 are of H, C and O, rows 10 to 19 of F, N and S; `train` is the former half.
fn write_halves() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(written_halves);
}

fn written_halves() {
    let dir = workshop().join(fresh("halves"));
    let other = |z: &u8| [(1, 9), (6, 7), (8, 16)].into_iter().find(|pair| pair.0 == *z).unwrap().1;
    let labelled = |(i, s): (usize, Structure)| {
        let numbers = s.atomic_numbers.clone();
        let atomic_numbers = if i < 10 { numbers } else { numbers.iter().map(other).collect() };
        Structure {
            atomic_numbers,
            energy: Some(0.1 * i as f64),
            targets: vec![Some(0.3 * i as f64), (i < 10).then_some(1.0 + i as f64)],
            ..s
        }
    };
    let all: Vec<Structure> = structures().into_iter().take(20).enumerate().map(labelled).collect();
    let target = |name: &str| Target {
        name: name.into(),
        unit: "eV".into(),
        meaning: "made up".into(),
        referenced: false,
    };
    let layout = Layout { targets: vec![target("gap"), target("rare")], ..molecules::layout() };
    let writer = DatasetWriter::create(&dir, molecules::plan(layout, 1), false).unwrap();
    molecules::write_unit(&writer, 0, &all);
    let splits = |_: &shards::Dataset| {
        let split = |name: &str, rows| SplitDefinition::new(name, "rows", None, RowSet::from_range(rows));
        Ok(vec![split("train", 0..10)?, split("rest", 10..20)?, split("all", 0..20)?])
    };
    writer.finish(DuplicateIds::Refuse, splits).unwrap();
    std::fs::write(workshop().join("exploded.toml"), CONFIG).unwrap();
}

/// Evaluates on all 20 what was trained on the first ten, as text, as JSON and as predictions by row.
fn exploded(heads: &str) -> (String, Value, Vec<(u64, f64, f64)>) {
    let run = fresh("exploded");
    let set = ["--set", heads];
    let told = succeeds(&[&["finetune", "exploded.toml", "--scratch"][..], &set].concat());
    // The validation names them too, and is the best of nothing.
    assert!(!told.contains("best validation"), "{told}");
    let log = std::fs::read_to_string(workshop().join(&run).join("train.log")).unwrap();
    let words = "the validation's metric is inf (halves: ";
    assert!(
        log.contains(words) && log.contains("10 structures have predictions that are not finite"),
        "{log}"
    );
    let evaluate = ["evaluate", "exploded.toml", "--checkpoint", &run];
    let text = succeeds(&[&evaluate[..], &set].concat());
    let json: Value = serde_json::from_str(&succeeds(&[&evaluate[..], &set, &["--json"]].concat())).unwrap();
    let file = File::open(workshop().join(run).join("predictions-all.parquet")).unwrap();
    let table =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap();
    let label = table.schema().field(4).name().clone();
    let column = |name: &str| table[name].as_primitive::<Float64Type>().values().to_vec();
    let rows = table["row"].as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec();
    let pairs = column(&label).into_iter().zip(column(&format!("predicted_{label}")));
    (text, json, rows.into_iter().zip(pairs).map(|(row, (label, p))| (row, label, p)).collect())
}

#[test]
fn structures_on_which_a_model_diverges_are_named_and_in_no_mean() {
    write_halves();
    for (heads, label) in [("heads.target=gap", "gap"), ("heads.forces=direct", "energy")] {
        let (text, json, rows) = exploded(heads);
        let errors = &json["tasks"]["halves"];
        assert_eq!(errors["not_finite"]["structures"], 10);
        let named: Vec<String> = (0..10).map(|i| format!("m{i}")).collect();
        assert_eq!(errors["not_finite"]["ids"], serde_json::json!(named));
        assert!(text.contains("10 structures have predictions that are not finite"), "{text}");
        assert!(!text.contains("NaN eV") && !text.contains("MAE NaN") && !text.contains("MAE inf"), "{text}");
        // They stand in the file as they are; the mean is that of the others.
        assert!(
            rows.iter().all(|(row, label, p)| label.is_finite() && p.is_finite() == (*row >= 10)),
            "{rows:?}"
        );
        let finite: Vec<f64> = rows.iter().filter(|r| r.0 >= 10).map(|(_, y, p)| (y - p).abs()).collect();
        let mae = finite.iter().sum::<f64>() / finite.len() as f64;
        let told = if label == "gap" { &errors["scalar"]["mae"] } else { &errors["energy_mae"] };
        assert_eq!(errors["structures"], 10);
        assert!((told.as_f64().unwrap() - mae).abs() < 1e-5 * mae, "{told} {mae}");
        let by_element = json["breakdown"]["halves"]["by_element"].as_object().unwrap();
        assert!(by_element["S"]["mae"].is_f64() && by_element["O"]["mae"].is_null(), "{by_element:?}");
    }
}

#[test]
fn a_split_without_the_label_is_refused() {
    write_halves();
    let with = |set: &[&'static str]| {
        let mut words = vec!["finetune", "exploded.toml", "--scratch", "--set", "run.dir=never-labelled"];
        set.iter().for_each(|set| words.extend(["--set", set]));
        words
    };
    let words = ["no structure of split `rest` has rare; choose another split"];
    refused(&with(&["heads.target=rare", "dataset.val=rest"]), &words);
    let words = ["halves: no structure of split `rest` has the label `rare`"];
    refused(&with(&["heads.target=rare", "dataset.train=rest"]), &words);
    assert!(!workshop().join("never-labelled").exists());
}

/// A checkpoint whose only validation was not finite is read like any other.
#[test]
fn a_run_that_diverges_can_be_resumed() {
    write_halves();
    let run = fresh("exploded-resumed");
    let set = [
        "--set",
        "heads.target=gap",
        "--set",
        "run.dir=exploded-resumed",
        "--set",
        "validation.every_steps=1",
    ];
    succeeds(&[&["finetune", "exploded.toml", "--scratch"][..], &set].concat());
    let told = succeeds(&["finetune", "--resume", &run]);
    assert!(told.contains("resumed at step 1"), "{told}");
    let metrics = std::fs::read_to_string(workshop().join(run).join("metrics.jsonl")).unwrap();
    let named = "10 structures have predictions that are not finite (NaN or infinite), in no mean: m0, m1";
    let passed_over =
        |line: &Value| line["kind"] == "skipped" && line["told"].as_str().unwrap().contains(named);
    assert!(metrics.lines().any(|line| passed_over(&serde_json::from_str(line).unwrap())), "{metrics}");
}
