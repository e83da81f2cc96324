//! The attributes of a torch_geometric `Data`, whichever version wrote it.

use std::collections::BTreeMap;

use super::value::{Decoded, Item, Value};
use crate::array::Array;

/// One attribute of a record.
#[derive(Debug, Clone, Copy)]
pub enum Attribute<'d, 'a> {
    /// An integer or boolean.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Str(&'d str),
    /// A tensor or array.
    Array(&'d Array<'a>),
    /// Something that no reader here needs.
    Other,
}

/// The attributes by name; those that are `None` are left out, as fairchem and JMP do.
#[derive(Debug, Default)]
pub struct Record<'d, 'a>(BTreeMap<&'d str, Attribute<'d, 'a>>);

impl<'d, 'a> Record<'d, 'a> {
    /// The attributes of an object or dict: PyG 1.x keeps them in `__dict__`, PyG 2.x in `_store._mapping`.
    ///
    /// Returns `None` when `value` is neither.
    pub fn of(decoded: &'d Decoded<'a>, value: Value) -> Option<Self> {
        let state = match decoded.item(value) {
            Item::Object(state) => state,
            Item::Dict(_) => value,
            _ => return None,
        };
        let mapping = decoded.entry(state, "_store").and_then(|store| match decoded.item(store) {
            Item::Object(inner) => decoded.entry(inner, "_mapping"),
            _ => None,
        });
        let Item::Dict(entries) = decoded.item(mapping.unwrap_or(state)) else { return None };
        let mut attributes = BTreeMap::new();
        for (key, value) in entries {
            let Item::Str(name) = decoded.item(*key) else { continue };
            let attribute = match decoded.item(*value) {
                Item::None => continue,
                Item::Bool(b) => Attribute::Int(i64::from(b)),
                Item::Int(i) => Attribute::Int(i),
                Item::Float(f) => Attribute::Float(f),
                Item::Str(s) => Attribute::Str(s),
                Item::Array(array) => Attribute::Array(array),
                _ => Attribute::Other,
            };
            attributes.insert(name, attribute);
        }
        Some(Self(attributes))
    }

    /// The attribute of that name.
    pub fn get(&self, name: &str) -> Option<Attribute<'d, 'a>> {
        self.0.get(name).copied()
    }

    /// The first of several names that exists: `energy` of 2024 was `y` before.
    pub fn first(&self, names: &[&'static str]) -> Option<(&'static str, Attribute<'d, 'a>)> {
        names.iter().find_map(|&name| Some((name, self.get(name)?)))
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'d str> + '_ {
        self.0.keys().copied()
    }
}
