//! One mixed batch of four tasks against the reference's training code: losses in both reductions, gradients before and
//! after the division of shared parameters and clipping, three AdamW steps, the average of the weights; micro-batches
//! and PCGrad on the same batch.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed read fails the test")]

#[path = "training_golden/accumulation.rs"]
mod accumulation;
#[path = "training_golden/conflicts.rs"]
mod conflicts;
#[path = "golden/fill.rs"]
mod fill;
#[allow(dead_code, reason = "shapes are looked at by the other golden tests")]
#[path = "golden/npz.rs"]
mod npz;
#[path = "training_golden/reference.rs"]
mod reference;

use shards::batch::HostBatch;
use trainer::clip::Clip;
use trainer::config::sections::{LossSection, Reduction};
use trainer::network::Network;
use trainer::parameters::{Parameters, norm};

use reference::{Golden, check_probes, check_tensor, close, learner, loss};

/// All losses of the file's row `row`.
fn check_losses(golden: &Golden, network: &Network, host: &HostBatch, row: usize) {
    let batch = network.batch(host);
    let prediction = network.forward(&batch, true);
    let at = |key: &str| golden.get(key)[row];
    for (reduction, word) in [(Reduction::Structure, "structurewise"), (Reduction::Atom, "atomwise")] {
        let rule = loss(golden, reduction, false);
        let terms = rule.of(&prediction, &batch, &host.task, rule.counts(host));
        let tasks = terms.task_sums();
        close(terms.total.double_value(&[]), at(&format!("loss.{word}.total")), 1e-12, word);
        for t in 0..4 {
            let per_task = |part: &str| golden.get(&format!("loss.{word}.{part}_per_task"))[4 * row + t];
            close(tasks.energy_mean(t), per_task("energy"), 1e-12, "energy of a task");
            close(tasks.force_mean(t), per_task("force"), 1e-12, "forces of a task");
        }
        let rule = loss(golden, reduction, true);
        let terms = rule.of(&prediction, &batch, &host.task, rule.counts(host));
        close(terms.total.double_value(&[]), at(&format!("loss.freeonly.{word}.total")), 1e-12, "free atoms");
    }
}

#[test]
fn targets_are_referenced_and_normalised_as_the_reference_does() {
    let golden = Golden::read();
    let host = golden.batch();
    let mut first = 0;
    for (g, n) in host.natoms.iter().enumerate() {
        let atoms = first..first + *n as usize;
        let transform = golden.transform(host.task[g] as usize);
        let offset = transform.offset(&host.atomic_numbers[atoms.clone()]).unwrap();
        close((golden.get("energy_raw")[g] - offset) / transform.std, host.energy[g], 1e-12, "energy target");
        for k in 3 * atoms.start..3 * atoms.end {
            close(golden.get("forces_raw")[k] / transform.force_std, host.forces[k], 1e-12, "force target");
        }
        first = atoms.end;
    }
}

#[test]
fn gradients_are_divided_and_clipped_as_the_reference_does() {
    let golden = Golden::read();
    let (network, host) = (golden.network(), golden.batch());
    assert_eq!(network.gradient_divisors(), golden.divisors);
    let mut parameters = Parameters::flatten(network.store(), 1, |_| 0).unwrap();
    check_probes(&golden, &parameters.named(parameters.values()), "probe.param.step0", 1e-14);

    parameters.zero_gradients();
    let rule = loss(&golden, Reduction::Structure, false);
    let batch = network.batch(&host);
    rule.of(&network.forward(&batch, true), &batch, &host.task, rule.counts(&host)).total.backward();
    let named = |p: &Parameters| p.named(p.gradients());
    check_probes(&golden, &named(&parameters), "probe.grad.raw", 1e-10);

    parameters.divide_shared(parameters.gradients(), |name| golden.divisors.get(name).copied());
    check_probes(&golden, &named(&parameters), "probe.grad.scaled", 1e-10);

    let before = norm(parameters.gradients());
    close(before, golden.get("gradnorm.scaled")[0], 1e-12, "norm before clipping");
    let bound = Clip::Norm(1.0).bound(before);
    let clipped = parameters.named(&(parameters.gradients() * bound.scale));
    check_probes(&golden, &clipped, "probe.grad.clipped", 1e-10);
    close(before * bound.scale, golden.get("gradnorm.clipped")[0], 1e-12, "norm after clipping");
}

#[test]
fn three_steps_lead_where_the_references_lead() {
    let golden = Golden::read();
    let host = golden.batch();
    let mut learner = learner(&golden, LossSection::default(), 3e-4);
    for step in 0..3 {
        check_losses(&golden, learner.network(), &host, step);
        let report = learner.step(std::slice::from_ref(&host)).unwrap();
        close(report.loss, golden.get("loss.structurewise.total")[step], 1e-12, "loss of the step");
        close(report.gradient_norm, golden.get("gradnorm.scaled")[step], 1e-11, "norm of the gradient");
        let (state, done) = (learner.state(), step + 1);
        check_probes(&golden, &state.model, &format!("probe.param.step{done}"), 1e-11);
        check_probes(&golden, &state.ema, &format!("probe.ema.step{done}"), 1e-11);
        for (weights, word) in [(&state.model, "param"), (&state.ema, "ema")] {
            for (name, tensor) in weights {
                let key = format!("{word}.step{done}.{name}");
                if golden.arrays.contains_key(&key) {
                    check_tensor(&golden, tensor, &key, 1e-11);
                }
            }
        }
    }
    check_losses(&golden, learner.network(), &host, 3);
}
