//! A structure as ASE stores it (ASE-LMDB, trajectory, database) → a [`Raw`] structure.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use shards::element::MAX_ATOMIC_NUMBER;

use super::labels::{CHARGE_KEYS, Labels, Raw, SPIN_KEYS, voigt};
use crate::ase_json;

/// A field of a row.
#[derive(Debug, Clone)]
pub(super) enum Field {
    /// As JSON.
    Json(Json),
    /// Numbers read from elsewhere.
    Numbers(Vec<f64>),
}

impl Field {
    fn numbers(&self) -> Option<Vec<f64>> {
        match self {
            Self::Json(value) => ase_json::numbers(value),
            Self::Numbers(values) => Some(values.clone()),
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Json(Json::Null))
    }

    fn shown(&self) -> String {
        match self {
            Self::Json(value) => ase_json::shown(value),
            Self::Numbers(values) => format!("{} numbers", values.len()),
        }
    }
}

/// Fields by name. A field that a row's own part lacks is looked for in what the user added to the row.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// What ASE itself stores: atoms, results, constraints.
    pub(super) own: BTreeMap<String, Field>,
    /// `key_value_pairs`, `data`, `info`: JSON objects in the order in which they are searched.
    pub(super) added: Vec<Json>,
}

impl Row {
    /// A row that is one JSON object.
    pub(super) fn of(object: Json) -> Result<Self, String> {
        let Json::Object(fields) = object else {
            return Err(format!("expected an object, found {}", ase_json::shown(&object)));
        };
        let mut row = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "key_value_pairs" | "data" | "info" => row.add(value),
                _ => drop(row.own.insert(name, Field::Json(value))),
            }
        }
        Ok(row)
    }

    /// Adds an object, or the text of one.
    pub(super) fn add(&mut self, value: Json) {
        match value {
            Json::Object(_) => self.added.push(value),
            Json::String(text) => {
                self.added.extend(ase_json::parse(text.as_bytes()).ok().filter(Json::is_object));
            }
            _ => {}
        }
    }

    fn own(&self, name: &str) -> Option<&Field> {
        self.own.get(name).filter(|f| !f.is_null())
    }

    /// A field wherever it is.
    fn find(&self, name: &str) -> Option<Field> {
        let added = || self.added.iter().find_map(|o| o.get(name)).filter(|v| !v.is_null());
        self.own(name).cloned().or_else(|| added().cloned().map(Field::Json))
    }

    fn first(&self, names: &[&str]) -> Option<(String, Field)> {
        names.iter().find_map(|name| Some(((*name).to_owned(), self.find(name)?)))
    }

    /// Numbers of a field of the row's own, `count` of them.
    fn array(&self, name: &str, count: usize) -> Result<Option<Vec<f64>>, String> {
        self.own(name).map(|field| counted(name, field, count)).transpose()
    }

    fn scalar(&self, names: &[&str]) -> Result<Option<f64>, String> {
        let Some((name, field)) = self.first(names) else { return Ok(None) };
        match field.numbers().as_deref() {
            Some([one]) => Ok(Some(*one)),
            _ => Err(format!("`{name}`: expected a number, found {}", field.shown())),
        }
    }

    fn text(&self, name: &str) -> Result<String, String> {
        match self.find(name) {
            Some(Field::Json(Json::String(text))) => Ok(text),
            Some(Field::Json(value @ (Json::Number(_) | Json::Bool(_)))) => Ok(value.to_string()),
            Some(field) => Err(format!("`{name}`: expected a text or a number, found {}", field.shown())),
            None => Err(format!("no `{name}`; there is {}", self.names().join(", "))),
        }
    }

    /// Names that may hold what was not found.
    pub(super) fn names(&self) -> Vec<String> {
        let own = self.own.keys().cloned();
        let added = self.added.iter().filter_map(Json::as_object).flat_map(|o| o.keys().cloned());
        own.chain(added).collect()
    }

    /// The structure that the row is; `id` names it unless the user names an entry that does.
    pub(super) fn raw(&self, labels: &Labels, id: String) -> Result<Raw, String> {
        let numbers = self
            .own("numbers")
            .ok_or_else(|| format!("no `numbers`; there is {}", self.names().join(", ")))?;
        let atomic_numbers = atomic_numbers(numbers)?;
        let n = atomic_numbers.len();
        let positions = self.array("positions", 3 * n)?.ok_or("no `positions`")?;
        let cell = self.cell()?;
        let pbc = self.array("pbc", 3)?.map_or([false; 3], |p| [p[0] != 0.0, p[1] != 0.0, p[2] != 0.0]);
        let forces = self.first(&labels.forces_keys());
        let stress = self.first(&["stress"]);
        let entry = |key: &Option<String>| key.as_deref().map(|key| self.text(key)).transpose();
        Ok(Raw {
            id: entry(&labels.id_key)?.unwrap_or(id),
            group: entry(&labels.group_key)?,
            positions,
            cell,
            pbc,
            tags: self.array("tags", n)?.map(|t| t.into_iter().map(|t| t as i64).collect()),
            fixed: self.fixed(n)?,
            charge: self.scalar(&CHARGE_KEYS)?,
            spin: self.scalar(&SPIN_KEYS)?,
            energy: self.scalar(&labels.energy_keys())?,
            forces: forces.map(|(name, field)| counted(&name, &field, 3 * n)).transpose()?,
            stress: stress.map(|(_, field)| tensor(&field)).transpose()?,
            virial: None,
            targets: labels
                .targets
                .iter()
                .map(|(name, _)| self.scalar(&[name.as_str()]))
                .collect::<Result<_, _>>()?,
            atomic_numbers,
        })
    }

    /// Cell vectors as rows, or three lengths; all 0 is no cell.
    fn cell(&self) -> Result<Option<[f64; 9]>, String> {
        let Some(field) = self.own("cell") else { return Ok(None) };
        let values = field.numbers().unwrap_or_default();
        let cell = match *values.as_slice() {
            [a, b, c] => Some([a, 0.0, 0.0, 0.0, b, 0.0, 0.0, 0.0, c]),
            _ => <[f64; 9]>::try_from(values).ok(),
        };
        let cell = cell.ok_or_else(|| format!("`cell`: expected nine numbers, found {}", field.shown()))?;
        Ok(Some(cell).filter(|c| c.iter().any(|&x| x != 0.0)))
    }

    /// Atoms that a `FixAtoms` constraint holds in place. Other constraints leave atoms some freedom.
    fn fixed(&self, atoms: usize) -> Result<Option<Vec<bool>>, String> {
        let constraints = match self.own("constraints") {
            None => return Ok(None),
            Some(Field::Json(Json::String(text))) => {
                ase_json::parse(text.as_bytes()).map_err(|p| format!("`constraints`: {p}"))?
            }
            Some(Field::Json(value)) => value.clone(),
            Some(field) => return Err(format!("`constraints`: expected a list, found {}", field.shown())),
        };
        let list = constraints.as_array().ok_or_else(|| {
            format!("`constraints`: expected a list, found {}", ase_json::shown(&constraints))
        })?;
        let mut fixed = vec![false; atoms];
        for constraint in list.iter().filter(|c| c["name"] == "FixAtoms") {
            let indices = &constraint["kwargs"]["indices"];
            let wrong = || {
                format!(
                    "`constraints`: expected indices of {atoms} atoms, found {}",
                    ase_json::shown(indices)
                )
            };
            let is_mask = indices.as_array().is_some_and(|i| !i.is_empty() && i.iter().all(Json::is_boolean));
            let values = ase_json::numbers(indices).ok_or_else(wrong)?;
            if is_mask && values.len() == atoms {
                fixed.iter_mut().zip(&values).for_each(|(f, &v)| *f |= v != 0.0);
                continue;
            }
            for index in values {
                // Python counts negative ones from the end.
                let at = if index < 0.0 { index + atoms as f64 } else { index };
                let slot = if at >= 0.0 && at.fract() == 0.0 { fixed.get_mut(at as usize) } else { None };
                *slot.ok_or_else(wrong)? = true;
            }
        }
        Ok(Some(fixed))
    }
}

fn atomic_numbers(field: &Field) -> Result<Vec<u8>, String> {
    let values = field
        .numbers()
        .ok_or_else(|| format!("`numbers`: expected atomic numbers, found {}", field.shown()))?;
    let convert = |z: f64| {
        let known = z.fract() == 0.0 && z >= 1.0 && z <= f64::from(MAX_ATOMIC_NUMBER);
        if known {
            Ok(z as u8)
        } else {
            Err(format!("`numbers`: expected atomic numbers from 1 to 118, found {z}"))
        }
    };
    values.into_iter().map(convert).collect()
}

fn counted(name: &str, field: &Field, count: usize) -> Result<Vec<f64>, String> {
    let values =
        field.numbers().ok_or_else(|| format!("`{name}`: expected numbers, found {}", field.shown()))?;
    if values.len() == count {
        Ok(values)
    } else {
        Err(format!("`{name}`: expected {count} numbers, found {}", values.len()))
    }
}

fn tensor(field: &Field) -> Result<[f64; 6], String> {
    let values = field.numbers().and_then(|values| voigt(&values));
    values.ok_or_else(|| {
        format!("`stress`: expected six numbers in Voigt order, or nine, found {}", field.shown())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Result<Raw, String> {
        Row::of(ase_json::parse(text.as_bytes()).unwrap()).unwrap().raw(&Labels::default(), "x".to_owned())
    }

    #[test]
    fn rows_in_both_spellings() {
        let text = r#"{"numbers": [8, 1], "positions": {"__ndarray__": [[2, 3], "float64", [0, 0, 0, 1, 0, 0]]},
            "cell": [[2, 0, 0], [0, 3, 0], [0, 0, 4]], "pbc": [true, true, false], "tags": [0, 2], "energy": -1.5,
            "stress": [1, 2, 3, 4, 5, 6], "data": {"charge": -1, "forces": [[1, 2, 3], [4, 5, 6]]},
            "key_value_pairs": "{\"spin\": 3}",
            "constraints": [{"name": "FixAtoms", "kwargs": {"indices": [-1]}}, {"name": "FixBondLengths", "kwargs": {}}]}"#;
        let got = raw(text).unwrap();
        assert_eq!(
            (got.atomic_numbers.as_slice(), got.positions[3], got.cell.unwrap()[8]),
            (&[8, 1][..], 1.0, 4.0)
        );
        assert_eq!(
            (got.pbc, got.tags, got.fixed),
            ([true, true, false], Some(vec![0, 2]), Some(vec![false, true]))
        );
        assert_eq!((got.charge, got.spin, got.energy), (Some(-1.0), Some(3.0), Some(-1.5)));
        assert_eq!((got.forces.unwrap()[5], got.stress), (6.0, Some([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])));
        let mask = r#"{"numbers": [1, 1], "positions": [0, 0, 0, 1, 1, 1], "cell": [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
            "constraints": "[{\"name\": \"FixAtoms\", \"kwargs\": {\"indices\": [true, false]}}]"}"#;
        let got = raw(mask).unwrap();
        assert_eq!((got.fixed, got.cell, got.energy), (Some(vec![true, false]), None, None));
    }

    #[test]
    fn rows_that_are_wrong_say_what_was_expected() {
        let check = |text: &str, expected: &str| {
            let error = raw(text).unwrap_err();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        };
        check(r#"{"positions": []}"#, "no `numbers`; there is positions");
        check(r#"{"numbers": [0], "positions": [0, 0, 0]}"#, "atomic numbers from 1 to 118, found 0");
        check(r#"{"numbers": [1], "positions": [0, 0]}"#, "`positions`: expected 3 numbers, found 2");
        check(r#"{"numbers": [1], "positions": [0, 0, "a"]}"#, "`positions`: expected numbers");
        check(r#"{"numbers": [1], "positions": [0, 0, 0], "energy": [1, 2]}"#, "`energy`: expected a number");
        check(r#"{"numbers": [1], "positions": [0, 0, 0], "stress": [1]}"#, "six numbers in Voigt order");
        check(
            r#"{"numbers": [1], "positions": [0, 0, 0], "constraints": [{"name": "FixAtoms", "kwargs": {"indices": [5]}}]}"#,
            "expected indices of 1 atoms, found [5]",
        );
        assert!(Row::of(Json::Null).is_err());
    }
}
