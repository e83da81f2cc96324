//! `jmp-train predict`: the numbers of `evaluate`, faults by frame, several tasks, the conversation.

use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use extxyz::{Frame, Frames, write_frame};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use shards::{Floats, Structure};

use crate::{fresh, molecules, program, refused, run, structures, succeeds, workshop};

fn write(name: &str, structures: &[Structure]) {
    let mut file = File::create(workshop().join(name)).unwrap();
    structures.iter().for_each(|s| write_frame(&mut file, s, &[]).unwrap());
}

fn frames(text: &[u8]) -> Vec<Frame> {
    let mut frames = Frames::whole(text);
    std::iter::from_fn(|| frames.next_frame().unwrap()).collect()
}

fn read(name: &str) -> Vec<Frame> {
    frames(&std::fs::read(workshop().join(name)).unwrap())
}

fn energy(frame: &Frame) -> f64 {
    frame.info.number(&["energy"]).unwrap().unwrap()
}

fn forces(frame: &Frame) -> Vec<f64> {
    frame.column("forces").unwrap().values.to_f64().unwrap()
}

#[test]
fn numbers_are_those_of_evaluate() {
    write("all.extxyz", &structures());
    let out = fresh("all-out.extxyz");
    let told = succeeds(&["predict", "--checkpoint", "run", "all.extxyz", &out, "--batch-size", "7"]);
    assert!(told.contains("energy and forces of 40 structures"), "{told}");
    let evaluated = fresh("evaluated.parquet");
    succeeds(&["evaluate", "finetune.toml", "--checkpoint", "run", "--split", "all", "--output", &evaluated]);
    let file = File::open(workshop().join(evaluated)).unwrap();
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    let table = reader.next().unwrap().unwrap();
    let energies = table["predicted_energy"].as_primitive::<Float64Type>();
    let lists = table["predicted_forces"].as_list::<i32>();
    let frames = read(&out);
    assert_eq!((frames.len(), table.num_rows()), (40, 40));
    for (row, (frame, given)) in frames.iter().zip(structures()).enumerate() {
        assert!((energy(frame) - energies.value(row)).abs() < 1e-8, "energy of frame {row}");
        assert!((energy(frame) - given.energy.unwrap()).abs() > 1e-6, "the given energy was kept");
        let want = lists.value(row);
        let want = want.as_primitive::<Float64Type>().values();
        assert!(forces(frame).iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-8), "forces of frame {row}");
        assert_eq!(
            (frame.info.text("id"), &frame.positions),
            (Some(given.id.as_str()), &given.positions.to_f64())
        );
    }
}

#[test]
fn one_of_several_tasks_is_chosen() {
    write("few.extxyz", &structures()[..3]);
    let joint = |task: &str, out: &str| {
        succeeds(&["predict", "--checkpoint", "joint", "few.extxyz", out, "--task", task, "--quiet"]);
        read(out)
    };
    let (one, other) = (joint("set", &fresh("set.extxyz")), joint("other", &fresh("other.extxyz")));
    assert!(
        one.iter().zip(&other).all(|(a, b)| (energy(a) - energy(b)).abs() > 1e-4 && forces(a) != forces(b))
    );
    let predict = ["predict", "--checkpoint", "joint", "few.extxyz", "never.extxyz"];
    refused(&predict, &["choose one with --task: set, other"]);
    refused(&[&predict[..], &["--task", "third"]].concat(), &["no task `third`; the model has set, other"]);
}

#[test]
fn faults_name_the_frame_and_leave_whole_frames() {
    let good = structures()[..5].to_vec();
    let with = |name: &str, bad: Structure, words: &[&str]| {
        write("faulty.extxyz", &[&good[..], &[bad], &good[..]].concat());
        let out = fresh(name);
        let partial = fresh(&format!("{name}.partial"));
        let place = "faulty.extxyz: frame 5 (line 41): ";
        let words = [words, &[place, &partial]].concat();
        refused(&["predict", "--checkpoint", "run", "faulty.extxyz", &out, "--batch-size", "4"], &words);
        assert!(!workshop().join(out).exists());
        assert_eq!(read(&partial).len(), 5);
    };
    let bare = |numbers: &[u8], positions: &[f64]| {
        Structure::new("bad".into(), "bad".into(), numbers.to_vec(), Floats::F64(positions.to_vec()))
    };
    with("gold.extxyz", bare(&[79, 79], &[0.0, 0.0, 0.0, 2.0, 0.0, 0.0]), &["element Au (Z = 79) is absent"]);
    with(
        "far.extxyz",
        bare(&[1, 8], &[0.0, 0.0, 0.0, 9.0, 0.0, 0.0]),
        &["atom 0 (H) has no neighbour within 8 Å"],
    );
    with("twice.extxyz", bare(&[1, 8], &[0.0; 6]), &["atoms 0 and 1 are 0.0000 Å apart"]);
    let periodic = Structure { pbc: [true; 3], ..good[0].clone() };
    with("periodic.extxyz", periodic, &["periodic along some direction, but there is no cell"]);
    let tagged = Structure { tags: Some(vec![7; good[0].atoms()]), ..good[0].clone() };
    with("tagged.extxyz", tagged, &["`tags`", "found 7", "--ignore-tags"]);
}

#[test]
fn what_is_wrong_with_files_is_told_before_anything_is_written() {
    write("one.extxyz", &structures()[..1]);
    let predict = |words: &[&str], expected: &[&str]| {
        refused(&[&["predict", "--checkpoint", "run"], words].concat(), expected);
    };
    predict(&["absent.extxyz", "x.extxyz"], &["cannot open absent.extxyz"]);
    predict(&["one.extxyz", "one.extxyz"], &["one.extxyz exists: remove it"]);
    predict(&["one.extxyz", "x.extxyz", "--task", "y"], &["no task `y`; the model has set"]);
    predict(&["one.extxyz", "x.extxyz", "--device", "tpu"], &["--device", "tpu"]);
    std::fs::write(workshop().join("cut.extxyz"), "3\n\nH 0 0 0\nH 0 0 1\n").unwrap();
    let out = fresh("cut-out.extxyz");
    predict(&["cut.extxyz", &out], &["cut.extxyz: frame 0 (line 1): the file ends after 2 of its 3 atoms"]);
    assert!(!workshop().join(format!("{out}.partial")).exists());
    std::fs::write(workshop().join("empty.extxyz"), "\n\n").unwrap();
    predict(&["empty.extxyz", &out], &["empty.extxyz: no frame in it"]);
    refused(&["predict", "--checkpoint", "nowhere", "one.extxyz", "x.extxyz"], &["no checkpoint here"]);
    refused(&["predict", "--checkpoint", "set", "one.extxyz", "x.extxyz"], &["no checkpoint here"]);
    refused(&["predict", "--checkpoint", "run", "set", "x.extxyz"], &["set is a directory; expected a file"]);
    let done = run(&["predict", "--checkpoint", "run", "one.extxyz"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(!workshop().join("x.extxyz").exists());
}

#[test]
fn a_published_file_is_used_with_references_of_a_dataset() {
    write("published.extxyz", &structures()[..2]);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/checkpoint/published.pt");
    let out = fresh("published-out.extxyz");
    let predict = ["predict", "--checkpoint", file, "published.extxyz", &out, "--task", "ani1x"];
    refused(&predict, &["published.pt", "no references", "--statistics DIR"]);
    succeeds(&[&predict[..], &["--statistics", "set", "--statistics-split", "all"]].concat());
    for (frame, given) in read(&out).iter().zip(structures()) {
        // Made-up weights, but the references are right: what is left is of the order of the scale.
        assert!((energy(frame) - given.energy.unwrap()).abs() < 100.0);
    }
}

#[test]
fn a_conversation_answers_every_question() {
    let mut program = program()
        .args(["predict", "--serve", "--checkpoint", "run"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let molecule = molecules::molecule(3);
    let positions = molecule.positions.to_f64();
    let rows: Vec<&[f64]> = positions.chunks_exact(3).collect();
    let good = serde_json::json!({ "id": "a", "numbers": molecule.atomic_numbers, "positions": rows });
    let questions = [
        good.to_string(),
        "nonsense".into(),
        String::new(),
        r#"{"id": 2, "numbers": [1, 1], "positions": [[0,0,0],[0,0,1]], "charge": 1}"#.into(),
        r#"{"id": 3, "numbers": [1, 1], "positions": [[0,0,0]]}"#.into(),
        r#"{"id": 4, "numbers": [1, 1], "positions": [[0,0,0],[0,0,1]], "pbc": [true, true, true], "cell": null}"#.into(),
        "[1, 2]".into(),
        r#"{"id": [5], "numbers": [8], "positions": [[0,0,0]], "pbc": [true, true, true], "cell": [[3,0,0],[0,3,0],[0,0,3]]}"#
            .into(),
        good.to_string(),
    ];
    let mut stdin = program.stdin.take().unwrap();
    questions.iter().for_each(|question| writeln!(stdin, "{question}").unwrap());
    drop(stdin);
    let done = program.wait_with_output().unwrap();
    assert!(done.status.success());
    let lines: Vec<Value> =
        String::from_utf8(done.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let [greeting, first, nonsense, unknown, short, cell, list, oxygen, again] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert_eq!((&greeting["kind"], &greeting["protocol"]), (&"ready".into(), &1.into()));
    assert_eq!(
        (&greeting["label"], &greeting["forces"], &greeting["cutoff"]),
        (&"energy".into(), &true.into(), &8.0.into())
    );
    let error = |answer: &Value, id: Value, words: &str| {
        assert_eq!(answer["id"], id, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
    };
    error(nonsense, Value::Null, "not JSON");
    error(unknown, 2.into(), "unknown field `charge`");
    error(short, 3.into(), "`positions`: expected 6 values, found 3");
    error(cell, 4.into(), "there is no cell");
    error(list, Value::Null, "the question");
    assert!(oxygen["id"] == serde_json::json!([5]) && oxygen["results"]["energy"].is_f64(), "{oxygen}");
    assert_eq!((first["id"].as_str(), first), (Some("a"), again));

    write("asked.extxyz", &[molecule]);
    let out = fresh("asked-out.extxyz");
    succeeds(&["predict", "--checkpoint", "run", "asked.extxyz", &out]);
    let frame = &read(&out)[0];
    assert_eq!(first["results"]["energy"], energy(frame));
    let told: Vec<f64> =
        serde_json::from_value::<Vec<[f64; 3]>>(first["results"]["forces"].clone()).unwrap().concat();
    assert_eq!(told, forces(frame));
}

#[test]
fn pipes_work_and_a_report_does_not_disturb_them() {
    write("piped.extxyz", &structures()[..4]);
    let text = std::fs::read(workshop().join("piped.extxyz")).unwrap();
    let mut program = program()
        .args(["predict", "--checkpoint", "run", "-", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(&text).unwrap();
    let done = program.wait_with_output().unwrap();
    assert_eq!(frames(&done.stdout).len(), 4);
    let report: Value = serde_json::from_slice(&done.stderr).unwrap();
    assert_eq!(
        (&report["structures"], &report["task"], &report["stopped"]),
        (&4.into(), &"set".into(), &false.into())
    );
}
