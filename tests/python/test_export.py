"""What `jmp-ingest export` writes, read by ASE; and ASE's own files, as jmp-ingest reads them."""
import subprocess
import tempfile
import unittest
from pathlib import Path

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from shard_files import FIXTURES, INGEST, Converted


def exported(shards, *options):
    """The structures of a converted dataset as ASE reads them."""
    out = Path(shards.folder.name) / "out.extxyz"
    done = subprocess.run([str(INGEST), "export", str(shards.dir), str(out), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ase.io.read(out, ":")


class Export(unittest.TestCase):
    def check(self, dataset, fixture, options=()):
        shards = Converted(dataset, fixture, options=options)
        self.addCleanup(shards.close)
        frames = exported(shards)
        columns = {name: shards.column(name) for name in shards.table.column_names}
        self.assertEqual(len(frames), len(columns["id"]))
        for row, atoms in enumerate(frames):
            value = {name: column[row] for name, column in columns.items()}
            self.assertEqual(atoms.info["id"], value["id"])
            np.testing.assert_array_equal(atoms.numbers, value["atomic_numbers"])
            # To the last bit: no tolerance.
            np.testing.assert_array_equal(atoms.positions.ravel(), np.array(value["positions"], float))
            np.testing.assert_array_equal(atoms.pbc, value["pbc"])
            np.testing.assert_array_equal(atoms.cell.array.ravel(), value["cell"] or np.zeros(9))
            if value["energy"] is not None:
                self.assertEqual(atoms.get_potential_energy(), value["energy"])
            if value["forces"] is not None:
                forces = atoms.get_forces(apply_constraint=False)
                np.testing.assert_array_equal(forces.ravel(), np.array(value["forces"], float))
            if value["stress"] is not None:
                np.testing.assert_array_equal(atoms.get_stress(apply_constraint=False), value["stress"])
            if value["tags"] is not None:
                np.testing.assert_array_equal(atoms.get_tags(), value["tags"])
            fixed = np.zeros(len(atoms), bool)
            for constraint in atoms.constraints:
                fixed[constraint.index] = True
            np.testing.assert_array_equal(fixed, value["fixed"] or np.zeros(len(atoms), bool))
            for name in ("charge", "spin"):
                self.assertEqual(atoms.info.get(name), value[name])
        return frames

    def test_molecules(self):
        self.check("ani1x", "ani1x/ani1x-release.h5")

    def test_slabs_from_the_archive(self):
        frames = self.check("oc20", "oc20/s2ef_train_fixture.tar")
        self.assertTrue(all(frame.constraints for frame in frames))

    def test_trajectory_with_stress(self):
        self.check("traj", "ase_files/frames.traj")

    def test_database_with_charge_and_spin(self):
        self.check("db", "ase_files/rows.db")

    def test_narrowed(self):
        self.check("db", "ase_files/rows.db", ("--f32",))


class AseFiles(unittest.TestCase):
    """Files that ASE writes here and now, read by jmp-ingest."""

    def setUp(self):
        rng = np.random.default_rng(5)
        self.frames = []
        for i in range(12):
            n = 5 + i
            grid = 2.5 * np.stack(np.unravel_index(np.arange(n), (3, 3, 3)), axis=1)
            atoms = Atoms(numbers=rng.integers(1, 90, n), positions=grid + 0.1 * rng.normal(size=(n, 3)),
                          cell=rng.normal(size=(3, 3)) + 12 * np.eye(3), pbc=[True, i % 2 == 0, True])
            atoms.set_constraint(FixAtoms(indices=[0, n - 1]))
            atoms.calc = SinglePointCalculator(atoms, energy=rng.normal() * 1e3, forces=rng.normal(size=(n, 3)),
                                               stress=rng.normal(size=6))
            self.frames.append(atoms)
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def check(self, dataset, path, tolerance):
        shards = Converted(dataset, str(path))
        self.addCleanup(shards.close)
        for name, want in (("positions", [a.positions for a in self.frames]), ("cell", [a.cell.array for a in self.frames]),
                           ("forces", [a.get_forces(apply_constraint=False) for a in self.frames]),
                           ("stress", [a.get_stress(apply_constraint=False) for a in self.frames]),
                           ("energy", [a.get_potential_energy() for a in self.frames]),
                           ("pbc", [a.pbc for a in self.frames]), ("atomic_numbers", [a.numbers for a in self.frames])):
            for got, expected in zip(shards.column(name), want, strict=True):
                np.testing.assert_allclose(np.ravel(got).astype(float), np.ravel(expected).astype(float), rtol=0, atol=tolerance)
        self.assertTrue(all(fixed[0] and fixed[-1] and sum(fixed) == 2 for fixed in shards.column("fixed")))

    def test_extxyz(self):
        path = Path(self.folder.name) / "a.extxyz"
        ase.io.write(path, self.frames, write_results=True)
        # ASE rounds to eight decimals.
        self.check("extxyz", path, 1e-8)

    def test_trajectory(self):
        path = Path(self.folder.name) / "a.traj"
        ase.io.write(path, self.frames)
        self.check("traj", path, 0)

    def test_database(self):
        path = Path(self.folder.name) / "a.db"
        with ase.db.connect(path, use_lock_file=False) as db:
            for atoms in self.frames:
                db.write(atoms)
        self.check("db", path, 0)


if __name__ == "__main__":
    unittest.main()
