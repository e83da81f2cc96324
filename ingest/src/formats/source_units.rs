//! The units of a user's own data: `eV,Å`, `hartree,bohr`, `kcal/mol,Å`.

use std::str::FromStr;

use shards::units::{ConstantSet, Constants};

/// A unit of energy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Energy {
    Ev,
    MilliEv,
    Hartree,
    Rydberg,
    KcalMol,
    KjMol,
}

/// A unit of length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Angstrom,
    Bohr,
    Nanometre,
}

/// A unit of stress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pressure {
    /// Energy over length cubed.
    Quotient(Energy, Length),
    Gpa,
    Kbar,
}

/// Units of a source: of energy and length, and, if they do not follow from these, of force and stress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceUnits {
    energy: Energy,
    length: Length,
    force: (Energy, Length),
    stress: Pressure,
    text: String,
}

impl Default for SourceUnits {
    fn default() -> Self {
        let (energy, length) = (Energy::Ev, Length::Angstrom);
        let stress = Pressure::Quotient(energy, length);
        Self { energy, length, force: (energy, length), stress, text: "eV,Å".to_owned() }
    }
}

/// Factors from a source's units to eV, Å, eV/Å and eV/Å³.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Factors {
    pub(crate) energy: f64,
    pub(crate) length: f64,
    pub(crate) force: f64,
    pub(crate) stress: f64,
}

/// One kJ in kcal, exactly.
const KCAL_PER_KJ: f64 = 1.0 / 4.184;
/// One eV/Å³ in GPa: 1.602176634·10⁻¹⁹ J / 10⁻³⁰ m³.
const GPA_PER_EV_A3: f64 = 160.217_663_4;

impl SourceUnits {
    /// As the user wrote it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The units by name and size, for the manifest.
    pub(crate) fn described(&self, set: ConstantSet) -> shards::manifest::SourceUnits {
        let factors = self.factors(set);
        let names: Vec<&str> = self.text.split(',').map(str::trim).collect();
        let (energy, length) = (names[0], names.get(1).copied().unwrap_or("Å"));
        let quotient = format!("{energy}/{length}");
        let force = names.get(2).copied().unwrap_or(&quotient);
        shards::manifest::SourceUnits::new(
            (energy, factors.energy),
            (force, factors.force),
            (length, factors.length),
        )
    }

    /// Whether constants are needed: not for what is in eV and Å already.
    pub fn needs_constants(&self) -> bool {
        let plain = |e, l| matches!(e, Energy::Ev | Energy::MilliEv) && l != Length::Bohr;
        let stress = match self.stress {
            Pressure::Quotient(e, l) => plain(e, l),
            Pressure::Gpa | Pressure::Kbar => true,
        };
        !(plain(self.energy, self.length) && plain(self.force.0, self.force.1) && stress)
    }

    /// The factors with a set of constants.
    pub(crate) fn factors(&self, set: ConstantSet) -> Factors {
        let constants = Constants::of(set);
        let energy = |e| match e {
            Energy::Ev => 1.0,
            Energy::MilliEv => 1e-3,
            Energy::Hartree => constants.hartree_ev,
            Energy::Rydberg => constants.hartree_ev / 2.0,
            Energy::KcalMol => constants.kcal_mol_ev,
            Energy::KjMol => constants.kcal_mol_ev * KCAL_PER_KJ,
        };
        let length = |l| match l {
            Length::Angstrom => 1.0,
            Length::Bohr => constants.bohr_angstrom,
            Length::Nanometre => 10.0,
        };
        let stress = match self.stress {
            Pressure::Quotient(e, l) => energy(e) / length(l).powi(3),
            Pressure::Gpa => 1.0 / GPA_PER_EV_A3,
            Pressure::Kbar => 0.1 / GPA_PER_EV_A3,
        };
        Factors {
            energy: energy(self.energy),
            length: length(self.length),
            force: energy(self.force.0) / length(self.force.1),
            stress,
        }
    }
}

const EXPECTED: &str = "expected ENERGY,LENGTH[,FORCE[,STRESS]] such as eV,Å or hartree,angstrom,hartree/bohr or eV,Å,eV/Å,GPa; \
     energies: eV, meV, hartree, rydberg, kcal/mol, kJ/mol; lengths: Å, bohr, nm";

impl FromStr for SourceUnits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let unknown = |part: &str| format!("`{part}` is no unit that is known here; {EXPECTED}");
        let ([first, second] | [first, second, _] | [first, second, _, _]) = parts.as_slice() else {
            return Err(format!("`{text}`: {EXPECTED}"));
        };
        let energy = energy(first).ok_or_else(|| unknown(first))?;
        let length = length(second).ok_or_else(|| unknown(second))?;
        let force = match parts.get(2) {
            Some(part) => {
                let quotient =
                    part.rsplit_once('/').and_then(|(e, l)| Some((self::energy(e)?, self::length(l)?)));
                quotient.ok_or_else(|| unknown(part))?
            }
            None => (energy, length),
        };
        let stress = match parts.get(3) {
            Some(part) => pressure(part).ok_or_else(|| unknown(part))?,
            None => Pressure::Quotient(energy, length),
        };
        Ok(Self { energy, length, force, stress, text: parts.join(",") })
    }
}

fn energy(text: &str) -> Option<Energy> {
    Some(match text.to_lowercase().as_str() {
        "ev" => Energy::Ev,
        "mev" => Energy::MilliEv,
        "hartree" | "ha" | "eh" => Energy::Hartree,
        "rydberg" | "ry" => Energy::Rydberg,
        "kcal/mol" => Energy::KcalMol,
        "kj/mol" => Energy::KjMol,
        _ => return None,
    })
}

fn length(text: &str) -> Option<Length> {
    Some(match text.to_lowercase().as_str() {
        "å" | "a\u{30a}" | "\u{212b}" | "a" | "ang" | "angstrom" => Length::Angstrom,
        "bohr" | "a0" => Length::Bohr,
        "nm" => Length::Nanometre,
        _ => return None,
    })
}

fn pressure(text: &str) -> Option<Pressure> {
    match text.to_lowercase().as_str() {
        "gpa" => Some(Pressure::Gpa),
        "kbar" | "kb" => Some(Pressure::Kbar),
        other => {
            let (e, l) = other.rsplit_once('/')?;
            let l = l.strip_suffix("^3").or_else(|| l.strip_suffix('³')).or_else(|| l.strip_suffix('3'))?;
            Some(Pressure::Quotient(energy(e)?, length(l)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_become_factors() {
        let factors = |text: &str| text.parse::<SourceUnits>().unwrap().factors(ConstantSet::Ase2014);
        let one = Factors { energy: 1.0, length: 1.0, force: 1.0, stress: 1.0 };
        for text in ["eV,Å", "ev, angstrom", "eV,A", "eV,Ang,eV/Å", "eV,Å,eV/Å,eV/Å^3", "eV,Å,eV/Å,eV/ang3"]
        {
            assert_eq!(factors(text), one, "{text}");
        }
        let (ha, bohr, kcal) = (27.211_386_024_367_243, 0.529_177_210_563_841_1, 0.043_364_103_900_593_22);
        assert_eq!(factors("hartree,bohr").force, ha / bohr);
        assert_eq!(
            factors("Ha,Å,Ha/bohr"),
            Factors { energy: ha, length: 1.0, force: ha / bohr, stress: ha }
        );
        let kcal_units = factors("kcal/mol,Å,kcal/mol/Å");
        assert_eq!((kcal_units.energy, kcal_units.force), (kcal, kcal));
        assert!((factors("kJ/mol,nm").force - kcal / 41.84).abs() < 1e-18);
        // 1 eV/Å³ is 160.2 GPa.
        assert!((factors("eV,Å,eV/Å,GPa").stress - 0.006_241_509_07).abs() < 1e-11);
        assert!((factors("eV,Å,eV/Å,kbar").stress - 0.000_624_150_907).abs() < 1e-12);
    }

    #[test]
    fn unknown_units_are_told() {
        for text in ["eV", "eV,Å,eV", "joule,m", "eV,Å,eV/Å,bar", "", "eV,Å,eV/Å,eV/Å", "a,b,c,d,e"] {
            let error = text.parse::<SourceUnits>().unwrap_err();
            assert!(error.contains("expected ENERGY,LENGTH"), "{error}");
        }
        let needs = |text: &str| text.parse::<SourceUnits>().unwrap().needs_constants();
        assert!(!needs("eV,Å") && !needs("meV,nm") && needs("eV,bohr") && needs("eV,Å,hartree/bohr"));
    }
}
