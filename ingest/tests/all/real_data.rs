//! The real samples, with the figures that their provenance gives. They are not in the repository: the tests run when the
//! variable JMP_REAL_DATA names their folder.

use std::path::PathBuf;

use ingest::formats::{Format, Options};
use shards::{FloatWidth, Structure};

use crate::command_line::{ok, run, text};
use crate::{read, source};

/// The folder of the samples; `None`, said aloud, when there is none.
pub(crate) fn samples() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "the one variable that tells tests where the samples lie")]
    let dir = std::env::var("JMP_REAL_DATA").ok();
    if dir.is_none() {
        eprintln!("skipped: JMP_REAL_DATA is not set");
    }
    dir.map(PathBuf::from)
}

pub(crate) fn net_force(structure: &Structure) -> f64 {
    let forces = structure.forces.as_ref().unwrap().to_f64();
    (0..3).map(|k| forces.iter().skip(k).step_by(3).sum::<f64>().abs()).fold(0.0, f64::max)
}

/// E − Σ of isolated atoms' energies, eV.
fn binding(structure: &Structure, atoms: &[(u8, f64)]) -> f64 {
    let atom = |z: &u8| atoms.iter().find(|a| a.0 == *z).unwrap().1;
    structure.energy.unwrap() - structure.atomic_numbers.iter().map(atom).sum::<f64>()
}

/// wB97x/6-31G(d) energies of isolated atoms that Transition-1x gives, eV; ANI-1x has the same level of theory.
const ATOMS: [(u8, f64); 4] = [
    (1, -13.622_227_537_015_04),
    (6, -1_029.413_083_965_832_8),
    (7, -1_484.871_035_809_875_6),
    (8, -2_041.839_627_713_804_5),
];

#[test]
fn ani1x_release_layout() {
    let Some(dir) = samples() else { return };
    let source = source(Format::Ani1x, &[dir.join("ani1x/ani1_n5.hdf5")], &Options::default());
    let all = read(source.as_ref()).structures;
    assert_eq!((all.len(), source.layout().float), (8, FloatWidth::F32));
    let first = all[0].energy.unwrap();
    assert!((first - -559.967_326_65 * 27.211_386_024_367_243).abs() < 1e-6, "{first}");
    for s in &all {
        assert!(net_force(s) < 1e-5, "{}: {}", s.id, net_force(s));
        let e = binding(s, &ATOMS);
        assert!((-250.0..-20.0).contains(&e), "{}: {e}", s.id);
    }
}

#[test]
fn lmdbs_of_molecules() {
    let Some(dir) = samples() else { return };
    for (format, name, first, net, range) in [
        (Format::Ani1x, "ani1x", -7_222.384_567_385_502, 1.5e-6, -235.0..-25.0),
        (Format::Transition1x, "transition1x", -7_762.637_212_807_026, 0.0241, -95.0..-20.0),
    ] {
        let source = source(format, &[dir.join(name).join("lmdb/train")], &Options::default());
        assert_eq!(source.splits()[0].name, "train");
        let all = read(source.as_ref()).structures;
        assert_eq!((all.len(), all[0].energy), (16, Some(first)));
        for s in &all {
            assert!(s.cell.is_none() && net_force(s) < net, "{}: {}", s.id, net_force(s));
            assert!(range.contains(&binding(s, &ATOMS)), "{}: {}", s.id, binding(s, &ATOMS));
        }
        let ids: std::collections::BTreeSet<&String> = all.iter().map(|s| &s.id).collect();
        assert_eq!(ids.len(), 16);
    }
}

#[test]
fn oc22_lmdb() {
    let Some(dir) = samples() else { return };
    let source = source(Format::Oc22, &[dir.join("oc22/s2ef-total/train")], &Options::default());
    let all = read(source.as_ref()).structures;
    let energies: Vec<f64> = all.iter().filter_map(|s| s.energy).collect();
    assert_eq!((energies.len(), energies[0], energies[1]), (16, -566.622_888_64, -268.955_889_86));
    assert_eq!((all[0].atoms(), all[0].id.as_str()), (109, "oc22-17914/frame24"));
    assert!(all.iter().all(|s| s.tags.is_some() && s.fixed.is_some() && s.pbc == [true; 3]));
}

#[test]
fn rmd17_parts() {
    let Some(dir) = samples() else { return };
    let kcal = 0.043_364_103_900_593_22;
    for (file, split, first) in [
        ("rmd17_ethanol_train_01.npz", "train_01", -97_079.922_221_79),
        ("rmd17_ethanol_test_01.npz", "test_01", -97_082.387_176_03),
        ("rmd17_aspirin_train_01.npz", "train_01", -406_273.745_599_18),
    ] {
        let source = source(Format::Rmd17, &[dir.join("rmd17").join(file)], &Options::default());
        assert_eq!(source.splits()[0].name, split);
        let all = read(source.as_ref()).structures;
        assert_eq!(all.len(), 1000);
        let energy = all[0].energy.unwrap();
        assert!((energy - first * kcal).abs() < 1e-6, "{file}: {energy}");
        for s in &all {
            assert!(net_force(s) < 6e-6, "{}: {}", s.id, net_force(s));
        }
    }
    let both = ["train", "test"].map(|p| dir.join(format!("rmd17/rmd17_ethanol_{p}_01.npz")));
    let all = read(source(Format::Rmd17, &both, &Options::default()).as_ref()).structures;
    let ids: std::collections::BTreeSet<&String> = all.iter().map(|s| &s.id).collect();
    assert_eq!(ids.len(), 2000, "train and test share frames");
}

/// Pickles of sixteen records each decode whole; a collated batch, which names a class outside the table, is refused.
#[test]
fn pickles_decode_or_are_refused_by_name() {
    let Some(dir) = samples() else { return };
    let inspect = |name: &str| run(&["inspect", &dir.join(name).display().to_string()]);
    for name in [
        "ani1x/ani1x_pickle16_train.pkl",
        "transition1x/trans1x_pickle16_train.pkl",
        "oc22/oc22_pickle16_train.pkl",
    ] {
        let said = inspect(name);
        assert!(said.status.success() && text(&said.stdout).contains("  16 items\n"), "{name}");
    }
    let refused = inspect("oc20/is2re_bs3.pt");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("DynamicInheritanceGetter"), "{}", text(&refused.stderr));
}

/// The published reference of OC22 brings real total energies near zero; elements that it has no sound number for are absent.
#[test]
fn a_published_reference_fits_real_structures() {
    let Some(samples) = samples() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("oc22");
    let input = format!("train={}", samples.join("oc22/s2ef-total/train").display());
    let reference = samples.join("linref/oc22_linfit_coeffs.npz").display().to_string();
    let text = out.display().to_string();
    ok(&[
        "convert",
        "--dataset",
        "oc22",
        "--input",
        &input,
        "--output",
        &text,
        "--linear-reference",
        &reference,
    ]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    let energy = &manifest["splits"]["train"]["statistics"]["labels"]["energy"];
    assert_eq!(energy["reference"]["given"], "oc22_linfit_coeffs.npz");
    assert!(energy["reference"]["rank"].is_null());
    assert_eq!(energy["reference"]["coefficients"].as_object().unwrap().len(), 59);
    assert!(
        energy["referenced"]["mean"].as_f64().unwrap().abs() < 30.0
            && energy["mean"].as_f64().unwrap() < -200.0
    );
    ok(&["verify", &text]);
}
