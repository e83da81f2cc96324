//! `jmp-train embed`: the averages of eq. 3, by hand; samples; vectors of elements.

use std::collections::BTreeMap;
use std::fs::File;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, UInt8Type, UInt32Type, UInt64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use shards::element::hill_formula;
use shards::graph::{Geometry, GraphBatch, GraphSpec, StructureGraph};
use tch::{Device, Kind, Tensor};
use trainer::batch::Batch;
use trainer::inference::{Model, ModelOptions};

use crate::{fresh, refused, structures, succeeds, workshop};

fn read(name: &str) -> RecordBatch {
    let file = File::open(workshop().join(name)).unwrap();
    let mut reader =
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_batch_size(1000).build().unwrap();
    reader.next().unwrap().unwrap()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    batch[column].as_string::<i32>().iter().map(|t| t.unwrap().to_owned()).collect()
}

fn vector(batch: &RecordBatch, column: &str, row: usize) -> Vec<f32> {
    batch[column].as_fixed_size_list().value(row).as_primitive::<Float32Type>().values().to_vec()
}

/// Node and edge embeddings of one structure after the last block, averaged by torch itself.
fn by_hand(model: &Model, structure: &shards::Structure) -> (Vec<f32>, Vec<f32>, usize) {
    let positions: Vec<[f64; 3]> = structure.positions.to_f64().as_chunks::<3>().0.to_vec();
    let geometry = Geometry { positions: &positions, cell: None, pbc: [false; 3], tags: None };
    let graph = StructureGraph::build(&geometry, &GraphSpec::new(8.0, 30)).unwrap();
    let numbers: Vec<i64> = structure.atomic_numbers.iter().map(|z| i64::from(*z)).collect();
    let batch = Batch::unlabelled(
        &positions,
        &numbers,
        &[0],
        &GraphBatch::collate(&[&graph]),
        (model.network.store().kind(), Device::Cpu),
    );
    let (h, m) = model.network.last_embeddings(&batch);
    assert_eq!((h.size()[0], m.size()[0]), (numbers.len() as i64, graph.main.len() as i64));
    let mean = |t: &Tensor| {
        let mean = t.mean_dim(0, false, Kind::Double).to_kind(Kind::Float);
        Vec::<f32>::try_from(mean).unwrap()
    };
    (mean(&h), mean(&m), graph.main.len())
}

fn close(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()))
}

#[test]
fn rows_hold_the_averages_of_their_structures() {
    let name = fresh("all.parquet");
    let told = succeeds(&["embed", "--checkpoint", "run", "set", "--output", &name, "--batch-size", "7"]);
    assert!(told.contains("embeddings of 40 structures"), "{told}");
    let table = read(&name);
    let structures = structures();
    assert_eq!(table.num_rows(), structures.len());
    let options = ModelOptions { device: "cpu".into(), threads: Some(1), ..ModelOptions::default() };
    let model = Model::open(&workshop().join("run"), &options).unwrap();
    let natoms = table["natoms"].as_primitive::<UInt32Type>();
    let nedges = table["nedges"].as_primitive::<UInt32Type>();
    assert_eq!(texts(&table, "dataset"), vec!["made-up"; 40]);
    for (row, structure) in structures.iter().enumerate() {
        let (node, edge, edges) = by_hand(&model, structure);
        assert!(close(&vector(&table, "node", row), &node), "node of row {row}");
        assert!(close(&vector(&table, "edge", row), &edge), "edge of row {row}");
        assert_eq!((natoms.value(row) as usize, nedges.value(row) as usize), (structure.atoms(), edges));
        assert_eq!(texts(&table, "id")[row], structure.id);
        assert_eq!(texts(&table, "formula")[row], hill_formula(&structure.atomic_numbers));
    }
    assert!(!close(&vector(&table, "node", 0), &vector(&table, "node", 1)));
}

#[test]
fn samples_are_rows_of_the_whole_and_datasets_have_names() {
    let (all, some) = (fresh("whole.parquet"), fresh("some.parquet"));
    succeeds(&["embed", "--checkpoint", "joint", "set", "--output", &all, "--split", "all", "--quiet"]);
    let arguments = ["embed", "--checkpoint", "joint", "one=set", "two=set", "--sample", "9", "--seed", "5"];
    succeeds(&[&arguments[..], &["--output", &some]].concat());
    let (whole, table) = (read(&all), read(&some));
    assert_eq!(texts(&table, "dataset"), [["one"; 9], ["two"; 9]].concat());
    let rows = table["row"].as_primitive::<UInt64Type>().values().to_vec();
    assert!(rows[..9].is_sorted_by(|a, b| a < b) && rows[..9] == rows[9..] && rows[8] < 40);
    for (place, row) in rows.iter().enumerate() {
        assert!(close(&vector(&table, "node", place), &vector(&whole, "node", *row as usize)));
        assert_eq!(texts(&table, "id")[place], texts(&whole, "id")[*row as usize]);
    }
    refused(&[&arguments[..], &["--output", &some]].concat(), &["some.parquet exists"]);
    refused(
        &["embed", "--checkpoint", "run", "set", "--split", "none", "--output", "x.parquet"],
        &["none", "all"],
    );
    refused(&["embed", "--checkpoint", "run", "nowhere", "--output", "x.parquet"], &["nowhere"]);
}

#[test]
fn elements_have_their_vectors() {
    let (all, atoms) = (fresh("with-atoms.parquet"), fresh("atoms.parquet"));
    succeeds(&["embed", "--checkpoint", "run", "set", "--output", &all, "--atoms", &atoms, "--sample", "1"]);
    let table = read(&atoms);
    let numbers = table["atomic_number"].as_primitive::<UInt8Type>().values().to_vec();
    assert_eq!(numbers, (1..=118).collect::<Vec<u8>>());
    let symbols = texts(&table, "symbol");
    assert_eq!((symbols[5].as_str(), symbols[78].as_str()), ("C", "Au"));
    let trained = table["trained"].as_boolean();
    let seen: Vec<u8> = numbers.into_iter().filter(|z| trained.value(usize::from(*z) - 1)).collect();
    assert_eq!(seen, [1, 6, 8]);
    let weights: BTreeMap<String, Tensor> = trainer::checkpoint::State::read_weights(
        &trainer::checkpoint::locate(&workshop().join("run"), true).unwrap(),
    )
    .unwrap()
    .into_best_weights();
    let rows = weights["embedding.weight"].to_kind(Kind::Float);
    for z in [1_i64, 6, 79, 118] {
        let want = Vec::<f32>::try_from(rows.get(z - 1)).unwrap();
        assert_eq!(vector(&table, "embedding", z as usize - 1), want);
    }
}
