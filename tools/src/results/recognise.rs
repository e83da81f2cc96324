//! Which of the paper's tasks a run is about.

use crate::paper::{Paper, Task};

/// Lower-case letters and digits of a name: `rMD17-ethanol` and `rmd17_ethanol` are the same.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// The task that a name stands for: an id (`qm9/mu`), or a dataset's name and what is predicted (`rmd17-ethanol` and
/// `forces`; `qm9` and `mu`). A molecule's or target's name alone is enough where only one dataset has it.
pub fn task<'a>(paper: &'a Paper, name: &str, quantity: &str) -> Option<&'a Task> {
    let wanted = plain(name);
    let predicted = || paper.tasks.iter().filter(|t| t.quantity == quantity);
    let whole = |t: &&Task| plain(&t.id) == wanted;
    if let Some(task) = predicted().find(whole) {
        return Some(task);
    }
    let (set, part) =
        (|t: &Task| t.id.split('/').next().map(plain), |t: &Task| t.id.split('/').nth(1).map(plain));
    // QM9 and QMOF: the dataset's name, the target tells which. MatBench repeats targets and is known by its tasks.
    let by_set = predicted().find(|t| t.dataset.starts_with("QM") && set(t).as_deref() == Some(&wanted));
    by_set.or_else(|| {
        let mut named = predicted().filter(|t| part(t).as_deref() == Some(&wanted));
        named.next().filter(|_| named.next().is_none())
    })
}

/// The fold in a split's name: `fold3_test` → 3.
pub fn fold(split: &str) -> Option<u8> {
    split.split('_').find_map(|word| word.strip_prefix("fold")?.parse().ok())
}

/// A split's name without its fold: `fold3_train` → `train`.
pub fn without_fold(split: &str) -> String {
    let words = split.split('_').filter(|word| {
        word.strip_prefix("fold")
            .is_none_or(|number| number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()))
    });
    words.collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, quantity: &str, expected: Option<&str>) {
        let paper = Paper::read().unwrap();
        assert_eq!(task(&paper, name, quantity).map(|t| t.id.as_str()), expected, "{name} {quantity}");
    }

    #[test]
    fn names_of_our_shards_are_known() {
        check("rmd17-ethanol", "forces", Some("rmd17/ethanol"));
        check("ethanol", "forces", Some("rmd17/ethanol"));
        check("ethanol", "energy", None);
        check("md17-ethanol", "forces", None);
        check("qm9", "eps_LUMO", Some("qm9/eps_LUMO"));
        check("qmof", "band_gap_pbe", Some("qmof/band_gap"));
        check("matbench-mp-e-form", "e_form", Some("matbench/mp_e_form"));
        check("matbench-mp-e-form", "band_gap_pbe", None);
        check("phonons", "last_phdos_peak", Some("matbench/phonons"));
        check("md22-double-walled_nanotube", "forces", Some("md22/double-walled_nanotube"));
        check("spice-solvated-amino-acids", "forces", Some("spice/solvated_amino_acids"));
        check("AT-AT", "forces", Some("md22/AT-AT"));
        check("oc20", "forces", None);
    }

    #[test]
    fn folds_are_in_the_names_of_splits() {
        assert_eq!((fold("fold3_test"), fold("test"), fold("fold_test")), (Some(3), None, None));
        assert_eq!(
            (without_fold("fold3_train"), without_fold("train_01")),
            ("train".into(), "train_01".into())
        );
    }
}
