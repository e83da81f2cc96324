//! A user's own data: extxyz, ASE-LMDB, trajectories and databases against their truth.json and hand-made values.

use std::path::{Path, PathBuf};

use ingest::formats::{Format, Labels, Options};
use serde_json::Value as Json;
use shards::{FloatWidth, Structure};

use crate::{Collect, check, close, fixture, numbers, read, source, truth};

pub(crate) fn labelled(labels: Labels) -> Options {
    Options { labels, ..Options::default() }
}

pub(crate) fn file(dir: &tempfile::TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn extxyz(path: &Path, labels: Labels) -> (Collect, Vec<String>) {
    let source = source(Format::Extxyz, &[path.to_path_buf()], &labelled(labels));
    let all = read(source.as_ref());
    (all, source.warnings())
}

/// What truth.json says of a structure of ASE beside energy and forces; tags that are all 0 act as absent ones.
#[track_caller]
pub(crate) fn check_ase(got: &Structure, want: &Json) {
    check(got, want);
    let pbc: Vec<Json> = got.pbc.iter().map(|&p| p.into()).collect();
    assert_eq!(Json::from(pbc), want["pbc"], "{}", got.id);
    match got.cell {
        Some(cell) => close(&got.id, "cell", &cell, &numbers(&want["cell"]), 1e-12),
        None => assert!(want["cell"].is_null() || numbers(&want["cell"]).iter().all(|&x| x == 0.0)),
    }
    let zeros = vec![0.0; got.atoms()];
    let tags: Vec<f64> = got.tags.as_ref().map_or(zeros, |t| t.iter().map(|&t| f64::from(t)).collect());
    assert_eq!(tags, numbers(&want["tags"]), "{}", got.id);
}

#[test]
fn what_ase_wrote_as_extxyz_is_read() {
    let truth = &truth("extxyz")["ase.extxyz"];
    let source = source(Format::Extxyz, &[fixture("extxyz/ase.extxyz")], &Options::default());
    assert_eq!((source.units()[0].structures, source.layout().float), (20, FloatWidth::F64));
    let all = read(source.as_ref());
    assert_eq!((all.structures.len(), all.rejects.len()), (20, 0));
    check_ase(&all.structures[0], &truth["first"]);
    check_ase(&all.structures[19], &truth["last"]);
    assert_eq!(all.structures[19].id, "ase/19");
    // ASE wrote a constraint with every second frame.
    assert!(all.structures[0].fixed.is_none() && all.structures[1].fixed.as_ref().unwrap().contains(&true));
    assert!(source.warnings().is_empty(), "{:?}", source.warnings());
}

#[test]
fn hand_written_variants_are_read() {
    let (all, warnings) = extxyz(&fixture("extxyz/variants.extxyz"), Labels::default());
    let truth = truth("extxyz");
    let frames = truth["variants.extxyz"]["frames"].as_array().unwrap();
    assert_eq!((all.structures.len(), all.rejects.len()), (3, 0));
    for (got, want) in all.structures.iter().zip(frames) {
        let z: Vec<f64> = got.atomic_numbers.iter().map(|&z| f64::from(z)).collect();
        assert_eq!(z, numbers(&want["numbers"]));
        assert_eq!(got.positions.to_f64(), numbers(&want["positions_ang"]));
        assert_eq!(got.energy, want["energy_ev"].as_f64());
        assert_eq!(Json::from(got.pbc.map(Json::from).to_vec()), want["pbc"]);
        match got.forces.as_ref() {
            Some(forces) => assert_eq!(forces.to_f64(), numbers(&want["forces_ev_per_ang"])),
            None => assert!(want["forces_ev_per_ang"].is_null()),
        }
    }
    // Nine numbers column by column: yz is the third row's… second column.
    assert_eq!(all.structures[1].stress, Some([1.0, 5.0, 9.0, 8.0, 7.0, 4.0]));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn labels_are_taken_by_name_and_converted() {
    let dir = tempfile::tempdir().unwrap();
    let text = "2\nLattice=\"2 0 0 0 4 0 0 0 8\" Properties=species:S:1:pos:R:3:dft_grad:R:3:move_mask:L:3:tags:I:1 \
                REF_energy=-1.5 name=\"water 1\" mol=water charge=-1 spin=2 gap=0.25 \
                virial=\"1 0 0 0 2 0 0 0 3\" pbc=\"T T F\"\n\
                O 0 0 0 1 2 3 F F F 2\nH 0 1 0 -1 -2 -3 F T F 2\n";
    let path = file(&dir, "own.xyz", text.as_bytes());
    let labels = Labels {
        energy_key: Some("REF_energy".to_owned()),
        forces_key: Some("dft_grad".to_owned()),
        id_key: Some("name".to_owned()),
        group_key: Some("mol".to_owned()),
        targets: vec![("gap".to_owned(), "eV".to_owned())],
        units: "hartree,bohr".parse().unwrap(),
        ..Labels::default()
    };
    let (all, warnings) = extxyz(&path, labels);
    let (got, ha, bohr) = (&all.structures[0], 27.211_386_024_367_243, 0.529_177_210_563_841_1);
    assert_eq!((got.id.as_str(), got.group.as_str(), warnings.len()), ("water 1", "water", 0));
    assert_eq!((got.charge, got.spin, got.targets.as_slice()), (Some(-1.0), Some(2.0), &[Some(0.25)][..]));
    assert_eq!((got.energy, got.pbc), (Some(-1.5 * ha), [true, true, false]));
    assert_eq!((got.fixed.clone(), got.tags.clone()), (Some(vec![true, false]), Some(vec![2, 2])));
    close("own", "positions", &got.positions.to_f64(), &[0.0, 0.0, 0.0, 0.0, bohr, 0.0], 1e-15);
    close("own", "cell", &got.cell.unwrap()[4..5], &[4.0 * bohr], 1e-15);
    let forces: Vec<f64> = [1.0, 2.0, 3.0, -1.0, -2.0, -3.0].map(|f| f * ha / bohr).to_vec();
    close("own", "forces", &got.forces.as_ref().unwrap().to_f64(), &forces, 1e-12);
    // stress = −virial / volume.
    let volume = 64.0 * bohr.powi(3);
    close(
        "own",
        "stress",
        &got.stress.unwrap(),
        &[1.0, 2.0, 3.0, 0.0, 0.0, 0.0].map(|v: f64| -v * ha / volume),
        1e-12,
    );
}

#[test]
fn an_energy_of_another_name_is_pointed_out() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        file(&dir, "a.extxyz", b"1\nREF_energy=1 Properties=species:S:1:pos:R:3:tags:I:1\nH 0 0 0 3\n");
    let (all, _) = extxyz(&path, Labels::default());
    assert!(
        all.rejects[0].1.contains("found 3; if they mean something else, leave them out with --ignore-tags")
    );
    let (all, warnings) = extxyz(&path, Labels { ignore_tags: true, ..Labels::default() });
    assert_eq!((all.structures[0].energy, &all.structures[0].tags), (None, &None));
    assert!(warnings[0].contains("there is REF_energy: name one with --energy-key"), "{warnings:?}");
}

#[test]
fn packed_files_and_cut_files_give_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let frame =
        |i: usize| format!("1\nenergy={i} Properties=species:S:1:pos:R:3:forces:R:3\nH {i} 0 0 0 0 {i}\n");
    let text: String = (0..20_050).map(frame).collect();
    let plain = file(&dir, "many.extxyz", text.as_bytes());
    let opened = source(Format::Extxyz, &[plain], &Options::default());
    let units: Vec<(&str, u64)> = opened.units().iter().map(|u| (u.name.as_str(), u.structures)).collect();
    assert_eq!(
        units,
        [("many[0..10000]", 10_000), ("many[10000..20000]", 10_000), ("many[20000..20050]", 50)]
    );
    let all = read(opened.as_ref()).structures;
    assert_eq!(
        (all.len(), all[10_000].id.as_str(), all[20_049].energy),
        (20_050, "many/10000", Some(20_049.0))
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let packed = file(&dir, "many.xyz.gz", &gzip.finish().unwrap());
    let again = read(source(Format::Extxyz, &[packed], &Options::default()).as_ref()).structures;
    assert!(all == again);
}

#[test]
fn a_truncated_file_gives_what_is_whole_and_names_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("extxyz/ase.extxyz")).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|&b| b == b'\n').collect();
    let path = file(&dir, "cut.extxyz", &lines[..lines.len() - 2].concat());
    let (all, _) = extxyz(&path, Labels::default());
    assert_eq!(all.structures.len(), 19);
    let (id, reason) = &all.rejects[0];
    assert_eq!(id, "cut/19");
    assert!(
        reason.contains("cut.extxyz: frame 19 (line 305): the file ends after 12 of its 14 atoms"),
        "{reason}"
    );
}
