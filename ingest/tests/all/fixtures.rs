//! Every fixture of the formats read here decodes to its truth.json.

use std::collections::BTreeSet;

use ingest::formats::{EnergyKind, Format, Options};
use ingest::source::{Members, SplitPlan};
use serde_json::Value as Json;
use shards::units::ConstantSet;
use shards::{FloatWidth, Structure};

use crate::{check, close, fixture, numbers, read, source, truth};

fn strings(value: &Json) -> Vec<String> {
    value.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn by_id<'a>(structures: &'a [Structure], id: &str) -> &'a Structure {
    structures.iter().find(|s| s.id == id).unwrap_or_else(|| panic!("no {id}"))
}

fn ids(plan: &SplitPlan) -> &BTreeSet<String> {
    match &plan.members {
        Members::Ids(names) | Members::Groups(names) => names,
        Members::Units(_) => panic!("{} is made of units", plan.name),
    }
}

#[test]
fn ani1x_groups_rows_and_units() {
    let truth = truth("ani1x");
    for file in ["ani1x-release.h5", "ani1x-nan.h5"] {
        let want = &truth[file];
        for keep_small in [false, true] {
            let options = Options { keep_small, ..Options::default() };
            let source = source(Format::Ani1x, &[fixture("ani1x").join(file)], &options);
            let all = read(source.as_ref());
            let groups = strings(&want[if keep_small { "group_order" } else { "kept_groups_ge4_atoms" }]);
            let expected: Vec<String> = groups
                .iter()
                .flat_map(|g| {
                    numbers(&want["valid_rows"][g]).into_iter().map(move |row| format!("{g}/{row}"))
                })
                .collect();
            let got: Vec<String> = all.structures.iter().map(|s| s.id.clone()).collect();
            assert_eq!(got, expected, "{file}");
            let rows: f64 = groups.iter().map(|g| want["frames_per_group"][g].as_f64().unwrap()).sum();
            assert_eq!(all.rejects.len(), rows as usize - got.len(), "{file}");
            assert!(all.rejects.iter().all(|r| r.1 == "not_computed"));
            for group in &groups {
                for end in ["first", "last"] {
                    let frame = &want["groups"][group][end];
                    check(by_id(&all.structures, &format!("{group}/{}", frame["row"])), frame);
                }
            }
        }
    }
}

#[test]
fn ani1x_levels_without_forces() {
    let options = Options { level: "ccsd(t)_cbs".to_owned(), ..Options::default() };
    let source = source(Format::Ani1x, &[fixture("ani1x/ani1x-release.h5")], &options);
    let all = read(source.as_ref());
    assert_eq!(source.header().level_of_theory, "ccsd(t)_cbs");
    assert!(!all.rejects.is_empty(), "the fixture's sparse level has NaN");
    assert_eq!(all.structures.len() + all.rejects.len(), 38);
    assert!(all.structures.iter().all(|s| s.forces.is_none() && s.energy.is_some()));
}

#[test]
fn ani1x_splits_hold_whole_formulas_and_follow_the_seed() {
    let plans = |seed| {
        let options = Options { seed, ..Options::default() };
        source(Format::Ani1x, &[fixture("ani1x/ani1x-release.h5")], &options).splits().to_vec()
    };
    let splits = plans(42);
    let names: Vec<&str> = splits.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["test", "val", "train"]);
    let all: Vec<&String> = splits.iter().flat_map(ids).collect();
    assert_eq!(all.len(), 5);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 5, "a formula in two splits");
    // A tenth of 46 rows is 4, which any single formula here reaches.
    assert!(splits[..2].iter().all(|s| ids(s).len() == 1));
    assert_eq!(plans(42), splits);
    assert!((0..9).any(|seed| ids(&plans(seed)[0]) != ids(&splits[0])));
}

#[test]
fn transition1x_follows_hard_and_soft_links() {
    let truth = truth("transition1x");
    let source =
        source(Format::Transition1x, &[fixture("transition1x/transition1x.h5")], &Options::default());
    assert!(source.warnings().is_empty());
    assert_eq!(source.layout().float, FloatWidth::F64);
    let all = read(source.as_ref());
    let splits = source.splits();
    for split in ["train", "val", "test"] {
        let plan = splits.iter().find(|s| s.name == split).unwrap();
        let rows = all.structures.iter().filter(|s| ids(plan).contains(&s.group)).count();
        assert_eq!(rows as u64, truth["counts"][split].as_u64().unwrap(), "{split}");
    }
    for (name, want) in truth["reactions"].as_object().unwrap() {
        let reaction = name.replace('/', "_");
        let frames: Vec<&Structure> = all.structures.iter().filter(|s| s.group == reaction).collect();
        assert_eq!(frames.len() as u64, want["frames"].as_u64().unwrap(), "{name}");
        check(frames[0], &want["first"]);
        let plan = splits.iter().find(|s| want["split"] == s.name.as_str()).unwrap();
        assert!(ids(plan).contains(&reaction), "{name}");
        if let Some(last) = want.get("last") {
            check(frames[frames.len() - 1], last);
        }
    }
}

#[test]
fn transition1x_has_end_points_when_asked() {
    let truth = truth("transition1x");
    let options = Options { end_points: true, ..Options::default() };
    let source = source(Format::Transition1x, &[fixture("transition1x/transition1x.h5")], &options);
    let all = read(source.as_ref());
    for (name, want) in truth["reactions"].as_object().unwrap() {
        let reaction = name.replace('/', "_");
        let frames = all.structures.iter().filter(|s| s.group == reaction).count() as u64;
        let ends = want["ends"].as_object().unwrap();
        assert_eq!(frames, want["frames"].as_u64().unwrap() + ends.len() as u64, "{name}");
        for (end, want) in ends {
            let id = format!("{reaction}/{end}");
            check(all.structures.iter().find(|s| s.id == id).unwrap(), want);
        }
    }
}

/// What truth.json says of slabs beside energy and forces.
#[track_caller]
pub(crate) fn check_slab(got: &Structure, want: &Json) {
    check(got, want);
    close(&got.id, "cell", &got.cell.unwrap(), &numbers(&want["cell"]), 1e-6);
    assert_eq!(got.pbc, [true; 3]);
    let tags: Vec<f64> = got.tags.as_ref().unwrap().iter().map(|&t| f64::from(t)).collect();
    assert_eq!(tags, numbers(&want["tags"]), "{}", got.id);
    let fixed: Vec<Json> = got.fixed.as_ref().unwrap().iter().map(|&f| Json::from(f)).collect();
    assert_eq!(Json::from(fixed), want["fixed"], "{}", got.id);
}

/// The total of OC20's energies: the LMDB fixtures hold referenced ones.
pub(crate) fn with_energy(frame: &Json, key: &str) -> Json {
    let mut frame = frame.clone();
    frame["energy_ev"] = frame[key].clone();
    frame
}

#[test]
fn oc20_of_three_generations() {
    let truth = truth("oc20");
    for (dir, energy) in
        [("s2ef_pyg1", "referenced_energy_ev"), ("s2ef_pyg2", ""), ("s2ef_fairchem", "referenced_energy_ev")]
    {
        let options = Options { energy: EnergyKind::Referenced, ..Options::default() };
        let source = source(Format::Oc20, &[fixture("oc20").join(dir)], &options);
        let all = read(source.as_ref());
        assert_eq!((all.structures.len(), all.rejects.len()), (24, 0), "{dir}");
        assert_eq!(source.header().choices["energy"], "referenced");
        for end in ["first", "last"] {
            let mut frame = truth[end].clone();
            let id = format!("random{}/frame{}", frame["sid"], frame["fid"]);
            let got = by_id(&all.structures, &id);
            assert_eq!(got.group, format!("random{}", frame["sid"]));
            let stored = got.energy.unwrap();
            let key = if energy.is_empty() {
                let total = frame["energy_ev"].as_f64().unwrap();
                if (stored - total).abs() < 1.0 { "energy_ev" } else { "referenced_energy_ev" }
            } else {
                energy
            };
            frame = with_energy(&frame, key);
            if dir == "s2ef_fairchem" {
                if end == "last" {
                    continue; // Its positions are wrapped into the cell; truth.json has those of the first frame.
                }
                frame["positions_ang"] = truth["fairchem_first_wrapped_positions"].clone();
            }
            check_slab(got, &frame);
        }
        for entry in truth["all_sid_fid_energy_ref"].as_array().unwrap() {
            let values = numbers(entry);
            let got =
                by_id(&all.structures, &format!("random{}/frame{}", values[0], values[1])).energy.unwrap();
            let (total, referenced) = (values[2], values[2] - values[3]);
            assert!((got - total).abs() < 1e-9 || (got - referenced).abs() < 1e-9, "{dir}: {got}");
        }
    }
}

#[test]
fn oc20_energies_of_the_wrong_kind_are_told() {
    let warnings = |energy| {
        let options = Options { energy, ..Options::default() };
        let source = source(Format::Oc20, &[fixture("oc20/s2ef_pyg2")], &options);
        read(source.as_ref());
        source.warnings()
    };
    // The fixture's values are all some hundred eV below zero.
    assert_eq!(warnings(EnergyKind::Total), [""; 0]);
    let told = warnings(EnergyKind::Referenced);
    assert!(told.len() == 1 && told[0].contains("look like total energies"), "{told:?}");
}

#[test]
fn oc22_splits_by_directory_and_keeps_unlabelled_tests() {
    let truth = truth("oc22");
    let source = source(Format::Oc22, &[fixture("oc22/s2ef-total")], &Options::default());
    let all = read(source.as_ref());
    let splits = source.splits();
    let names: Vec<&str> = splits.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["test_id", "train", "val_id"]);
    let id = |frame: &Json| format!("oc22-{}/frame{}", frame["sid"], frame["fid"]);
    for key in ["train_first", "train_last", "val_first"] {
        check_slab(by_id(&all.structures, &id(&truth[key])), &truth[key]);
    }
    for (split, name) in [(0, "test_id"), (1, "train"), (2, "val_id")] {
        let Members::Units(units) = &splits[split].members else { panic!("{name} is not made of units") };
        let rows: u64 = units.iter().map(|&u| source.units()[u as usize].structures).sum();
        assert_eq!(rows, truth["counts"][name].as_u64().unwrap());
    }
    let energies: Vec<f64> =
        all.structures.iter().filter(|s| s.id.len() < 20).filter_map(|s| s.energy).collect();
    assert_eq!(energies.len(), 32);
    let train = numbers(&truth["all_train_energy_ev"]);
    // Units come in the order test_id, train, val_id.
    assert_eq!(energies[..24], train[..]);
    assert!(all.structures[..4].iter().all(|s| s.energy.is_none() && s.forces.is_none()));
}

#[test]
fn rmd17_published_lists_and_jmps_split() {
    let truth = truth("rmd17");
    for molecule in ["ethanol", "salicylic"] {
        let path = fixture("rmd17/rmd17/npz_data").join(format!("rmd17_{molecule}.npz"));
        let options = Options { train_total: Some(20), ..Options::default() };
        let source = source(Format::Rmd17, &[path], &options);
        assert_eq!(source.header().name, format!("rmd17-{molecule}"));
        let all = read(source.as_ref());
        let want = &truth["molecules"][molecule];
        assert_eq!(all.structures.len() as u64, want["frames"].as_u64().unwrap());
        check(&all.structures[0], &want["first"]);
        check(&all.structures[49], &want["last"]);
        let rows = |plan: &SplitPlan| -> BTreeSet<usize> {
            (0..50).filter(|&row| ids(plan).contains(&all.structures[row].id)).collect()
        };
        let expected =
            |list: &Json| -> BTreeSet<usize> { numbers(list).into_iter().map(|x| x as usize).collect() };
        let splits = source.splits();
        let find =
            |name: &str| splits.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no split {name}"));
        for (name, list) in truth["published_splits"].as_object().unwrap() {
            assert_eq!(rows(find(name)), expected(list), "{name}");
        }
        for name in ["train", "val", "test"] {
            assert_eq!(rows(find(name)), expected(&truth["jmp_style_split_scaled_down"][name]), "{name}");
        }
    }
}

#[test]
fn rmd17_constants_are_a_choice() {
    let path = fixture("rmd17/rmd17/npz_data/rmd17_ethanol.npz");
    let energy = |constants| {
        let options = Options { constants, ..Options::default() };
        read(source(Format::Rmd17, std::slice::from_ref(&path), &options).as_ref()).structures[0]
            .energy
            .unwrap()
    };
    let ratio = energy(ConstantSet::Jmp) / energy(ConstantSet::Ase2014);
    let expected = 0.043_363_253_978_578_556 / 0.043_364_103_900_593_22;
    assert!((ratio - expected).abs() < 1e-14, "{ratio}");
}
