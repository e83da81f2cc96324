"""Errors as `jmp-train evaluate` and `jmp-tools results` tell them, recomputed by pyarrow, polars and numpy from the
predictions' Parquet files and the shards: whole, per element, per size, per fold, and their mean; in the paper's units.
"""
import json
import os
import subprocess
import unittest
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from shard_files import ROOT, Converted

TRAIN = Path(os.environ.get("JMP_TRAIN", ROOT / "target" / "release" / "jmp-train")).resolve()
TOOLS = Path(os.environ.get("JMP_TOOLS", ROOT / "target" / "release" / "jmp-tools")).resolve()
# Symbols of the elements in the fixtures that are judged by element.
SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 11: "Na", 14: "Si", 17: "Cl", 22: "Ti", 31: "Ga", 33: "As", 38: "Sr"}
# The model's numbers are of 32 bits, and a label passes through them once.
CLOSE = dict(rtol=1e-5, atol=1e-6)


def run(program, *words, cwd):
    done = subprocess.run([str(program), *map(str, words)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Judged:
    """A dataset, models trained on it for two steps, and what `evaluate` says of them."""

    def __init__(self, dataset, source, template, *words):
        self.shards = Converted(dataset, source)
        self.folder = Path(self.shards.folder.name)
        settings = ["model.preset=tiny", "run.device=cpu", "run.threads=1", "sampling.batch_size=2", "stop.max_steps=2",
                    "dataset.path=shards"]
        self.call = [ROOT / "configs" / "finetune" / template, *words]
        for setting in settings:
            self.call += ["--set", setting]

    def train(self, name, *words):
        run(TRAIN, "finetune", *self.call, *words, "--scratch", "--quiet", "--set", "run.dir=" + name, cwd=self.folder)

    def evaluate(self, *words):
        told = run(TRAIN, "evaluate", *self.call, *words, "--json", cwd=self.folder)
        return [json.loads(line) for line in told.splitlines()]

    def predictions(self, name, split):
        """The file's rows by polars, which pyarrow must read alike; with the atoms of each structure from the shards."""
        file = self.folder / name / ("predictions-%s.parquet" % split)
        table = pl.read_parquet(file)
        assert pq.read_table(file).to_pydict() == table.to_dict(as_series=False)
        atoms = pl.concat([pl.read_parquet(part, columns=["id", "atomic_numbers"]) for part in self.shards.parts])
        joined = table.join(atoms, on="id", how="left")
        assert joined.height == table.height and joined["atomic_numbers"].null_count() == 0
        return joined

    def results(self, *names):
        return json.loads(run(TOOLS, "results", *names, "--json", cwd=self.folder))["rows"]


def by_element(rows, value):
    """Mean of a column over the structures that hold an element."""
    each = rows.select(pl.col("atomic_numbers").list.unique().alias("z"), value.alias("error")).explode("z")
    return {SYMBOLS[z]: mean for z, mean in each.group_by("z").agg(pl.col("error").mean()).iter_rows()}


def by_size(rows, value):
    """Mean of a column by number of atoms: 1, 2, 3-4, 5-8, 9-16, …"""
    def name(natoms):
        top = 1
        while top < natoms:
            top *= 2
        return str(top) if top <= 2 else "%d-%d" % (top // 2 + 1, top)

    sizes = rows["atomic_numbers"].list.len().to_list()
    each = rows.select(value.alias("error")).with_columns(bin=pl.Series([name(n) for n in sizes]))
    return dict(each.group_by("bin").agg(pl.col("error").mean()).iter_rows())


class WithTolerance(unittest.TestCase):
    def same(self, told, wanted):
        self.assertEqual(sorted(told), sorted(wanted))
        self.assertGreater(len(wanted), 0)
        for key, value in wanted.items():
            np.testing.assert_allclose(told[key], value, err_msg=key, **CLOSE)


class Property(WithTolerance):
    """Formation energies of two folds, told in meV/atom."""

    @classmethod
    def setUpClass(cls):
        cls.judged = Judged("matbench", "matbench/matbench_mp_e_form.json.gz", "matbench.toml", "--task", "mp_e_form")
        for fold in (0, 1):
            cls.judged.train("fold%d" % fold, "--fold", fold)
        cls.told = cls.judged.evaluate("--folds", "0,1", "--checkpoint", "fold{fold}")

    @classmethod
    def tearDownClass(cls):
        cls.judged.shards.close()

    def rows(self, fold):
        return self.judged.predictions("fold%d" % fold, "fold%d_test" % fold)

    def test_every_fold_and_their_mean(self):
        error = 1e3 * (pl.col("predicted_e_form") - pl.col("e_form"))
        means = []
        for fold, told in zip((0, 1), self.told):
            rows, errors = self.rows(fold), told["tasks"]["mp_e_form"]["scalar"]
            self.assertEqual((told["split"], errors["unit"]), ("fold%d_test" % fold, "meV/atom"))
            self.assertEqual(sorted(rows["row"]), list(self.judged.shards.split("fold%d_test" % fold)))
            of = rows.select(mae=error.abs().mean(), rmse=(error**2).mean().sqrt()).row(0, named=True)
            np.testing.assert_allclose([errors["mae"], errors["rmse"]], [of["mae"], of["rmse"]], **CLOSE)
            means.append(of["mae"])
        over = self.told[2]["tasks"]["mp_e_form"]["mae"]
        np.testing.assert_allclose([over["mean"], over["std"]], [np.mean(means), np.std(means, ddof=1)], **CLOSE)
        self.assertNotAlmostEqual(means[0], means[1])

    def test_per_element_and_per_size(self):
        error = 1e3 * (pl.col("predicted_e_form") - pl.col("e_form")).abs()
        for fold, told in zip((0, 1), self.told):
            rows, parts = self.rows(fold), told["breakdown"]["mp_e_form"]
            self.same({z: group["mae"] for z, group in parts["by_element"].items()}, by_element(rows, error))
            self.same({size: group["mae"] for size, group in parts["by_size"].items()}, by_size(rows, error))

    def test_beside_the_paper_in_its_unit(self):
        rows = self.judged.results("fold0", "fold1")
        ours = {str(row["part"]): row["tuned"] for row in rows if row["task"] == "matbench/mp_e_form" and row["tuned"]}
        error = 1e3 * (pl.col("predicted_e_form") - pl.col("e_form")).abs()
        for fold in (0, 1):
            value = self.rows(fold).select(error.mean()).item()
            np.testing.assert_allclose(ours[str({"fold": fold})]["value"], value, **CLOSE)


class Classes(WithTolerance):
    def test_accuracies_and_the_area_under_the_curve(self):
        judged = Judged("matbench", "matbench/matbench_mp_is_metal.json.gz", "matbench.toml", "--task", "mp_is_metal", "--fold", 0)
        self.addCleanup(judged.shards.close)
        judged.train("run")
        [told] = judged.evaluate("--checkpoint", "run", "--split", "fold0_train_val")
        rows = judged.predictions("run", "fold0_train_val")
        y, p = rows["is_metal"].to_numpy(), rows["predicted_is_metal"].to_numpy()
        ones, zeros = p[y == 1], p[y == 0]
        self.assertTrue(len(ones) and len(zeros))
        pairs = (ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)
        right = (p > 0.5) == (y == 1)
        self.same({key: told["tasks"]["mp_is_metal"]["scalar"][key]
                   for key in ("accuracy", "balanced_accuracy", "roc_auc", "cross_entropy")},
                  {"accuracy": right.mean(), "balanced_accuracy": (right[y == 1].mean() + right[y == 0].mean()) / 2,
                   "roc_auc": pairs.mean(), "cross_entropy": -np.log(np.where(y == 1, p, 1 - p)).mean()})


class Forces(WithTolerance):
    """Forces of ethanol, told in meV/Å for people; energies known up to a constant."""

    @classmethod
    def setUpClass(cls):
        cls.judged = Judged("rmd17", "demo/rmd17/npz_data/rmd17_ethanol.npz", "rmd17.toml", "--task", "ethanol",
                            "--set", "dataset.train=train_01", "--set", "dataset.val=test_01")
        cls.judged.train("run")
        cls.words = ["--checkpoint", "run", "--split", "test_01"]
        [cls.told] = cls.judged.evaluate(*cls.words)
        cls.rows = cls.judged.predictions("run", "test_01")

    @classmethod
    def tearDownClass(cls):
        cls.judged.shards.close()

    def components(self):
        rows = self.rows
        y, p = (np.stack(rows[name].to_list()) for name in ("forces", "predicted_forces"))
        return y, p, np.stack(rows["atomic_numbers"].to_list())

    def test_whole(self):
        y, p, _ = self.components()
        errors = self.told["tasks"]["ethanol"]
        energy = (self.rows["predicted_energy"] - self.rows["energy"]).abs()
        self.same({key: errors[key] for key in ("force_mae", "force_mae_of_zero", "energy_mae", "energy_mae_per_atom")},
                  {"force_mae": np.abs(p - y).mean(), "force_mae_of_zero": np.abs(y).mean(),
                   "energy_mae": energy.mean(), "energy_mae_per_atom": (energy / self.rows["natoms"]).mean()})
        self.assertEqual((errors["structures"], errors["atoms"]), (self.rows.height, 9 * self.rows.height))
        text = run(TRAIN, "evaluate", *self.judged.call, *self.words, cwd=self.judged.folder)
        self.assertIn("force MAE %.3f meV/Å" % (1e3 * errors["force_mae"]), text)
        self.assertIn("shifted", text)

    def test_per_element_and_per_size(self):
        y, p, z = self.components()
        error = np.abs(p - y).reshape(len(y), -1, 3).mean(axis=2)
        parts = self.told["breakdown"]["ethanol"]
        self.same({symbol: group["force_mae"] for symbol, group in parts["by_element"].items()},
                  {SYMBOLS[number]: error[z == number].mean() for number in np.unique(z)})
        self.same({size: group["force_mae"] for size, group in parts["by_size"].items()}, {"9-16": error.mean()})

    def test_beside_the_paper_in_its_unit(self):
        y, p, _ = self.components()
        [ours] = [row["tuned"]["value"] for row in self.judged.results("run") if row["task"] == "rmd17/ethanol" and row["tuned"]]
        np.testing.assert_allclose(ours, 1e3 * np.abs(p - y).mean(), **CLOSE)


if __name__ == "__main__":
    unittest.main(module=Path(__file__).stem)
