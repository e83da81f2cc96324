"""Shards, judged by other people's libraries: values, units, references, statistics, splits."""
import sys
import tempfile
import unittest
from pathlib import Path

import duckdb
import h5py
import lmdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from shard_files import FIXTURES, Converted, truth

sys.path.insert(0, str(FIXTURES / "make"))
import safe_unpickle  # noqa: E402  (our own reference reader of pickles, which executes nothing)

HARTREE = truth("ani1x")["units"]["constants_ase"]["hartree_ev"]
KCALMOL = truth("rmd17")["units"]["constants_ase"]["kcalmol_ev"]


class Ani1x(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shards = Converted("ani1x", "ani1x/ani1x-release.h5")

    @classmethod
    def tearDownClass(cls):
        cls.shards.close()

    def test_every_row_equals_the_hdf5_file_in_ev(self):
        numbers, positions = self.shards.column("atomic_numbers"), self.shards.column("positions")
        energies, forces = self.shards.column("energy"), self.shards.column("forces")
        row = 0
        with h5py.File(FIXTURES / "ani1x" / "ani1x-release.h5") as file:
            for formula in file:
                group = file[formula]
                if len(group["atomic_numbers"]) < 4:
                    continue
                for frame in range(len(group["coordinates"])):
                    np.testing.assert_array_equal(numbers[row], group["atomic_numbers"][:])
                    # Positions keep the source's float32 to the bit.
                    np.testing.assert_array_equal(np.float32(positions[row]), group["coordinates"][frame].ravel())
                    self.assertEqual(energies[row], group["wb97x_dz.energy"][frame] * HARTREE)
                    expected = group["wb97x_dz.forces"][frame].ravel().astype(float) * HARTREE
                    np.testing.assert_array_equal(np.float32(forces[row]), expected.astype(np.float32))
                    row += 1
        self.assertEqual(row, len(energies))

    def test_pyarrow_polars_and_duckdb_read_the_same(self):
        for part in self.shards.parts:
            by_arrow = pq.read_table(part)
            by_polars = pl.read_parquet(part)
            by_duck = duckdb.sql("SELECT * FROM read_parquet('%s')" % part).fetchall()
            self.assertEqual(by_arrow.column_names, by_polars.columns)
            self.assertEqual(by_arrow.num_rows, len(by_duck))
            names = by_arrow.column_names
            for name in ("id", "natoms", "atomic_numbers", "positions", "energy", "forces"):
                column = by_arrow.column(name).to_pylist()
                self.assertEqual(column, by_polars[name].to_list(), name)
                duck = [list(v) if isinstance(v, (tuple, list)) else v for v in (r[names.index(name)] for r in by_duck)]
                if name == "atomic_numbers":
                    duck = [[int(z) for z in v] for v in duck]
                self.assertEqual(column, duck, name)

    def test_columns_tell_unit_and_meaning(self):
        schema = pq.read_schema(self.shards.parts[0])
        for name, unit in (("positions", "Å"), ("energy", "eV"), ("forces", "eV/Å")):
            metadata = schema.field(name).metadata
            self.assertEqual(metadata[b"unit"].decode(), unit)
            self.assertTrue(metadata[b"meaning"])


class Oc(unittest.TestCase):
    def check_lmdb(self, dataset, folder):
        shards = Converted(dataset, folder)
        self.addCleanup(shards.close)
        row = 0
        for path in sorted((FIXTURES / folder).glob("*.lmdb")):
            with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env, env.begin() as transaction:
                values = dict(transaction.cursor())
            length = values.pop(b"length", None)
            self.assertTrue(length is None or len(values) >= 1)
            for index in range(len(values)):
                fields = safe_unpickle.fields(safe_unpickle.loads(values[b"%d" % index]))
                energy = float(np.asarray(fields.get("y", fields.get("energy"))).ravel()[0])
                forces = fields["force"] if "force" in fields else fields["forces"]
                np.testing.assert_array_equal(shards.column("positions")[row], np.asarray(fields["pos"], float).ravel())
                np.testing.assert_array_equal(shards.column("forces")[row], np.asarray(forces, float).ravel())
                np.testing.assert_array_equal(shards.column("cell")[row], np.asarray(fields["cell"], float).ravel())
                np.testing.assert_array_equal(shards.column("tags")[row], np.asarray(fields["tags"]).ravel())
                self.assertEqual(shards.column("energy")[row], energy)
                self.assertEqual(shards.column("pbc")[row], [True, True, True])
                row += 1
        self.assertEqual(row, shards.table.num_rows)

    def test_pyg_2(self):
        self.check_lmdb("oc20", "oc20/s2ef_pyg2")

    def test_pyg_1(self):
        self.check_lmdb("oc20", "oc20/s2ef_pyg1")

    def test_oc22(self):
        self.check_lmdb("oc22", "oc22/s2ef-total/train")


class Numbers(unittest.TestCase):
    def check_numbers(self, shards):
        self.addCleanup(shards.close)
        energies, forces = shards.column("energy"), shards.column("forces")
        natoms = np.array(shards.column("natoms"))
        for name, record in shards.manifest["splits"].items():
            rows = shards.split(name)
            statistics = record["statistics"]
            self.assertEqual(statistics["structures"], len(rows))
            if len(rows) == 0:
                continue
            y = np.array([energies[row] for row in rows])
            told = statistics["labels"]["energy"]
            self.assertEqual(statistics["atoms"], natoms[rows].sum())
            np.testing.assert_allclose([told["mean"], told["std"]], [y.mean(), y.std()], rtol=1e-12, atol=1e-12)
            self.assertEqual([told["min"], told["max"]], [y.min(), y.max()])
            components = np.concatenate([forces[row] for row in rows])
            np.testing.assert_allclose(statistics["forces"]["rms"], np.sqrt(np.mean(components**2)), rtol=1e-12)
            norms = np.linalg.norm(components.reshape(-1, 3), axis=1)
            np.testing.assert_allclose(statistics["forces"]["max_norm"], norms.max(), rtol=1e-12)
            np.testing.assert_allclose(statistics["forces"]["mean_norm"], norms.mean(), rtol=1e-12)
            self.check_reference(told, shards.counts(rows), y)

    def check_reference(self, told, counts, y):
        """The reference is numpy's least-squares solution (of least norm where the rank is short)."""
        reference = told["reference"]
        present = np.flatnonzero(counts.any(axis=0))
        self.assertEqual(sorted(map(int, reference["coefficients"])), list(present))
        matrix = counts[:, present]
        solution, _, rank, singular = np.linalg.lstsq(matrix, y, rcond=None)
        self.assertEqual(reference["rank"], rank)
        got = np.array([reference["coefficients"][str(z)] for z in present])
        np.testing.assert_allclose(got, solution, rtol=1e-8, atol=1e-8 * np.abs(solution).max())
        np.testing.assert_allclose(reference["condition"], singular[0] / singular[rank - 1], rtol=1e-6)
        residual = y - matrix @ solution
        scale = 1e-7 * max(1.0, residual.std())
        np.testing.assert_allclose(told["referenced"]["std"], residual.std(), atol=scale)
        np.testing.assert_allclose(told["referenced"]["mae"], np.abs(residual).mean(), atol=scale)

    def test_ani1x(self):
        self.check_numbers(Converted("ani1x", "ani1x/ani1x-release.h5"))

    def test_oc22(self):
        self.check_numbers(Converted("oc22", "train=oc22/s2ef-total/train", "val_id=oc22/s2ef-total/val_id"))

    def test_rmd17_is_of_one_formula(self):
        self.check_numbers(Converted("rmd17", "rmd17/rmd17/npz_data/rmd17_ethanol.npz"))

    def test_a_given_reference_is_what_numpy_subtracts(self):
        vector = np.zeros(100)
        vector[[1, 6, 7, 8]] = -13.6, -1029.4, -1484.9, -2041.8
        with tempfile.TemporaryDirectory() as folder:
            for array in (vector, np.stack([vector, vector + 1])):
                file = Path(folder) / ("reference%d.npz" % array.ndim)
                np.savez(file, coeff=array)
                shards = Converted("ani1x", "ani1x/ani1x-release.h5", options=["--linear-reference", file])
                self.addCleanup(shards.close)
                energies = shards.column("energy")
                for name, record in shards.manifest["splits"].items():
                    rows = shards.split(name)
                    residual = np.array([energies[row] for row in rows]) - shards.counts(rows)[:, :100] @ vector
                    told = record["statistics"]["labels"]["energy"]
                    self.assertEqual((told["reference"]["given"], told["reference"]["rank"]), (file.name, None))
                    got = [told["referenced"][key] for key in ("mean", "std", "mae", "max_abs")]
                    expected = [residual.mean(), residual.std(), np.abs(residual).mean(), np.abs(residual).max()]
                    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


class Rmd17(unittest.TestCase):
    def test_every_row_equals_the_npz_in_ev(self):
        shards = Converted("rmd17", "rmd17/rmd17/npz_data/rmd17_ethanol.npz")
        self.addCleanup(shards.close)
        source = np.load(FIXTURES / "rmd17/rmd17/npz_data/rmd17_ethanol.npz")
        np.testing.assert_array_equal(shards.column("positions"), source["coords"].reshape(len(source["coords"]), -1))
        np.testing.assert_allclose(shards.column("energy"), source["energies"] * KCALMOL, rtol=1e-15)
        expected = source["forces"].reshape(len(source["forces"]), -1) * KCALMOL
        np.testing.assert_allclose(shards.column("forces"), expected, rtol=1e-15)


if __name__ == "__main__":
    unittest.main(module=Path(__file__).stem)
