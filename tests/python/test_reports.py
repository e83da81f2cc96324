"""Reports of jmp-tools in a real browser, and their numbers against numpy."""
import csv
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

import browser
from shard_files import ROOT, Converted

TOOLS = Path(os.environ.get("JMP_TOOLS", ROOT / "target" / "release" / "jmp-tools")).resolve()
METRICS = [
    {"kind": "train", "step": step, "epoch": step / 50, "samples": 8 * step, "loss": 3 / step**0.5, "lr": 1e-3 * min(1, step / 20),
     "gradient_norm": 5 / step**0.3, "waiting": 0.02, "samples_per_second": 100.0 + step % 7,
     "tasks": {name: {"energy_loss": k / step**0.5, "force_loss": k / step**0.4} for k, name in ((1, "ani1x"), (2, "oc22"))}}
    for step in range(1, 200)
] + [
    {"kind": "validation", "step": step, "metric": 1 / step**0.5,
     "tasks": {"ani1x": {"energy_mae": 0.3 / step**0.5, "force_mae": 0.2 / step**0.5}}}
    for step in (50, 100, 150, 199)
]


def run(*arguments):
    done = subprocess.run([TOOLS, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Reports(unittest.TestCase):
    @classmethod
    def convert(cls):
        return {
            "ani1x": Converted("ani1x", "ani1x/ani1x-release.h5"),
            "oc22": Converted("oc22", "train=oc22/s2ef-total/train", "val_id=oc22/s2ef-total/val_id"),
            "ethanol": Converted("rmd17", "rmd17/rmd17/npz_data/rmd17_ethanol.npz"),
        }

    @classmethod
    def setUpClass(cls):
        cls.sets = cls.convert()
        cls.folder = tempfile.TemporaryDirectory()
        cls.home = Path(cls.folder.name)
        (cls.home / "run").mkdir()
        (cls.home / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in METRICS))
        cls.stats = cls.home / "stats.html"
        run("stats", *(s.dir for s in cls.sets.values()), "--run", cls.home / "run", "--output", cls.stats)
        cls.numbers = json.loads(cls.stats.with_suffix(".json").read_text())
        # Directories give the sets their names.
        for name, shards in cls.sets.items():
            (cls.home / name).symlink_to(shards.dir)
        run("overlap", "--pretrain", cls.sets["ani1x"].dir, cls.home / "oc22", "--finetune", cls.home / "ethanol", "--within",
            cls.home / "ani1x", "--by", "composition,structure", "--write-masks", "--output", cls.home / "overlap")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()
        for shards in cls.sets.values():
            shards.close()

    def dataset(self, name):
        return next(d for d in self.numbers["datasets"] if d["directory"] == str(self.sets[name].dir))

    @unittest.skipUnless(browser.find(), "no Chromium here: install Debian's package `chromium`, or set JMP_CHROMIUM")
    def test_pages_hold_in_a_browser(self):
        with browser.Browser() as chromium:
            for name, page in (("stats", self.stats), ("overlap", self.home / "overlap" / "overlap.html")):
                browser.check_page(self, chromium, page, name)
            self.check_sorting(chromium)

    def check_sorting(self, chromium):
        chromium.open(self.stats, 1280, "light")
        click = "document.querySelectorAll('table[aria-label^=\"Graphs\"] th button')[1].click()"
        column = "Array.from(document.querySelector('table[aria-label^=\"Graphs\"]').tBodies[0].rows).map(r => Number(r.cells[1].dataset.value))"
        for order in (1, -1):
            chromium.evaluate(click)
            values = chromium.evaluate(column)
            self.assertEqual(values, sorted(values, key=lambda v: order * v))
        self.assertGreater(len(set(values)), 3)

    def test_tables_of_the_page_are_in_the_csv_file(self):
        with self.stats.with_suffix(".csv").open() as file:
            rows = list(csv.DictReader(file))
        totals = [r for r in rows if r["column"] == "structures" and r["table"].startswith("Datasets")]
        self.assertEqual([float(r["value"]) for r in totals], [d["rows"] for d in self.numbers["datasets"]])

    def test_energies_forces_and_sizes_equal_numpys(self):
        for name, shards in self.sets.items():
            report, energies = self.dataset(name), np.array(shards.column("energy"))
            natoms = np.array(shards.column("natoms"))
            self.assertEqual((report["rows"], report["atoms"]), (len(natoms), natoms.sum()))
            np.testing.assert_allclose(report["energy_per_atom"]["mean"], (energies / natoms).mean(), rtol=1e-12)
            np.testing.assert_allclose(report["energy_per_atom"]["std"], (energies / natoms).std(), rtol=1e-9)
            sample = report["sample"]
            self.assertTrue(sample["complete"])
            components = np.concatenate([np.ravel(f) for f in shards.column("forces")])
            np.testing.assert_allclose(sample["force_components"]["std"], components.std(), rtol=1e-9)
            self.assertEqual(sample["force_components"]["count"], components.size)
            for column in report["counts"]:
                values = np.array(shards.column(column["column"]))
                self.assertEqual((column["total"], column["max"]), (values.sum(), values.max()))
                self.assertEqual(column["median"], np.sort(values)[int(np.ceil(len(values) / 2)) - 1])

    def test_references_leave_what_numpy_leaves(self):
        for name, shards in self.sets.items():
            report, energies = self.dataset(name), np.array(shards.column("energy"))
            counts = shards.counts(range(len(energies)))
            coefficients = np.zeros(119)
            for element in report["elements"]:
                coefficients[element["atomic_number"]] = element["reference"] or 0
            rest = energies - counts @ coefficients
            told = report["sample"]["energies"]
            np.testing.assert_allclose(told["referenced"]["mean"], rest.mean(), atol=1e-8)
            # Where the fit is exact, what is left is the rounding of the energies themselves.
            rounding = np.finfo(float).eps * np.abs(energies).max()
            np.testing.assert_allclose(told["referenced"]["std"], rest.std(), rtol=1e-6, atol=rounding)
            for element in told["by_element"]:
                has = counts[:, element["atomic_number"]] > 0
                each = (rest / counts.sum(axis=1))[has]
                self.assertEqual(element["structures"], has.sum())
                np.testing.assert_allclose([element["mean"], element["std"]], [each.mean(), each.std()], atol=1e-7)

    def test_distances_and_volumes_equal_brute_force(self):
        shards, report = self.sets["oc22"], self.dataset("oc22")
        cells = np.array(shards.column("cell")).reshape(-1, 3, 3)
        volumes = np.abs(np.linalg.det(cells))
        told = report["sample"]["geometry"]
        np.testing.assert_allclose(told["cells"]["volume"]["mean"], volumes.mean(), rtol=1e-12)
        shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3)
        nearest = []
        for flat, cell in zip(shards.column("positions"), cells):
            r = np.array(flat).reshape(-1, 3)
            # Atoms may lie outside the cell: fractions are wrapped first.
            f = np.linalg.solve(cell.T, r.T).T % 1.0
            images = ((f[None, :, :] + shifts[:, None, :]) @ cell).reshape(-1, 3)
            d = np.linalg.norm((f @ cell)[:, None] - images[None], axis=2)
            nearest += list(np.where(d > 0.01, d, np.inf).min(axis=1))
        np.testing.assert_allclose(told["nearest"]["mean"], np.mean(nearest), rtol=1e-6)
        np.testing.assert_allclose(told["nearest"]["min"], np.min(nearest), rtol=1e-6)

    def test_overlap_by_composition_equals_sets_of_tuples(self):
        comparison = json.loads((self.home / "overlap" / "overlap.json").read_text())["comparisons"][0]
        compositions = lambda shards, rows: [tuple(sorted(shards.column("atomic_numbers")[row])) for row in rows]
        known = set()
        for name in ("ani1x", "oc22"):
            known |= set(compositions(self.sets[name], self.sets[name].split("train")))
        for checked in comparison["checked"]:
            rows = self.sets["ethanol"].split(checked["set"]["split"])
            expected = sum(c in known for c in compositions(self.sets["ethanol"], rows))
            self.assertEqual(checked["overlapping"], expected)


REAL = os.environ.get("JMP_REAL_DATA")


@unittest.skipUnless(REAL, "no real samples here: JMP_REAL_DATA names none")
class RealSamples(Reports):
    """The same on samples of the published datasets."""

    @classmethod
    def convert(cls):
        real = Path(REAL)
        return {
            "ani1x": Converted("ani1x", real / "ani1x" / "ani1_n5.hdf5"),
            "oc22": Converted("oc22", "train=%s" % (real / "oc22" / "s2ef-total" / "train")),
            "ethanol": Converted("md17", real / "md17" / "md17_ethanol_2000.npz"),
        }


if __name__ == "__main__":
    unittest.main(module=Path(__file__).stem)
