//! OC20 in all the forms in which it is distributed: archives, folders, LMDBs, references, several sets together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ingest::formats::{EnergyKind, Format, Options, RelaxationFrames, open};
use ingest::input::Input;
use ingest::source::{Members, Source};
use shards::{FloatWidth, Structure};

use crate::fixtures::{by_id, check_slab, with_energy};
use crate::{Collect, close, fixture, numbers, read, source, truth};

const ARCHIVE: &str = "oc20/s2ef_train_fixture.tar";
const FOLDER: &str = "oc20/s2ef_train_fixture_uncompressed";

fn referenced() -> Options {
    Options { energy: EnergyKind::Referenced, ..Options::default() }
}

/// Copies a fixture's folder so that files in it can be changed.
fn copy(dir: &Path, names: &[&str]) -> PathBuf {
    for name in names {
        std::fs::copy(fixture(FOLDER).join(name), dir.join(name)).unwrap();
    }
    dir.to_path_buf()
}

#[test]
fn archive_and_folder_hold_the_same_frames() {
    let truth = truth("oc20");
    for path in [ARCHIVE, FOLDER] {
        let source = source(Format::Oc20, &[fixture(path)], &Options::default());
        let units: Vec<(&str, u64)> =
            source.units().iter().map(|u| (u.name.as_str(), u.structures)).collect();
        assert_eq!(units.iter().map(|u| u.0).collect::<Vec<_>>(), ["0", "1"]);
        assert_eq!((units[0].1, source.layout().float), (12, FloatWidth::F64));
        assert_eq!(source.splits().iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["train"]);
        let all = read(source.as_ref());
        assert_eq!((all.structures.len(), all.rejects.len()), (24, 0), "{path}: {:?}", all.rejects);
        for (end, row) in [("first", 0), ("last", 23)] {
            check_slab(&all.structures[row], &truth[end]);
        }
        for (got, entry) in all.structures.iter().zip(truth["all_sid_fid_energy_ref"].as_array().unwrap()) {
            let want = numbers(entry);
            assert_eq!(got.id, format!("random{}/frame{}", want[0], want[1]));
            assert_eq!((&got.group, got.energy), (&format!("random{}", want[0]), Some(want[2])));
        }
        assert!(source.warnings().is_empty(), "{:?}", source.warnings());
    }
}

#[test]
fn referenced_energies_come_from_the_third_column() {
    let truth = truth("oc20");
    let opened = source(Format::Oc20, &[fixture(ARCHIVE)], &referenced());
    assert_eq!(opened.header().choices["energy"], "referenced");
    let all = read(opened.as_ref()).structures;
    check_slab(&all[0], &with_energy(&truth["first"], "referenced_energy_ev"));
}

#[test]
fn a_reference_file_makes_totals_of_lmdbs() {
    let truth = truth("oc20");
    for name in ["oc20_ref.pkl", "oc20_ref_np.pkl"] {
        let options = Options { oc20_ref: Some(fixture("oc20").join(name)), ..referenced() };
        let opened = source(Format::Oc20, &[fixture("oc20/s2ef_pyg1")], &options);
        assert!(opened.header().choices["energy"].starts_with("total"));
        assert!(opened.units()[0].files[1].ends_with(name));
        let all = read(opened.as_ref()).structures;
        for end in ["first", "last"] {
            let id = format!("random{}/frame{}", truth[end]["sid"], truth[end]["fid"]);
            check_slab(by_id(&all, &id), &truth[end]);
        }
        // Raw sets beside them hold totals already.
        let raw = read(source(Format::Oc20, &[fixture(FOLDER)], &options).as_ref()).structures;
        check_slab(&raw[0], &truth["first"]);
    }
    let options = Options {
        energy: EnergyKind::Total,
        oc20_ref: Some(fixture("oc20/oc20_ref.pkl")),
        ..Options::default()
    };
    let inputs = [Input { split: None, path: fixture("oc20/s2ef_pyg1") }];
    let error = open(Format::Oc20, &inputs, &options).err().unwrap().to_string();
    assert!(error.contains("give --energy referenced"), "{error}");
    let options = Options { oc20_ref: Some(fixture("pickle/bad_os_system.pkl")), ..referenced() };
    let error = open(Format::Oc20, &inputs, &options).err().unwrap().to_string();
    assert!(error.contains("nothing was executed"), "{error}");
}

#[test]
fn both_ends_of_a_relaxation() {
    let truth = &truth("oc20")["is2re"];
    let ids = |frames| {
        let options = Options { relaxation: frames, ..referenced() };
        let opened = source(Format::Oc20, &[fixture("oc20/is2re")], &options);
        assert_eq!(opened.layout().targets[0].name, "energy_relaxed");
        read(opened.as_ref()).structures
    };
    let want = |key: &str| truth["first"][key].as_f64().unwrap();
    let initial = ids(RelaxationFrames::Initial);
    assert_eq!(
        (initial.len() as u64, initial[0].id.as_str()),
        (truth["count"].as_u64().unwrap(), "random2000000/initial")
    );
    assert_eq!((initial[0].energy, initial[0].targets[0]), (Some(want("y_init")), Some(want("y_relaxed"))));
    assert!(initial[0].forces.is_some());
    let both = ids(RelaxationFrames::Both);
    assert_eq!((both.len(), &both[0], both[1].id.as_str()), (24, &initial[0], "random2000000/relaxed"));
    let relaxed = ids(RelaxationFrames::Relaxed);
    assert_eq!((relaxed.len(), &relaxed[0]), (12, &both[1]));
    assert_eq!((relaxed[0].energy, relaxed[0].forces.is_none()), (Some(want("y_relaxed")), true));
    close(
        "relaxed",
        "positions",
        &relaxed[0].positions.to_f64(),
        &numbers(&truth["first"]["pos_relaxed"]),
        1e-6,
    );
}

fn rows_of<'a>(source: &dyn Source, all: &'a [Vec<Structure>], split: &str) -> Vec<&'a Structure> {
    let plan = source.splits().iter().find(|s| s.name == split).unwrap();
    let Members::Units(units) = &plan.members else { panic!("{split} is not made of units") };
    units.iter().flat_map(|&u| &all[u as usize]).collect()
}

#[test]
fn several_sets_are_one_dataset() {
    let inputs =
        [("train", "oc20/s2ef_pyg2"), ("rattled", FOLDER), ("md", ARCHIVE), ("val_id", "oc20/s2ef_pyg1")]
            .map(|(split, path)| Input { split: Some(split.to_owned()), path: fixture(path) });
    let opened = open(Format::Oc20, &inputs, &Options::default()).unwrap();
    // Totals from text need 64 bits, the LMDBs' 32 are widened.
    assert_eq!(opened.layout().float, FloatWidth::F64);
    let names: BTreeSet<&str> = opened.units().iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names.len(), opened.units().len(), "{names:?}");
    let all: Vec<Vec<Structure>> = (0..opened.units().len())
        .map(|unit| {
            let mut collect = Collect::default();
            opened.read(unit, &mut collect).unwrap();
            collect.structures
        })
        .collect();
    for (split, prefix) in
        [("train", "random"), ("rattled", "rattled/random"), ("md", "md/random"), ("val_id", "random")]
    {
        let rows = rows_of(opened.as_ref(), &all, split);
        assert_eq!(rows.len(), 24, "{split}");
        assert!(rows.iter().all(|s| s.id.starts_with(prefix) && s.group.starts_with("random")), "{split}");
    }
    // Where the LMDB's energies are referenced, the user is told.
    assert!(opened.warnings().len() <= 1, "{:?}", opened.warnings());
}

#[test]
fn numbers_order_the_files() {
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [("0", "10"), ("1", "9")] {
        for end in ["extxyz", "txt"] {
            std::fs::copy(
                fixture(FOLDER).join(format!("{from}.{end}")),
                dir.path().join(format!("{to}.{end}")),
            )
            .unwrap();
        }
    }
    let opened = source(Format::Oc20, &[dir.path().to_path_buf()], &Options::default());
    assert_eq!(opened.units().iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["9", "10"]);
    // One file by itself finds its text.
    let one = source(Format::Oc20, &[dir.path().join("9.extxyz")], &Options::default());
    assert_eq!(read(one.as_ref()).structures.len(), 12);
}

#[test]
fn truncated_and_mismatched_pairs_are_told() {
    let truncate = |name: &str, lines: usize| {
        let dir = tempfile::tempdir().unwrap();
        let path = copy(dir.path(), &["0.extxyz", "0.txt"]);
        let whole = std::fs::read_to_string(path.join(name)).unwrap();
        let kept: String = whole.split_inclusive('\n').take(lines).collect();
        std::fs::write(path.join(name), kept).unwrap();
        let opened = source(Format::Oc20, &[path], &Options::default());
        read(opened.as_ref())
    };
    let frame = 2 + 14;
    let within = truncate("0.extxyz", 10 * frame + 5);
    let reasons: Vec<&str> = within.rejects.iter().map(|r| r.1.as_str()).collect();
    assert_eq!(within.structures.len(), 10);
    assert!(reasons[0].contains("frame 10 (line 161): the file ends after 3 of its 14 atoms"), "{reasons:?}");
    assert!(reasons[1].contains("names 12 frames"), "{reasons:?}");
    let between = truncate("0.extxyz", 10 * frame);
    assert_eq!((between.structures.len(), between.rejects.len()), (10, 1));
    assert!(
        between.rejects[0].1.contains("names 12 frames, but 10 are there: the file of frames is truncated")
    );
    let text = truncate("0.txt", 7);
    assert_eq!((text.structures.len(), text.rejects.len()), (7, 5));
    assert!(text.rejects[0].1.contains("the text beside it names only 7 frames"), "{:?}", text.rejects[0]);
}

#[test]
fn a_set_without_its_texts_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(dir.path(), &["0.extxyz"]);
    let error =
        open(Format::Oc20, &[Input { split: None, path }], &Options::default()).err().unwrap().to_string();
    assert!(error.contains("no 0.txt or 0.txt.xz beside it"), "{error}");
    let path = copy(dir.path(), &["0.extxyz", "0.txt"]);
    std::fs::write(path.join("0.txt"), "not,a\nline\n").unwrap();
    let all = read(source(Format::Oc20, std::slice::from_ref(&path), &Options::default()).as_ref());
    assert_eq!(all.structures[0].id, "not/a");
    assert!(
        all.rejects[0].1.contains("line 2 of the text: expected random<sid>,frame<fid>"),
        "{:?}",
        all.rejects[0]
    );
    std::fs::copy(path.join("0.extxyz"), path.join("0.extxyz.xz")).unwrap();
    let error =
        open(Format::Oc20, &[Input { split: None, path }], &Options::default()).err().unwrap().to_string();
    assert!(error.contains("is there twice"), "{error}");
}

#[test]
fn oc22_keeps_the_number_of_adsorbates() {
    let opened = source(Format::Oc22, &[fixture("oc22/s2ef-total/train")], &Options::default());
    assert_eq!(opened.layout().targets[0].name, "nads");
    let all = read(opened.as_ref()).structures;
    let truth = truth("oc22");
    assert_eq!(all[0].targets[0], truth["train_first"]["nads"].as_f64());
    assert_eq!(all[23].targets[0], truth["train_last"]["nads"].as_f64());
    assert!(all.iter().any(|s| s.targets[0] == Some(0.0)), "a clean slab");
}
