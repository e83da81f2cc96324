//! PCGrad through the learner: what it makes of the gradients of tasks, each of which is the gradient of the batch with
//! the labels of that task alone.

use std::collections::BTreeMap;

use shards::batch::HostBatch;
use tch::Tensor;
use trainer::config::sections::{LossSection, Reduction, SurgeryTasks};
use trainer::learner::{Learner, Whole};
use trainer::parameters::Parameters;

use crate::reference::{Golden, learner, loss};

/// A gradient, of what tasks share and of their heads.
struct Gradient {
    shared: Vec<f64>,
    heads: Vec<f64>,
}

impl Gradient {
    /// `divisors` are those of parameters whose gradients are yet to be divided.
    fn of(named: &BTreeMap<String, Tensor>, divisors: &BTreeMap<String, f64>) -> Self {
        let (mut shared, mut heads) = (Vec::new(), Vec::new());
        for (name, tensor) in named {
            let divisor = divisors.get(name).copied().unwrap_or(1.0);
            let part = if name.starts_with("output.") { &mut heads } else { &mut shared };
            part.extend(Vec::<f64>::try_from(tensor.flatten(0, -1)).unwrap().iter().map(|x| x / divisor));
        }
        Self { shared, heads }
    }

    fn norm(&self) -> f64 {
        (dot(&self.shared, &self.shared) + dot(&self.heads, &self.heads)).sqrt()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn sum<'a>(parts: impl IntoIterator<Item = &'a Vec<f64>>) -> Vec<f64> {
    let add = |sum: Vec<f64>, part: &Vec<f64>| {
        if sum.is_empty() { part.clone() } else { sum.iter().zip(part).map(|(x, y)| x + y).collect() }
    };
    parts.into_iter().fold(Vec::new(), add)
}

/// The largest difference, as a share of the largest number.
fn apart(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let largest = want.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    got.iter().zip(want).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max) / largest
}

#[track_caller]
fn assert_equal(got: &Gradient, shared: &[f64], heads: &[f64]) {
    let off = [apart(&got.shared, shared), apart(&got.heads, heads)];
    assert!(off.iter().all(|off| *off <= 1e-10), "{off:?} apart");
}

/// The batch with the labels of one task alone, and of those the energies, the forces or both.
fn of_task(host: &HostBatch, task: u32, energies: bool, forces: bool) -> HostBatch {
    let of = |wanted: bool| host.task.iter().map(|t| wanted && *t == task).collect::<Vec<bool>>();
    HostBatch { has_energy: of(energies), has_forces: of(forces), ..host.clone() }
}

/// The batch with one task's errors turned round: what is predicted too high by some is predicted too low by as much.
fn turned(golden: &Golden, host: &HostBatch, task: u32, forces: bool) -> HostBatch {
    let network = golden.network();
    let predicted = network.forward(&network.batch(host), false).to_host().unwrap();
    let mut turned = host.clone();
    let mut first = 0;
    for (g, n) in host.natoms.iter().enumerate() {
        let components = 3 * first..3 * (first + *n as usize);
        first += *n as usize;
        if host.task[g] != task {
            continue;
        }
        turned.energy[g] = 2.0 * predicted.energy[g] - host.energy[g];
        let said = predicted.forces.as_ref().unwrap();
        for k in components.filter(|_| forces) {
            turned.forces[k] = 2.0 * said[k] - host.forces[k];
        }
    }
    turned
}

/// The gradient of each batch, its losses divided by the counts of `whole`, from the loss itself.
fn gradients(golden: &Golden, whole: &HostBatch, batches: &[HostBatch]) -> Vec<Gradient> {
    let network = golden.network();
    let mut parameters = Parameters::flatten(network.store(), 1, |_| 0).unwrap();
    let rule = loss(golden, Reduction::Structure, false);
    let counts = rule.counts(whole);
    let gradient = |host: &HostBatch| {
        parameters.zero_gradients();
        let batch = network.batch(host);
        rule.of(&network.forward(&batch, true), &batch, &host.task, counts).total.backward();
        Gradient::of(&parameters.named(parameters.gradients()), &golden.divisors)
    };
    batches.iter().map(gradient).collect()
}

/// A learner whose weights stay where they are.
fn resting(golden: &Golden, pcgrad: Option<SurgeryTasks>) -> Learner {
    learner(golden, LossSection { pcgrad, ..LossSection::default() }, 0.0)
}

/// The gradient that a learner would move its weights by, from parts of the batch `whole`.
fn learnt(learner: &mut Learner, whole: &HostBatch, parts: &[HostBatch]) -> Gradient {
    let whole = Whole::counted(learner.loss(), std::slice::from_ref(whole));
    let norm = learner.step_of(whole, parts).unwrap().gradient_norm;
    let gradient = Gradient::of(&learner.gradients(), &BTreeMap::new());
    assert!((norm - gradient.norm()).abs() <= 1e-12 * norm, "{norm} and {}", gradient.norm());
    gradient
}

/// The shared part of a task's gradient, less what of it points against the others', one after the other.
fn projected(tasks: &[Gradient], task: usize, order: &[usize]) -> Vec<f64> {
    let mut own = tasks[task].shared.clone();
    for other in order.iter().map(|other| &tasks[*other].shared) {
        let product = dot(&own, other);
        if product < 0.0 {
            let factor = product / dot(other, other);
            own.iter_mut().zip(other).for_each(|(x, y)| *x -= factor * y);
        }
    }
    own
}

/// A task that is alone with its labels is in no conflict, and the gradients of all add up to that of the whole loss.
#[test]
fn gradients_of_the_tasks_add_up_to_the_gradient() {
    let golden = Golden::read();
    let host = golden.batch();
    let masked = [0, 1, 2, 3].map(|task| of_task(&host, task, true, true));
    let tasks = gradients(&golden, &host, &masked);
    let mut surgeon = resting(&golden, Some(SurgeryTasks::Datasets));
    for (own, part) in tasks.iter().zip(&masked) {
        let got = learnt(&mut surgeon, &host, std::slice::from_ref(part));
        assert_equal(&got, &own.shared, &own.heads);
    }
    let plain = learnt(&mut resting(&golden, None), &host, std::slice::from_ref(&host));
    let (shared, heads) = (sum(tasks.iter().map(|t| &t.shared)), sum(tasks.iter().map(|t| &t.heads)));
    assert_equal(&plain, &shared, &heads);
}

/// Energies and forces of one dataset are two tasks, for which there is one order. Where the energies' errors are turned
/// round, so is their gradient: once it points against that of the forces, and once it does not.
#[test]
fn energies_and_forces_are_projected_where_they_conflict() {
    let golden = Golden::read();
    let (host, task) = (golden.batch(), 2);
    let mut surgeon = resting(&golden, Some(SurgeryTasks::Labels));
    let mut conflicts = 0;
    for host in [host.clone(), turned(&golden, &host, task, false)] {
        let labels = [(true, false), (false, true)].map(|(e, f)| of_task(&host, task, e, f));
        let tasks = gradients(&golden, &host, &labels);
        let got = learnt(&mut surgeon, &host, &[of_task(&host, task, true, true)]);
        let plain = sum(tasks.iter().map(|t| &t.shared));
        let want = sum(&[projected(&tasks, 0, &[1]), projected(&tasks, 1, &[0])]);
        assert_equal(&got, &want, &sum(tasks.iter().map(|t| &t.heads)));
        let in_conflict = dot(&tasks[0].shared, &tasks[1].shared) < 0.0;
        conflicts += usize::from(in_conflict);
        let off = apart(&got.shared, &plain);
        assert_eq!(off > 1e-6, in_conflict, "{off:e} apart from the plain sum");
    }
    assert_eq!(conflicts, 1);
}

/// The orders in which four tasks meet the others: six each.
fn orders(task: usize) -> [[usize; 3]; 6] {
    let others: Vec<usize> = (0..4).filter(|other| *other != task).collect();
    [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].map(|order| order.map(|k| others[k]))
}

/// Three steps, each from micro-batches: conflicts are settled once a step, between the gradients of all of it.
#[test]
fn four_datasets_are_projected_in_an_order_of_theirs_after_the_last_micro_batch() {
    let golden = Golden::read();
    let masked = |host: &HostBatch| [0, 1, 2, 3].map(|task| of_task(host, task, true, true));
    let mut host = golden.batch();
    let mut tasks = gradients(&golden, &host, &masked(&host));
    if dot(&tasks[0].shared, &tasks[2].shared) >= 0.0 {
        host = turned(&golden, &host, 2, true);
        tasks = gradients(&golden, &host, &masked(&host));
    }
    assert!(dot(&tasks[0].shared, &tasks[2].shared) < 0.0, "no conflict");
    let projections: Vec<[Vec<f64>; 6]> =
        (0..4).map(|task| orders(task).map(|order| projected(&tasks, task, &order))).collect();
    let plain = sum(tasks.iter().map(|t| &t.shared));
    let largest = plain.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let heads = sum(tasks.iter().map(|t| &t.heads));

    let parts = golden.micro_batches(&host, &[1, 3, 4]);
    let mut surgeon = resting(&golden, Some(SurgeryTasks::Datasets));
    for step in 0..3 {
        let got = learnt(&mut surgeon, &host, &parts);
        let fits = |choice: [usize; 4]| {
            got.shared.iter().enumerate().all(|(i, got)| {
                let want: f64 = projections.iter().zip(choice).map(|(own, order)| own[order][i]).sum();
                (got - want).abs() <= 1e-10 * largest
            })
        };
        let mut choices = (0..6 * 6 * 6 * 6).map(|n: usize| [n % 6, n / 6 % 6, n / 36 % 6, n / 216]);
        assert!(choices.any(fits), "step {step}: the sum of no projections");
        assert!(apart(&got.heads, &heads) <= 1e-10, "step {step}: heads have one task each");
        assert!(apart(&got.shared, &plain) > 1e-6, "step {step}: nothing was projected");
    }
}
