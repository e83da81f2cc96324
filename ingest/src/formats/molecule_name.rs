//! What the file names of MD17, rMD17 and MD22 say: the molecule, and whether the file is a part of its set.

/// A file name, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileName {
    /// The molecule, in one spelling for all mirrors.
    pub(super) molecule: String,
    /// `train_01` of `rmd17_ethanol_train_01`: the file is this part.
    pub(super) part: Option<String>,
}

/// MD22's molecules: the name in the paper, other spellings (letters and digits only), rows that JMP trains and validates on.
const MD22: [(&str, &[&str], u64); 7] = [
    ("Ac-Ala3-NHMe", &["acala3nhme"], 6000),
    ("DHA", &["dha"], 8000),
    ("stachyose", &["stachyose"], 8000),
    ("AT-AT", &["atat"], 3000),
    ("AT-AT-CG-CG", &["atatcgcg"], 2000),
    ("buckyball-catcher", &["buckyballcatcher"], 600),
    ("double-walled_nanotube", &["doublewallednanotube", "dwnanotube"], 800),
];

/// Reads a name without directories and extension.
pub(super) fn read(stem: &str) -> FileName {
    let rest = ["rmd17_", "md17_", "md22_"].iter().find_map(|p| stem.strip_prefix(p)).unwrap_or(stem);
    let part_at = ["train", "val", "test"]
        .iter()
        .flat_map(|part| ["_", "-"].map(|dash| format!("{dash}{part}")))
        .filter_map(|mark| rest.find(&mark))
        .min();
    let (molecule, part) = match part_at {
        Some(at) if at > 0 => (&rest[..at], Some(rest[at + 1..].to_owned())),
        _ => (rest, None),
    };
    let molecule = molecule.strip_suffix("_dft").unwrap_or(molecule);
    // A number of frames.
    let molecule = match molecule.rsplit_once('_') {
        Some((name, digits)) if !name.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => molecule,
    };
    let known = md22(molecule).map_or(molecule, |m| m.0);
    FileName { molecule: known.to_owned(), part }
}

fn md22(name: &str) -> Option<&'static (&'static str, &'static [&'static str], u64)> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    MD22.iter().find(|(_, spellings, _)| spellings.contains(&plain.as_str()))
}

/// Rows of JMP's training and validation sets together, for a molecule of MD22.
pub(super) fn md22_total(molecule: &str) -> Option<u64> {
    md22(molecule).map(|m| m.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_mirror() {
        let check = |stem: &str, molecule: &str, part: Option<&str>| {
            assert_eq!(read(stem), FileName { molecule: molecule.into(), part: part.map(str::to_owned) });
        };
        check("rmd17_ethanol", "ethanol", None);
        check("rmd17_ethanol_train_01", "ethanol", Some("train_01"));
        check("aspirin_ccsd-test", "aspirin_ccsd", Some("test"));
        check("ethanol_dft", "ethanol", None);
        check("md17_ethanol_2000", "ethanol", None);
        check("benzene2017_dft", "benzene2017", None);
        check("md22_AT-AT-CG-CG", "AT-AT-CG-CG", None);
        check("md22_at_at", "AT-AT", None);
        check("md22_dw_nanotube", "double-walled_nanotube", None);
        check("Double_walled_nanotube", "double-walled_nanotube", None);
        check("md22_Ac-Ala3-NHMe", "Ac-Ala3-NHMe", None);
        check("2000", "2000", None);
        assert_eq!(md22_total("double-walled_nanotube"), Some(800));
        assert_eq!(md22_total("ethanol"), None);
    }
}
