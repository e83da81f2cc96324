//! What the formats decode to, and the program as a user runs it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod ase_files;
mod command_line;
mod corpora;
mod engine;
mod export;
mod fixtures;
mod fixtures_molecules;
mod hostile;
mod hostile_molecules;
mod materials;
mod oc20;
mod own_data;
mod real_ase;
mod real_data;
mod real_molecules;

use std::path::PathBuf;

use ingest::IngestError;
use ingest::formats::{Format, Options, open};
use ingest::input::Input;
use ingest::source::{Sink, Source};
use serde_json::Value as Json;
use shards::Structure;

/// A file of the repository's fixtures.
fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../tests/fixtures", name].iter().collect()
}

fn truth(set: &str) -> Json {
    let path = fixture(set).join("truth.json");
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Keeps everything it is given.
#[derive(Default)]
struct Collect {
    structures: Vec<Structure>,
    rejects: Vec<(String, String)>,
}

impl Sink for Collect {
    fn structure(&mut self, structure: Structure) -> Result<(), IngestError> {
        structure.check().unwrap_or_else(|e| panic!("{}: {e}", structure.id));
        self.structures.push(structure);
        Ok(())
    }

    fn reject(&mut self, id: &str, _: &'static str, reason: &str) -> Result<(), IngestError> {
        self.rejects.push((id.to_owned(), reason.to_owned()));
        Ok(())
    }

    fn leave_out(&mut self, id: &str, code: &'static str, _: &str) {
        self.rejects.push((id.to_owned(), code.to_owned()));
    }
}

/// Reads all units of a source.
fn read(source: &dyn Source) -> Collect {
    let mut all = Collect::default();
    for unit in 0..source.units().len() {
        source.read(unit, &mut all).unwrap();
    }
    all
}

fn source(format: Format, paths: &[PathBuf], options: &Options) -> Box<dyn Source> {
    let inputs: Vec<Input> = paths.iter().map(|p| Input { split: None, path: p.clone() }).collect();
    open(format, &inputs, options).unwrap()
}

fn numbers(value: &Json) -> Vec<f64> {
    match value {
        Json::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap_or_else(|| panic!("{other} is no number"))],
    }
}

/// Compares with a structure of truth.json: energies to 1e-9 eV, forces to 1e-6 eV/Å, positions to the width they have.
#[track_caller]
fn check(got: &Structure, want: &Json) {
    let id = &got.id;
    let z: Vec<f64> = got.atomic_numbers.iter().map(|&z| f64::from(z)).collect();
    assert_eq!(z, numbers(&want["numbers"]), "{id}");
    close(id, "positions", &got.positions.to_f64(), &numbers(&want["positions_ang"]), 1e-6);
    let (energy, expected) = (got.energy.unwrap(), want["energy_ev"].as_f64().unwrap());
    assert!((energy - expected).abs() < 1e-9, "{id}: energy {energy}, expected {expected}");
    let forces = got.forces.as_ref().unwrap().to_f64();
    close(id, "forces", &forces, &numbers(&want["forces_ev_per_ang"]), 1e-6);
}

#[track_caller]
fn close(id: &str, what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{id}: {what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        // Written so that a NaN fails.
        assert!((g - w).abs() <= tolerance, "{id}: {what}[{i}] is {g}, expected {w}");
    }
}
