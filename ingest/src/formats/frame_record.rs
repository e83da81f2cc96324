//! A frame of extxyz → a [`Raw`] structure: which entries and columns are what.

use crate::extxyz::{Column, Frame, Info, Values, numbers};

use super::labels::{CHARGE_KEYS, Labels, Raw, SPIN_KEYS, voigt};

/// Columns that a frame is read with, beside species and positions.
pub(super) fn wanted(labels: &Labels) -> Vec<&str> {
    let mut names = labels.forces_keys();
    names.extend(["tags", "move_mask"]);
    names
}

/// Reads a frame; `id` names it if the frame does not.
pub(super) fn raw(frame: Frame, labels: &Labels, id: String) -> Result<Raw, String> {
    let info = &frame.info;
    let cell = info.lattice()?;
    let pbc = info.pbc(cell.is_some())?;
    let entry = |key: &Option<String>| key.as_deref().map(|key| named(info, key)).transpose();
    let forces = labels.forces_keys().into_iter().find_map(|name| frame.column(name));
    let target = |(name, _): &(String, String)| info.number(&[name.as_str()]);
    Ok(Raw {
        id: entry(&labels.id_key)?.unwrap_or(id),
        group: entry(&labels.group_key)?,
        cell,
        pbc,
        tags: frame.tags()?,
        fixed: frame.column("move_mask").map(fixed).transpose()?,
        charge: info.number(&CHARGE_KEYS)?,
        spin: info.number(&SPIN_KEYS)?,
        energy: info.number(&labels.energy_keys())?,
        forces: forces.map(vectors).transpose()?,
        stress: tensor(info, "stress")?,
        virial: tensor(info, "virial")?,
        targets: labels.targets.iter().map(target).collect::<Result<_, _>>()?,
        atomic_numbers: frame.atomic_numbers,
        positions: frame.positions,
    })
}

fn named(info: &Info, key: &str) -> Result<String, String> {
    let known = || info.keys().collect::<Vec<_>>().join(", ");
    info.text(key).map(str::to_owned).ok_or_else(|| format!("no entry `{key}`; there is {}", known()))
}

fn vectors(column: &Column) -> Result<Vec<f64>, String> {
    let values = column.values.to_f64().filter(|_| column.width == 3);
    values.ok_or_else(|| format!("`{}`: expected three numbers an atom", column.name))
}

/// `move_mask` is true for an atom, or a direction, that may move: fixed is what may move nowhere.
fn fixed(column: &Column) -> Result<Vec<bool>, String> {
    match (&column.values, column.width) {
        (Values::Logical(free), 1 | 3) => {
            Ok(free.chunks(column.width).map(|axes| !axes.contains(&true)).collect())
        }
        _ => Err("`move_mask`: expected one or three of T and F an atom (move_mask:L:1)".to_owned()),
    }
}

fn tensor(info: &Info, key: &str) -> Result<Option<[f64; 6]>, String> {
    let Some(text) = info.text(key) else { return Ok(None) };
    let values = numbers(text).and_then(|values| voigt(&values));
    values
        .map(Some)
        .ok_or_else(|| format!("`{key}`: expected nine numbers, or six in Voigt order, found {text:?}"))
}
