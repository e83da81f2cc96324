//! The loss of eq. 1, the threshold loss of eq. 2 and the loss of classes on a mixed batch, against arithmetic
//! on plain numbers.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use shards::batch::HostBatch;
use shards::graph::{Geometry, GraphBatch, GraphSpec, StructureGraph};
use tch::{Device, Kind, Tensor};
use trainer::batch::Batch;
use trainer::config::sections::{LossSection, Reduction, SurgeryTasks};
use trainer::loss::{Loss, LossTerms, TaskWeights};
use trainer::prediction::Prediction;

/// Structures: task 0 with both labels (2 atoms), task 1 with an energy alone (3 atoms), task 1 with forces alone (2 atoms,
/// the second one fixed), task 0 with both (1 atom beside another that is far away: 2 atoms).
const NATOMS: [usize; 4] = [2, 3, 2, 2];
const TASK: [usize; 4] = [0, 1, 1, 0];
const HAS_ENERGY: [bool; 4] = [true, true, false, true];
const HAS_FORCES: [bool; 4] = [true, false, true, true];
const ENERGY: [f64; 4] = [0.5, -1.0, 0.0, 2.0];
const PREDICTED_ENERGY: [f64; 4] = [0.7, -2.0, 9.0, 1.96];
/// (λ_E, λ_F) of the tasks.
const LAMBDA: [(f64, f64); 2] = [(1.0, 15.0), (2.0, 70.0)];
/// Added to each component inside the norm, as the reference does.
const EPS: f64 = 1e-6;

fn fixed(atom: usize) -> bool {
    atom == 6
}

fn forces() -> (Vec<[f64; 3]>, Vec<[f64; 3]>) {
    let label = |i: usize| [0.1 * i as f64, -0.2, 0.05 * (i * i) as f64];
    let error =
        |i: usize| [0.01 * i as f64, 0.02 * (i as f64 - 3.0), if i.is_multiple_of(2) { 0.04 } else { -0.01 }];
    let labels: Vec<[f64; 3]> = (0..9).map(label).collect();
    let predicted = (0..9).map(|i| [0, 1, 2].map(|k| labels[i][k] + error(i)[k])).collect();
    (labels, predicted)
}

fn host() -> HostBatch {
    let spec = GraphSpec::new(5.0, 8);
    let mut graphs = Vec::new();
    for n in NATOMS {
        let positions: Vec<[f64; 3]> = (0..n).map(|i| [1.1 * i as f64, 0.2 * i as f64, 0.0]).collect();
        let geometry = Geometry { positions: &positions, cell: None, pbc: [false; 3], tags: None };
        graphs.push(StructureGraph::build(&geometry, &spec).unwrap());
    }
    let n: usize = NATOMS.iter().sum();
    HostBatch {
        task: TASK.map(|t| t as u32).into(),
        natoms: NATOMS.map(|n| n as u32).into(),
        atomic_numbers: vec![6; n],
        positions: vec![0.0; 3 * n],
        fixed: (0..n).map(fixed).collect(),
        energy: ENERGY.into(),
        has_energy: HAS_ENERGY.into(),
        energy_offset: vec![0.0; 4],
        forces: forces().0.concat(),
        has_forces: HAS_FORCES.into(),
        graph: GraphBatch::collate(&graphs),
        ..HostBatch::default()
    }
}

fn loss(reduction: Reduction, free_atoms_only: bool, margins: [(f64, f64); 2]) -> LossTerms {
    let rule = LossSection { reduction, free_atoms_only, ..LossSection::default() };
    let weights = [0, 1].map(|t| TaskWeights {
        energy: LAMBDA[t].0,
        forces: LAMBDA[t].1,
        energy_margin: margins[t].0,
        force_margin: margins[t].1,
    });
    let loss = Loss::new(rule, &weights, &Tensor::zeros([1], (Kind::Double, Device::Cpu)));
    let host = host();
    let batch = Batch::from_host(&host, Kind::Double, Device::Cpu);
    let prediction = Prediction {
        energy: Tensor::from_slice(&PREDICTED_ENERGY),
        forces: Some(Tensor::from_slice(forces().1.as_flattened()).view([-1, 3])),
    };
    loss.of(&prediction, &batch, &host.task, loss.counts(&host))
}

/// Weighed errors of energies and forces by structure, and the atoms that took part.
fn by_hand(free_atoms_only: bool, margins: [(f64, f64); 2]) -> ([f64; 4], [f64; 4], [f64; 4]) {
    let (labels, predicted) = forces();
    let (mut energy, mut force, mut atoms) = ([0.0; 4], [0.0; 4], [0.0; 4]);
    let mut atom = 0;
    for b in 0..4 {
        let ((lambda_e, lambda_f), (margin_e, margin_f)) = (LAMBDA[TASK[b]], margins[TASK[b]]);
        let error = (PREDICTED_ENERGY[b] - ENERGY[b]).abs();
        if HAS_ENERGY[b] && error >= margin_e {
            energy[b] = lambda_e * error;
        }
        for i in atom..atom + NATOMS[b] {
            if !HAS_FORCES[b] || (free_atoms_only && fixed(i)) {
                continue;
            }
            atoms[b] += 1.0;
            let d = [0, 1, 2].map(|k| predicted[i][k] - labels[i][k]);
            if d.iter().map(|x| x.abs()).sum::<f64>() / 3.0 >= margin_f {
                force[b] += lambda_f * d.iter().map(|x| (x + EPS).powi(2)).sum::<f64>().sqrt();
            }
        }
        atom += NATOMS[b];
    }
    (energy, force, atoms)
}

fn total(reduction: Reduction, free_atoms_only: bool, margins: [(f64, f64); 2]) -> f64 {
    let (energy, force, atoms) = by_hand(free_atoms_only, margins);
    let energy = energy.iter().sum::<f64>() / 3.0;
    match reduction {
        Reduction::Structure => energy + (0..4).map(|b| force[b] / atoms[b].max(1.0)).sum::<f64>() / 3.0,
        Reduction::Atom => energy + force.iter().sum::<f64>() / atoms.iter().sum::<f64>(),
    }
}

#[test]
fn eq_1_in_both_reductions_with_and_without_fixed_atoms() {
    let none = [(0.0, 0.0); 2];
    for reduction in [Reduction::Structure, Reduction::Atom] {
        for free_only in [false, true] {
            let got = loss(reduction, free_only, none).total.double_value(&[]);
            let want = total(reduction, free_only, none);
            assert!((got - want).abs() < 1e-13 * want, "{reduction:?} {free_only}: got {got}, want {want}");
        }
    }
}

#[test]
fn errors_within_the_margin_cost_nothing_but_count() {
    // Of task 0 the second energy error (0.04) lies within, of task 1 none; of the forces' mean errors some do.
    let margins = [(0.1, 0.025), (0.5, 0.03)];
    for reduction in [Reduction::Structure, Reduction::Atom] {
        let got = loss(reduction, false, margins).total.double_value(&[]);
        let want = total(reduction, false, margins);
        assert!((got - want).abs() < 1e-13 * want, "{reduction:?}: got {got}, want {want}");
        assert!(want < total(reduction, false, [(0.0, 0.0); 2]) && want > 0.0);
    }
    let (energy, force, _) = by_hand(false, margins);
    assert!(energy[3] == 0.0 && energy[0] > 0.0 && energy[1] > 0.0);
    let taken = by_hand(false, [(0.0, 0.0); 2]).1;
    assert!(force.iter().zip(taken).any(|(with, without)| *with > 0.0 && *with < without), "no margin bit");
}

#[test]
fn the_parts_of_the_tasks_add_up_to_the_whole() {
    let terms = loss(Reduction::Structure, false, [(0.0, 0.0); 2]);
    let whole = terms.total.double_value(&[]);
    for (tasks, count) in [(SurgeryTasks::Datasets, 2), (SurgeryTasks::Labels, 4)] {
        let parts: Vec<f64> = terms.parts(tasks).iter().map(|part| part.double_value(&[])).collect();
        assert_eq!(parts.len(), count);
        assert!((parts.iter().sum::<f64>() - whole).abs() < 1e-13 * whole, "{parts:?}");
    }
    // The first of the labels is the energy of task 0: (0.2 + 0.04) / 3.
    let energy = terms.parts(SurgeryTasks::Labels)[0].double_value(&[]);
    assert!((energy - 0.08).abs() < 1e-13, "{energy}");
}

/// The weight of class 1, about that of the released code for `mp_is_metal`.
const WEIGHT: f64 = 1.34;
const LOGITS: [f64; 4] = [0.0, -0.4, 2.0, -1.3];

/// Cross-entropy of [`LOGITS`] and its gradient in them.
fn class_loss(weight: f64, labels: [f64; 4]) -> (f64, Vec<f64>) {
    let weights =
        LAMBDA.map(|(energy, forces)| TaskWeights { energy, forces, energy_margin: 0.0, force_margin: 0.0 });
    let example = Tensor::zeros([1], (Kind::Double, Device::Cpu));
    let loss = Loss::new(LossSection::default(), &weights, &example).of_classes(weight);
    let host = HostBatch { energy: labels.into(), ..host() };
    let batch = Batch::from_host(&host, Kind::Double, Device::Cpu);
    let logits = Tensor::from_slice(&LOGITS).set_requires_grad(true);
    let prediction = Prediction { energy: logits.shallow_clone(), forces: None };
    let total = loss.of(&prediction, &batch, &host.task, loss.counts(&host)).total;
    total.backward();
    (total.double_value(&[]), Vec::try_from(logits.grad()).unwrap())
}

/// The same from each structure's probability of class 1: −w ln p or −ln(1 − p), mean of the labelled three.
fn class_loss_by_hand(weight: f64, labels: [f64; 4]) -> (f64, Vec<f64>) {
    let (mut loss, mut gradient) = (0.0, vec![0.0; 4]);
    for b in (0..4).filter(|&b| HAS_ENERGY[b]) {
        let lambda = LAMBDA[TASK[b]].0;
        let p = 1.0 / (1.0 + (-LOGITS[b]).exp());
        if labels[b] == 1.0 {
            loss -= lambda * weight * p.ln() / 3.0;
            gradient[b] = -lambda * weight * (1.0 - p) / 3.0;
        } else {
            loss -= lambda * (1.0 - p).ln() / 3.0;
            gradient[b] = lambda * p / 3.0;
        }
    }
    (loss, gradient)
}

#[test]
fn classes_cost_their_cross_entropy_and_class_1_its_weight() {
    for labels in [[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]] {
        let (got, gradient) = class_loss(WEIGHT, labels);
        let (want, slopes) = class_loss_by_hand(WEIGHT, labels);
        assert!((got - want).abs() < 1e-13 * want, "{labels:?}: got {got}, want {want}");
        for (got, want) in gradient.iter().zip(&slopes) {
            assert!((got - want).abs() < 1e-13, "{labels:?}: got {gradient:?}, want {slopes:?}");
        }
        // Another weight is another loss, and so is the weight on the other class.
        let swapped = class_loss_by_hand(1.0 / WEIGHT, labels).0 * WEIGHT;
        for other in [class_loss_by_hand(1.0, labels).0, swapped] {
            assert!((got - other).abs() > 0.05, "{labels:?}: {got} and {other}");
        }
    }
    // A logit of 0 makes both classes alike: class 0 costs ln 2 and pulls by 0.5, class 1 1.34 times that.
    let (one, zero) = (class_loss(WEIGHT, [1.0, 0.0, 0.0, 0.0]), class_loss(WEIGHT, [0.0; 4]));
    assert!((3.0 * (one.0 - zero.0) - 0.34 * 2.0_f64.ln()).abs() < 1e-13, "{} and {}", one.0, zero.0);
    assert!((3.0 * one.1[0] + 0.67).abs() < 1e-13 && (3.0 * zero.1[0] - 0.5).abs() < 1e-13);
}
