//! A global batch in several micro-batches is one batch: losses are divided by the counts of all, and the gradients of
//! shared parameters once.

use trainer::config::sections::{LossSection, Reduction};

use crate::reference::{Golden, check_probes, close, learner};

/// Means over every structure twice are the same means.
#[test]
fn two_copies_of_the_batch_lead_where_the_reference_leads_with_one() {
    let golden = Golden::read();
    let mut learner = learner(&golden, LossSection::default(), 3e-4);
    let report = learner.step(&[golden.batch(), golden.batch()]).unwrap();
    assert_eq!(report.structures, 16);
    close(report.loss, golden.get("loss.structurewise.total")[0], 1e-12, "loss of the step");
    close(report.gradient_norm, golden.get("gradnorm.scaled")[0], 1e-11, "norm of the gradient");
    check_probes(&golden, &learner.gradients(), "probe.grad.scaled", 1e-10);
    let state = learner.state();
    check_probes(&golden, &state.model, "probe.param.step1", 1e-11);
    check_probes(&golden, &state.ema, "probe.ema.step1", 1e-11);
}

/// One structure, three and four: none of the micro-batches has the whole's counts, nor its tasks.
#[test]
fn unequal_micro_batches_give_the_gradient_of_the_whole() {
    let golden = Golden::read();
    let host = golden.batch();
    let parts = golden.micro_batches(&host, &[1, 3, 4]);
    for (reduction, word) in [(Reduction::Structure, "structurewise"), (Reduction::Atom, "atomwise")] {
        for (free_atoms_only, key) in [(false, "loss"), (true, "loss.freeonly")] {
            let rule = LossSection { reduction, free_atoms_only, ..LossSection::default() };
            let mut at_once = learner(&golden, rule, 3e-4);
            let mut in_parts = learner(&golden, rule, 3e-4);
            let one = at_once.step(std::slice::from_ref(&host)).unwrap();
            let several = in_parts.step(&parts).unwrap();
            assert_eq!((one.structures, several.structures), (8, 8));
            let want = golden.get(&format!("{key}.{word}.total"))[0];
            close(one.loss, want, 1e-12, word);
            close(several.loss, want, 1e-12, word);
            close(several.gradient_norm, one.gradient_norm, 1e-11, word);
            let (whole, sum) = (at_once.gradients(), in_parts.gradients());
            for (name, gradient) in &whole {
                let norm = gradient.norm().double_value(&[]);
                let apart = (gradient - &sum[name]).norm().double_value(&[]);
                assert!(apart <= 1e-10 * norm + 1e-18, "{key}.{word} {name}: {apart:e} of {norm:e} apart");
            }
            if reduction == Reduction::Structure && !free_atoms_only {
                check_probes(&golden, &sum, "probe.grad.scaled", 1e-10);
            }
        }
    }
}
