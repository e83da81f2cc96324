//! SPICE's subsets by their words, JMP's splits, and what a SMILES says of the total charge.

use std::collections::BTreeSet;

use shards::legacy_shuffle::permutation;

use super::spice::Molecule;
use crate::source::{Members, SplitPlan};

/// The subsets that JMP uses; the version at the end of their names differs from release to release.
const JMP_SUBSETS: [(&str, &str); 2] =
    [("dipeptides", "dipeptides"), ("solvated_amino_acids", "solvated amino acids")];

/// A name as words: small letters and digits, with one blank between two words.
pub(super) fn words(text: &str) -> String {
    let lower = text.to_lowercase();
    let parts = lower.split(|c: char| !(c.is_alphanumeric() || c == '.')).filter(|w| !w.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

/// Whether a subset's words contain the wanted ones, in a row and whole.
pub(super) fn matches(subset: &str, wanted: &str) -> bool {
    format!(" {subset} ").contains(&format!(" {wanted} "))
}

/// All rows of the file, as a split of that name.
pub(super) fn whole(name: &str, molecules: &[Molecule]) -> SplitPlan {
    SplitPlan {
        name: name.to_owned(),
        algorithm: "all rows of the file given under this name".to_owned(),
        seed: None,
        members: Members::Groups(molecules.iter().map(|m| m.name.clone()).collect()),
    }
}

/// JMP's split of all conformers, and of each of its subsets if there are others beside it.
pub(super) fn all(molecules: &[Molecule], seed: u32) -> Vec<SplitPlan> {
    let everything: Vec<&Molecule> = molecules.iter().collect();
    let mut splits = jmp("", "conformers", &everything, seed);
    for (name, wanted) in JMP_SUBSETS {
        let inside = |m: &&Molecule| m.subset.as_ref().is_some_and(|s| matches(s, wanted));
        let subset: Vec<&Molecule> = molecules.iter().filter(inside).collect();
        if !subset.is_empty() && subset.len() < molecules.len() {
            splits.extend(jmp(&format!("{name}_"), &format!("conformers of {wanted}"), &subset, seed));
        }
    }
    splits
}

/// Conformers in the order of groups, shuffled and cut: 80 % train, the rest val, 10 % test, each truncated to whole rows.
fn jmp(prefix: &str, of: &str, molecules: &[&Molecule], seed: u32) -> Vec<SplitPlan> {
    let rows = molecules.iter().flat_map(|m| (0..m.rows).map(|row| (m.name.as_str(), row)));
    let ids: Vec<(&str, u64)> = rows.collect();
    let Ok(n) = u32::try_from(ids.len()) else { return vec![] };
    let (train, test) = ((f64::from(n) * 0.8) as usize, (f64::from(n) * 0.1) as usize);
    let val = ids.len() - train - test;
    let order = permutation(n, seed);
    let algorithm = format!(
        "JMP: {of} in bytewise order of their groups, shuffled by numpy's RandomState({seed}); the first {train} train, the next {val} \
         val, the last {test} test"
    );
    let cuts = [("train", 0..train), ("val", train..train + val), ("test", train + val..ids.len())];
    cuts.into_iter()
        .filter(|(_, range)| !range.is_empty())
        .map(|(name, range)| {
            let id = |&at: &u32| {
                let (group, row) = ids[at as usize];
                format!("{group}__{row}")
            };
            SplitPlan {
                name: format!("{prefix}{name}"),
                algorithm: algorithm.clone(),
                seed: Some(u64::from(seed)),
                members: Members::Ids(order[range].iter().map(id).collect::<BTreeSet<_>>()),
            }
        })
        .collect()
}

/// The sum of the charges in a SMILES with all atoms in brackets: `[H:1][O-:2].[Na+:3]` is 0. `None` if it cannot be read.
pub(super) fn charge(smiles: &str) -> Option<f64> {
    let mut total = 0i32;
    for atom in smiles.split('[').skip(1) {
        let atom = atom.split_once(']')?.0;
        let atom = atom.split_once(':').map_or(atom, |(atom, _)| atom);
        let Some(at) = atom.find(['+', '-']) else { continue };
        let (sign, rest) =
            if atom[at..].starts_with('+') { (1, &atom[at + 1..]) } else { (-1, &atom[at + 1..]) };
        let size = if rest.is_empty() {
            1
        } else if rest.bytes().all(|b| b == atom.as_bytes()[at]) {
            rest.len() as i32 + 1
        } else {
            rest.parse().ok().filter(|n| (0..100).contains(n))?
        };
        total = total.checked_add(sign * size)?;
    }
    Some(f64::from(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_known_by_their_words() {
        let name = words("SPICE Solvated Amino Acids Single Points Dataset v1.1");
        assert_eq!(name, "spice solvated amino acids single points dataset v1.1");
        for wanted in ["solvated_amino_acids", "Solvated Amino Acids", "v1.1", "SPICE Solvated"] {
            assert!(matches(&name, &words(wanted)), "{wanted}");
        }
        assert!(!matches(&name, "amino"[..4].into()));
        assert!(!matches(&words("SPICE PubChem Set 10 Single Points"), "pubchem set 1"));
    }

    #[test]
    fn charges_of_smiles() {
        assert_eq!(charge("[H:10][C:1]1([H:11])[N+:9]([H:25])([H:26])[H:27]"), Some(1.0));
        assert_eq!(charge("[H:3][C:1]#[C:2][H:4].[Na+:5]"), Some(1.0));
        assert_eq!(charge("[Ca+2:1].[Cl-:2].[O--:3]"), Some(-1.0));
        assert_eq!(charge("[C@:8][C@@H:9]C-C"), Some(0.0));
        assert_eq!((charge("[N+"), charge("[N+x]")), (None, None));
    }
}
