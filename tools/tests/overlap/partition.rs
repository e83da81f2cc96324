//! Table 16's partition: overlapping and other structures of a test set, by composition.

use std::collections::BTreeMap;

use shards::Structure;

use crate::made_up::{molecule, write};
use crate::{mask, numbers, table};

/// A chain of the given atoms, stretched by `stretch`.
fn chain(id: &str, numbers: &[u8], stretch: f64) -> Structure {
    let positions: Vec<[f64; 3]> =
        (0..numbers.len()).map(|k| [stretch * k as f64, 0.1 * (k % 2) as f64, 0.0]).collect();
    molecule(id, numbers, &positions)
}

/// `count` chains of H, C, O whose compositions follow a fixed rule.
fn chains(prefix: &str, count: usize, rule: impl Fn(usize) -> [usize; 3]) -> Vec<Structure> {
    (0..count)
        .map(|i| {
            let [h, c, o] = rule(i);
            let mut numbers = [vec![1; h], vec![6; c], vec![8; o]].concat();
            let turn = i % numbers.len();
            numbers.rotate_left(turn);
            chain(&format!("{prefix}{i}"), &numbers, 1.0 + 0.01 * i as f64)
        })
        .collect()
}

fn composition(s: &Structure) -> Vec<u8> {
    let mut sorted = s.atomic_numbers.clone();
    sorted.sort_unstable();
    sorted
}

#[test]
fn the_known_partition_is_found() {
    let home = tempfile::tempdir().unwrap();
    let water = [8, 1, 1];
    let reference = [chain("w0", &water, 1.0), chain("w1", &[1, 1, 8], 1.3), chain("co", &[6, 8], 1.1)];
    let fine = [
        chain("train0", &[6, 1, 1, 1, 1], 1.0),
        chain("train1", &[1, 8, 1], 1.1),
        chain("test0", &[8, 6], 1.2),
        chain("test1", &[8, 8], 1.2),
        chain("test2", &[1, 1, 8], 1.2),
        // Twice water is another composition, but the same reduced formula.
        chain("test3", &[1, 1, 8, 8, 1, 1], 1.2),
    ];
    write(&home.path().join("big"), &reference, &[("train", 0..3)]);
    write(&home.path().join("small"), &fine, &[("train", 0..2), ("test", 2..6)]);
    let json =
        numbers(home.path(), &["--pretrain", "big", "--finetune", "small", "--by", "composition,formula"]);
    let mask_of =
        |by: &str, split: &str| mask(home.path(), &format!("pretrain-finetune-{by}-small-{split}.parquet"));
    let flags = |ids: &[(&str, bool)]| ids.iter().map(|&(id, f)| (id.to_string(), f)).collect::<Vec<_>>();
    assert_eq!(mask_of("composition", "train"), flags(&[("train0", false), ("train1", true)]));
    let test = [("test0", true), ("test1", false), ("test2", true), ("test3", false)];
    assert_eq!(mask_of("composition", "test"), flags(&test));
    let reduced = [("test0", true), ("test1", false), ("test2", true), ("test3", true)];
    assert_eq!(mask_of("formula", "test"), flags(&reduced));
    // Sets come in the order of their names: test, then train.
    let test = &json["comparisons"][0]["checked"][0];
    assert_eq!(
        (&test["set"]["name"], &test["overlapping"], &test["distinct"]),
        (&"small test".into(), &2.into(), &4.into())
    );
    let against = &test["against"][0];
    assert_eq!((&against["reference"], &against["reference_structures"]), (&"big train".into(), &3.into()));
    assert_eq!((against["share"].as_f64(), &against["distinct"]), (Some(0.5), &2.into()));
    let list = table(home.path(), "lists/pretrain-finetune-composition-small-test.parquet");
    let text = |name: &str| -> Vec<String> {
        list.column(name).unwrap().str().unwrap().iter().map(|t| t.unwrap().to_string()).collect()
    };
    assert_eq!(
        (text("id"), text("first_id")),
        (vec!["test0".to_string(), "test2".into()], vec!["co".into(), "w0".into()])
    );
    assert_eq!(text("formula"), ["CO", "H2O"]);
    let counts: Vec<u64> = list.column("structures").unwrap().u64().unwrap().iter().flatten().collect();
    assert_eq!(counts, [1, 2]);
}

#[test]
fn many_compositions_are_compared_as_by_a_map() {
    let home = tempfile::tempdir().unwrap();
    let first = chains("a", 300, |i| [i % 7 + 1, i % 11, i % 3]);
    let second = chains("b", 200, |i| [i % 5, i % 4 + 1, i % 6]);
    let fine = chains("f", 250, |i| [i % 9, i % 8, i % 4 + 1]);
    write(&home.path().join("first"), &first, &[("train", 0..250), ("val", 250..300)]);
    write(&home.path().join("second"), &second, &[("all", 0..200)]);
    write(&home.path().join("fine"), &fine, &[("test", 50..250)]);
    let json = numbers(home.path(), &["--pretrain", "first", "second", "--finetune", "test=fine"]);
    let count = |rows: &[Structure]| {
        let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        rows.iter().for_each(|s| *counts.entry(composition(s)).or_default() += 1);
        counts
    };
    let (checked, references) = (&fine[50..], [count(&first[..250]), count(&second)]);
    let tested = count(checked);
    let of_fine = &json["comparisons"][0]["checked"][0];
    for (k, reference) in references.iter().enumerate() {
        let against = &of_fine["against"][k];
        let expected = checked.iter().filter(|s| reference.contains_key(&composition(s))).count();
        assert_eq!(against["overlapping"], expected);
        assert_eq!(against["distinct"], tested.keys().filter(|c| reference.contains_key(*c)).count());
        let like: u64 = reference.iter().filter(|(c, _)| tested.contains_key(*c)).map(|(_, n)| n).sum();
        assert_eq!(against["reference_structures"], like);
        assert!(expected > 20 && expected < 180, "a case that could not fail: {expected}");
    }
    assert_eq!(of_fine["distinct"], tested.len());
    let any = |s: &Structure| references.iter().any(|r| r.contains_key(&composition(s)));
    let expected: Vec<(String, bool)> = checked.iter().map(|s| (s.id.clone(), any(s))).collect();
    assert_eq!(mask(home.path(), "pretrain-finetune-composition-fine-test.parquet"), expected);
}

#[test]
fn held_out_sets_are_compared_with_training_sets_of_the_same_dataset() {
    let home = tempfile::tempdir().unwrap();
    let rows = [
        chain("a", &[1, 1, 8], 1.0),
        chain("b", &[6, 8], 1.0),
        chain("c", &[6, 8], 1.4),
        chain("d", &[6, 6], 1.0),
    ];
    write(&home.path().join("d"), &rows, &[("all", 0..4), ("train", 0..2), ("test", 2..4)]);
    let json = numbers(home.path(), &["--within", "d"]);
    let comparison = &json["comparisons"][0];
    assert_eq!((&comparison["kind"], comparison["checked"].as_array().unwrap().len()), (&"within".into(), 1));
    let mask = mask(home.path(), "within-composition-d-test.parquet");
    assert_eq!(mask, [("c".to_string(), true), ("d".into(), false)]);
}

#[test]
fn page_json_and_csv_say_the_same() {
    let home = tempfile::tempdir().unwrap();
    let rows = chains("x", 40, |i| [i % 5 + 1, i % 3, 1]);
    write(&home.path().join("d"), &rows, &[("train", 0..20), ("test", 20..40)]);
    let json = numbers(home.path(), &["--within", "d", "--by", "composition,exact"]);
    let overlapping = &json["comparisons"][0]["checked"][0]["overlapping"];
    let read = |name: &str| std::fs::read_to_string(home.path().join("out").join(name)).unwrap();
    let line = format!("overlapping,{overlapping},");
    assert!(read("overlap.csv").lines().any(|l| l.ends_with(&line)), "{line}");
    let page = read("overlap.html");
    assert!(page.contains(&format!("data-value=\"{overlapping}\"")) && !page.contains("http"));
    assert_eq!(json["comparisons"][1]["checked"][0]["overlapping"], 0);
}
