//! Real trajectories, raw OC20 pairs and extxyz, with the figures that their provenance gives.

use ingest::formats::{Format, Options};
use shards::Structure;

use crate::real_data::samples;
use crate::{read, source};

/// Largest force on an atom that may move, eV/Å.
fn fmax(structure: &Structure) -> f64 {
    let forces = structure.forces.as_ref().unwrap().to_f64();
    let fixed = structure.fixed.as_ref().unwrap();
    let norms = forces.chunks_exact(3).zip(fixed).filter(|(_, fixed)| !**fixed);
    norms.map(|(f, _)| f.iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max)
}

/// Correlation of energy differences with −F·dx by the trapezoidal rule: 1 when units and signs are right.
fn work_correlation(frames: &[Structure]) -> f64 {
    let pairs: Vec<(f64, f64)> = frames
        .windows(2)
        .map(|pair| {
            let [a, b] = [&pair[0], &pair[1]];
            let (xa, xb) = (a.positions.to_f64(), b.positions.to_f64());
            let (fa, fb) = (a.forces.as_ref().unwrap().to_f64(), b.forces.as_ref().unwrap().to_f64());
            let work: f64 = (0..xa.len()).map(|i| -0.5 * (fa[i] + fb[i]) * (xb[i] - xa[i])).sum();
            (b.energy.unwrap() - a.energy.unwrap(), work)
        })
        .collect();
    let n = pairs.len() as f64;
    let (mx, my) = (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n);
    let sum = |f: fn(f64, f64) -> f64| pairs.iter().map(|p| f(p.0 - mx, p.1 - my)).sum::<f64>();
    sum(|x, y| x * y) / (sum(|x, _| x * x) * sum(|_, y| y * y)).sqrt()
}

#[test]
fn relaxations_of_oc20() {
    let Some(dir) = samples() else { return };
    for (name, frames, first) in
        [("random1000142", 59, -452.476_323_54), ("random1000156", 36, -67.091_315_7)]
    {
        let path = dir.join(format!("oc20/{name}.traj"));
        let all = read(source(Format::Traj, &[path], &Options::default()).as_ref()).structures;
        assert_eq!(all.len(), frames);
        assert!((all[0].energy.unwrap() - first).abs() < 1e-7, "{:?}", all[0].energy);
        assert!(all.iter().all(|s| s.group == name && s.tags.is_none() && s.pbc == [true; 3]));
        let last = fmax(&all[frames - 1]);
        assert!((0.02..0.03).contains(&last), "{name}: {last}");
        let correlation = work_correlation(&all);
        assert!(correlation > 0.998, "{name}: {correlation}");
    }
}

#[test]
fn raw_pairs_hold_the_frames_of_the_trajectories() {
    let Some(dir) = samples() else { return };
    let raw = read(source(Format::Oc20, &[dir.join("oc20/s2ef_raw")], &Options::default()).as_ref());
    assert!(raw.rejects.is_empty(), "{:?}", raw.rejects);
    let paths = ["random1000142", "random1000156"].map(|name| dir.join(format!("oc20/{name}.traj")));
    let frames = read(source(Format::Traj, &paths, &Options::default()).as_ref()).structures;
    assert_eq!(raw.structures.len(), frames.len());
    for (got, want) in raw.structures.iter().zip(&frames) {
        assert_eq!(
            (&got.group, &got.atomic_numbers, &got.fixed),
            (&want.group, &want.atomic_numbers, &want.fixed)
        );
        assert!(got.id.starts_with(&format!("{}/frame", want.group)), "{}", got.id);
        assert!((got.energy.unwrap() - want.energy.unwrap()).abs() < 1e-7);
        let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far(&got.positions.to_f64(), &want.positions.to_f64()) < 1e-7);
        let forces = |s: &Structure| s.forces.as_ref().unwrap().to_f64();
        assert!(far(&forces(got), &forces(want)) < 1e-7);
    }
}

#[test]
fn a_relaxation_as_extxyz() {
    let Some(dir) = samples() else { return };
    let path = dir.join("extxyz/toy_c3h8_relax.extxyz");
    let all = read(source(Format::Extxyz, &[path], &Options::default()).as_ref()).structures;
    assert_eq!((all.len(), all[0].energy), (101, Some(15.804_699_620_277_187)));
    let correlation = work_correlation(&all);
    assert!(correlation > 0.99, "{correlation}");
}
