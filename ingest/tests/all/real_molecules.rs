//! Real samples of QM9, MD17 and SPICE, with the figures that their provenance gives; run when JMP_REAL_DATA names their folder.

use std::collections::BTreeMap;

use ingest::formats::{Format, Options};
use ingest::source::Source;
use shards::Structure;

use crate::real_data::{net_force, samples};
use crate::{close, read, source};

/// torch_geometric's hartree, which QM9 is converted with.
const HARTREE: f64 = 27.211_386_246;

fn targets(source: &dyn Source, structure: &Structure) -> BTreeMap<String, f64> {
    let names = source.layout().targets.iter().map(|t| t.name.clone());
    names.zip(structure.targets.iter().map(|t| t.unwrap())).collect()
}

#[test]
fn qm9_deposited_and_moleculenet_forms_agree() {
    let Some(dir) = samples() else { return };
    let archive = source(Format::Qm9, &[dir.join("qm9/first10.tar.bz2")], &Options::default());
    let table = source(Format::Qm9, &[dir.join("qm9/qm9_mini.sdf")], &Options::default());
    let (xyz, sdf) = (read(archive.as_ref()).structures, read(table.as_ref()).structures);
    assert_eq!((xyz.len(), sdf.len()), (10, 21));
    let methane = targets(archive.as_ref(), &xyz[0]);
    assert!((methane["U_0"] - -40.478_93 * HARTREE).abs() < 1e-9);
    for (at, (x, s)) in xyz.iter().zip(&sdf).enumerate() {
        assert_eq!((&x.id, &x.atomic_numbers), (&format!("gdb_{}", at + 1), &s.atomic_numbers));
        assert_eq!(x.id, s.id);
        close(&x.id, "positions", &s.positions.to_f64(), &x.positions.to_f64(), 5.1e-5);
        let table = targets(table.as_ref(), s);
        for (name, value) in targets(archive.as_ref(), x) {
            // The atomisation energies of the xyz files are computed from atoms; the table has its own.
            let tolerance = if name.ends_with("_ATOM") { 5e-4 } else { 1e-9 };
            assert!((value - table[&name]).abs() <= tolerance, "{}: {name} {value} {}", x.id, table[&name]);
        }
    }
    let one = source(Format::Qm9, &[dir.join("qm9/dsgdb9nsd_000001.xyz")], &Options::default());
    assert_eq!(read(one.as_ref()).structures, xyz[..1]);
}

#[test]
fn md17_ethanol() {
    let Some(dir) = samples() else { return };
    let kcal = 0.043_364_103_900_593_22;
    let source = source(Format::Md17, &[dir.join("md17/md17_ethanol_2000.npz")], &Options::default());
    let all = read(source.as_ref()).structures;
    assert_eq!((all.len(), all[0].id.as_str(), all[0].atoms()), (2000, "ethanol/0", 9));
    let energy = all[0].energy.unwrap();
    assert!((energy - -97_208.406_004_98 * kcal).abs() < 1e-6, "{energy}");
    let net = all.iter().map(net_force).fold(0.0, f64::max);
    assert!(net < 0.26 * kcal, "net force {} kcal/mol/Å", net / kcal);
    let splits: Vec<(&str, usize)> = source
        .splits()
        .iter()
        .map(|s| match &s.members {
            ingest::source::Members::Ids(ids) => (s.name.as_str(), ids.len()),
            _ => panic!("{}", s.name),
        })
        .collect();
    assert_eq!(splits, [("train", 950), ("val", 50), ("test", 1000), ("few_shot_50", 50)]);
}

#[test]
fn spice_release_layout() {
    let Some(dir) = samples() else { return };
    let source = source(Format::Spice, &[dir.join("spice/SPICE-1.1.4_n2.hdf5")], &Options::default());
    let all = read(source.as_ref()).structures;
    assert_eq!(all.len(), 55);
    for (row, id, atoms, hartree) in
        [(0, "103147721__0", 27, -370.433_974_245_717_14), (50, "C#C.[Na+]__0", 5, -239.521_406_407_523_8)]
    {
        let first = &all[row];
        assert_eq!((first.id.as_str(), first.atoms(), first.charge), (id, atoms, Some(1.0)));
        let energy = first.energy.unwrap();
        assert!((energy - hartree * 27.211_386_024_367_243).abs() < 1e-6, "{energy}");
    }
    for s in &all {
        assert!(net_force(s) < 0.004, "{}: {}", s.id, net_force(s));
        assert!(s.targets[0].unwrap() < 0.0, "{}", s.id);
    }
    assert!(source.warnings().is_empty());
    // Forces are the negative gradient: dE = −F·dx to first order, between the conformers of the cluster that lie closest.
    assert!(correlation(&all[50..]) > 0.99, "{}", correlation(&all[50..]));
}

/// Correlation of dE with −(F_a + F_b)/2 · dx over the four closest pairs of conformers, 0.2 bohr apart.
fn correlation(all: &[Structure]) -> f64 {
    let mut pairs = Vec::new();
    for (i, a) in all.iter().enumerate() {
        for b in &all[i + 1..] {
            let (ra, rb) = (a.positions.to_f64(), b.positions.to_f64());
            let (fa, fb) = (a.forces.as_ref().unwrap().to_f64(), b.forces.as_ref().unwrap().to_f64());
            let step: Vec<f64> = rb.iter().zip(&ra).map(|(b, a)| b - a).collect();
            let length = step.iter().map(|x| x * x).sum::<f64>().sqrt();
            let work: f64 = step.iter().zip(fa.iter().zip(&fb)).map(|(x, (a, b))| -x * (a + b) / 2.0).sum();
            pairs.push((length, b.energy.unwrap() - a.energy.unwrap(), work));
        }
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let near = &pairs[..4];
    let n = near.len() as f64;
    let mean = |f: &dyn Fn(&(f64, f64, f64)) -> f64| near.iter().map(f).sum::<f64>() / n;
    let (x, y) = (mean(&|p| p.1), mean(&|p| p.2));
    let cov = mean(&|p| (p.1 - x) * (p.2 - y));
    cov / (mean(&|p| (p.1 - x).powi(2)) * mean(&|p| (p.2 - y).powi(2))).sqrt()
}
