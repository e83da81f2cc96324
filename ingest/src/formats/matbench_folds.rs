//! The five folds of MatBench v0.1 and the validation part that JMP cuts off each.
//!
//! Rules: scikit-learn's `KFold(5, shuffle=True, random_state=18012019)` over row numbers, and its `StratifiedKFold` with the
//! same arguments for classification (arXiv:2005.00707 and the benchmark's validation files).

use shards::legacy_shuffle::{LegacyRng, permutation};

const FOLDS: usize = 5;
/// Seed of the folds.
pub(super) const SEED: u32 = 18_012_019;
/// Seed of the validation parts.
pub(super) const VALIDATION_SEED: u32 = 42;
/// The part of a fold's training rows that JMP trains on, truncated to whole rows.
const TRAIN_FRACTION: f64 = 0.9;

/// Row numbers of one fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fold {
    /// What the benchmark trains and validates on, ascending.
    pub(super) train_val: Vec<u32>,
    /// What it tests on, ascending.
    pub(super) test: Vec<u32>,
    /// JMP's training part of `train_val`, in JMP's order.
    pub(super) train: Vec<u32>,
    /// The rest of it.
    pub(super) val: Vec<u32>,
}

/// How the rows of a fold were chosen, in words.
pub(super) fn algorithm(stratified: bool) -> String {
    let kind = if stratified { "StratifiedKFold" } else { "KFold" };
    format!(
        "MatBench v0.1: scikit-learn's {kind}({FOLDS}, shuffle=True, random_state={SEED}) over row numbers"
    )
}

/// How JMP divides a fold, in words.
pub(super) fn inner_algorithm() -> String {
    format!(
        "the fold's train_val rows shuffled by numpy's RandomState({VALIDATION_SEED}); the first {TRAIN_FRACTION} of them \
         train, the rest val"
    )
}

/// Folds of a regression task of `rows` rows: runs of one permutation, the first `rows % 5` of them one longer.
pub(super) fn regression(rows: u32) -> Vec<Fold> {
    let order = permutation(rows, SEED);
    let mut fold_of = vec![0u8; rows as usize];
    let mut rest = order.as_slice();
    for fold in 0..FOLDS {
        let length = rows as usize / FOLDS + usize::from(fold < rows as usize % FOLDS);
        let (run, after) = rest.split_at(length);
        run.iter().for_each(|&row| fold_of[row as usize] = fold as u8);
        rest = after;
    }
    cut(&fold_of)
}

/// Folds of a classification task: each class is dealt to the folds in blocks, and the blocks are shuffled.
pub(super) fn classification(classes: &[bool]) -> Vec<Fold> {
    let mut fold_of = vec![0u8; classes.len()];
    let mut rng = LegacyRng::new(SEED);
    // Classes are numbered in the order of appearance; dealing goes round over the rows sorted by class.
    let first = classes.first().copied().unwrap_or_default();
    let firsts = classes.iter().filter(|&&c| c == first).count();
    for (class, begin, end) in [(first, 0, firsts), (!first, firsts, classes.len())] {
        let dealt = |fold: usize| (begin..end).filter(|at| at % FOLDS == fold).count();
        let mut folds: Vec<u8> =
            (0..FOLDS).flat_map(|fold| std::iter::repeat_n(fold as u8, dealt(fold))).collect();
        rng.shuffle(&mut folds);
        let members = classes.iter().zip(&mut fold_of).filter(|(c, _)| **c == class);
        members.zip(folds).for_each(|((_, place), fold)| *place = fold);
    }
    cut(&fold_of)
}

fn cut(fold_of: &[u8]) -> Vec<Fold> {
    let part = |fold: usize| {
        let rows = 0..fold_of.len() as u32;
        let (test, train_val): (Vec<u32>, Vec<u32>) =
            rows.partition(|&row| usize::from(fold_of[row as usize]) == fold);
        let mut order = train_val.clone();
        LegacyRng::new(VALIDATION_SEED).shuffle(&mut order);
        let val = order.split_off((train_val.len() as f64 * TRAIN_FRACTION) as usize);
        Fold { train_val, test, train: order, val }
    };
    (0..FOLDS).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dielectric_starts_as_published() {
        let folds = regression(4764);
        assert_eq!(folds[0].test[..5], [7, 9, 18, 24, 30]);
        assert_eq!(folds.iter().map(|f| f.test.len()).collect::<Vec<_>>(), [953, 953, 953, 953, 952]);
        assert_eq!((folds[0].train.len(), folds[0].val.len()), (3429, 382));
    }

    #[test]
    fn classes_are_dealt_evenly() {
        let classes: Vec<bool> = (0..103).map(|i| i % 3 == 1).collect();
        let folds = classification(&classes);
        let mut seen: Vec<u32> = folds.iter().flat_map(|f| f.test.clone()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..103).collect::<Vec<_>>());
        for fold in folds {
            let metals = fold.test.iter().filter(|&&row| classes[row as usize]).count();
            assert!((6..=7).contains(&metals) && (20..=21).contains(&fold.test.len()), "{metals}");
        }
    }

    #[test]
    fn few_rows_make_no_trouble() {
        assert_eq!(regression(0)[0].test, [0; 0]);
        assert_eq!(regression(3)[4].train_val, [0, 1, 2]);
        assert_eq!(classification(&[]).len(), 5);
    }
}
