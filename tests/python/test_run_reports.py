"""Pages about runs and embeddings in a real browser, and their numbers against numpy."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np
import polars as pl

import browser
from shard_files import ROOT

TOOLS = Path(os.environ.get("JMP_TOOLS", ROOT / "target" / "release" / "jmp-tools")).resolve()
STEPS = 200
SEEDS = range(3)


def curve(first, last, step):
    """An error that falls from the first step to the last."""
    return first * (last / first) ** (step / STEPS)


def write_run(folder, settings, minutes, errors, evaluation, ranks=1):
    """A run directory as jmp-train leaves it: `errors` are those of the last validation of its task."""
    folder.mkdir()
    (folder / "config.toml").write_text(settings)
    (task, last), noise = next(iter(errors.items())), np.random.default_rng(len(str(folder)))
    session = {"kind": "session", "step": 0, "minutes": 0.0, "device": "cuda", "ranks": ranks, "machines": 2, "threads": 1}
    lines = [session] if ranks > 1 else []
    for step in range(1, STEPS + 1):
        now = minutes * step / STEPS
        loss = curve(20, 0.5, step) * noise.lognormal(0, 0.3)
        lines.append({"kind": "train", "step": step, "epoch": step / 50, "samples": 8 * step, "minutes": now, "loss": loss, "waiting": 0.01,
                      "lr": 1e-3 * min(1, step / 40), "gradient_norm": 2 * loss, "samples_per_second": 9 + noise.random(),
                      "tasks": {task: {"energy_loss": loss / 4, "force_loss": loss, "structures": 8}}})
        if step % 40 == 0:
            told = {key: curve(9 * value, value, step) for key, value in last.items()}
            lines.append({"kind": "validation", "step": step, "epoch": step / 50, "minutes": now, "metric": told["force_mae"],
                          "tasks": {task: {"structures": 50, **told}}})
    lines.append({"kind": "finished", "ending": "complete", "step": STEPS, "samples": 8 * STEPS, "minutes": minutes,
                  "samples_per_second": 9.5, "waiting": 0.01, "best": None})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    split, tasks, breakdown = evaluation
    told = {"kind": "evaluation", "split": split, "checkpoint": "c", "tasks": tasks, "breakdown": breakdown}
    (folder / ("evaluation-%s.json" % split)).write_text(json.dumps(told))


def force_run(home, start, training, seed, mae, minutes, ranks=1):
    name = "ethanol-%s-%s-%d" % (training, start, seed)
    lines = ("[model]", 'preset = "tiny"', "[model.sizes]", "emb_size_atom = 80", "num_blocks = 3", "[dataset]", 'name = "ethanol"',
             'path = "shards/rmd17-ethanol"', 'train = "%s"' % training, "[optimizer]", "lr = %g" % (1e-3 if start == "tuned" else 2e-3))
    errors = {"structures": 1000, "atoms": 9000, "energy_mae": 4 * mae, "energy_mae_per_atom": mae / 9, "force_mae": mae,
              "force_mae_of_zero": 0.8768, "force_cosine": 0.98}
    write_run(home / name, "\n".join(lines), minutes, {"ethanol": {"energy_mae": 3 * mae, "force_mae": 0.9 * mae}},
              ("test_01", {"ethanol": errors}, {}), ranks)
    return home / name


def sized_run(home, preset, start, mae):
    """A run of one of the paper's sizes."""
    lines = ("[model]", 'preset = "%s"' % preset, "[dataset]", 'name = "ethanol"', 'path = "shards/rmd17-ethanol"', 'train = "train"')
    folder = home / ("%s-%s" % (preset, start))
    write_run(folder, "\n".join(lines), 10, {"ethanol": {"force_mae": mae}},
              ("test", {"ethanol": {"structures": 1000, "force_mae": mae}}, {}))
    return folder


def scalar_run(home):
    lines = ("[model]", 'preset = "jmp-l"', "[dataset]", 'name = "lumo"', 'path = "shards/qm9"', 'train = "train"')
    scalar = {"target": "eps_LUMO", "unit": "meV", "mae": 9.5, "rmse": 14.0, "mae_of_zero": 1000.0}
    part = lambda n, mae: {"structures": n, "mae": mae}
    parts = {"overlapping": part(1000, 12.5), "non_overlapping": part(2000, 8.0), "combined": part(3000, 9.5)}
    write_run(home / "qm9-lumo", "\n".join(lines), 30, {"lumo": {"force_mae": 0.1}},
              ("test", {"lumo": {"structures": 3000, "scalar": scalar}}, {"lumo": {"by_overlap": parts}}))
    return home / "qm9-lumo"


def write_embeddings(home):
    random = np.random.default_rng(3)
    names, sizes = ["ani1x", "matbench-phonons", "oc20", "oc22", "rmd17-aspirin", "spice", "transition1x"], 40
    column = lambda d: pl.Series(np.concatenate([random.normal(random.normal(0, 3, d), 1, (sizes, d)) for _ in names]).astype(np.float32))
    vectors = lambda d: column(d).cast(pl.Array(pl.Float32, d))
    labels = [name for name in names for _ in range(sizes)]
    frame = {"dataset": labels, "id": ["id%d" % k for k in range(len(labels))], "formula": ["C2H6O"] * len(labels)}
    pl.DataFrame({**frame, "node": vectors(16), "edge": vectors(24)}).write_parquet(home / "structures.parquet")
    atoms = random.normal(0, 1, (100, 12)).astype(np.float32)
    numbers = np.arange(1, 101)
    pl.DataFrame({"atomic_number": pl.Series(numbers, dtype=pl.UInt8), "trained": list(numbers % 9 > 0),
                  "embedding": pl.Series(atoms).cast(pl.Array(pl.Float32, 12))}).write_parquet(home / "atoms.parquet")


class RunReports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.home = Path(cls.folder.name)
        random = np.random.default_rng(1)
        cls.maes, cls.runs = {}, {}
        for training, mae in (("fit50", 0.11), ("fit950", 0.06)):
            for start, factor, minutes in (("tuned", 1, 20), ("scratch", 1.6, 60)):
                cls.maes[training, start] = mae * factor * random.lognormal(0, 0.05, len(SEEDS))
                cls.runs[training, start] = [force_run(cls.home, start, training, seed, cls.maes[training, start][seed], minutes + seed)
                                             for seed in SEEDS]
        cls.sized = {(preset, start): 0.02 * random.lognormal(0, 0.5) for preset in ("jmp-s", "jmp-l") for start in ("tuned", "scratch")}
        cls.lumo = scalar_run(cls.home)
        cls.ranks = force_run(cls.home, "ranks", "fit950", 4, 0.05, 30, ranks=4)
        write_embeddings(cls.home)
        cls.pages()

    @classmethod
    def pages(cls):
        of = lambda start: [run for key, runs in sorted(cls.runs.items()) if key[1] == start for run in runs]
        first = lambda *key: cls.runs[key][0]
        cls.results = cls.report("results", "results", *of("tuned"), cls.lumo, "--scratch", *of("scratch"))
        sized = {key: sized_run(cls.home, *key, mae) for key, mae in cls.sized.items()}
        begun = lambda start: [sized[preset, start] for preset in ("jmp-s", "jmp-l")]
        cls.sizes = cls.report("sizes", "results", *begun("tuned"), "--scratch", *begun("scratch"))
        methods = [word for name, start in (("B", "scratch"), ("T2", "tuned"))
                   for word in ("--method", "%s=%s,%s" % (name, first("fit50", start), first("fit950", start)))]
        cls.compared = cls.report("compare", "compare", *(runs[0] for _, runs in sorted(cls.runs.items())), "--pair",
                                  first("fit950", "scratch"), first("fit950", "tuned"), *methods)
        cls.cost = cls.report("cost", "cost", *of("tuned"), cls.ranks, "%s=2" % cls.lumo, "--hours", "tests=1.5", "--power", "65",
                              "--intensity", "0.38", "--pue", "1.2")
        cls.map = cls.report("map", "embedding-map", cls.home / "structures.parquet", "--iterations", "300")
        cls.similarity = cls.report("similarity", "element-similarity", cls.home / "atoms.parquet")
        cls.stats = cls.report("runs", "stats", "--run", first("fit950", "tuned"), "--run", cls.lumo)
        cls.report("paper", "results")
        cls.report("table-14", "cost")

    @classmethod
    def report(cls, name, *arguments):
        output = cls.home / (name + ".html")
        done = subprocess.run([TOOLS, *map(str, arguments), "--output", output, "--json", "--quiet"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @unittest.skipUnless(browser.find(), "no Chromium here: install Debian's package `chromium`, or set JMP_CHROMIUM")
    def test_pages_hold_in_a_browser(self):
        pages = sorted(self.home.glob("*.html"))
        self.assertEqual(len(pages), 9)
        with browser.Browser() as chromium:
            for page in pages:
                browser.check_page(self, chromium, page, page.stem)
            self.check_totals(chromium)

    def check_totals(self, chromium):
        """Sorting leaves the total below the rows."""
        chromium.open(self.home / "cost.html", 1280, "light")
        table = "document.querySelector('table[aria-label=\"Hours and emissions\"]')"
        chromium.evaluate(table + ".querySelectorAll('th button')[5].click()")
        values = chromium.evaluate("Array.from(%s.tBodies[0].rows).map(r => Number(r.cells[5].dataset.value))" % table)
        self.assertEqual(values, sorted(values))
        last = chromium.evaluate("Array.from(%s.rows).at(-1).cells[0].textContent" % table)
        self.assertEqual((last, len(values)), ("all", len(self.cost["items"])))

    def test_means_and_improvements_equal_numpys(self):
        rows = {row["trained"]: row for row in self.results["rows"] if row["task"] == "rmd17/ethanol"}
        self.assertEqual(sorted(rows), ["fit50", "fit950"])
        shares = []
        for training, row in rows.items():
            tuned, scratch = (1000 * self.maes[training, start].mean() for start in ("tuned", "scratch"))
            np.testing.assert_allclose([row["tuned"]["value"], row["scratch"]["value"]], [tuned, scratch], rtol=1e-12)
            shares.append((scratch - tuned) / scratch)
            np.testing.assert_allclose(row["improvement"], shares[-1], rtol=1e-12)
            # Table 3 of the paper: JMP-L 2.0 meV/Å.
            np.testing.assert_allclose(row["over_paper"][1], (2.0 - tuned) / 2.0, rtol=1e-12)
        [mean] = next(m for m in self.results["means"] if m["dataset"] == "MD17")["ours"]
        np.testing.assert_allclose(mean["share"], np.mean(shares), rtol=1e-12)

    def test_sizes_are_compared_as_numpy_does(self):
        rows = {row["model"]["name"]: row for row in self.sizes["rows"]}
        self.assertEqual(sorted(rows), ["jmp-l", "jmp-s"])
        share = lambda baseline, model: 1 - self.sized[model] / self.sized[baseline]
        for preset, row in rows.items():
            np.testing.assert_allclose(row["improvement"], share((preset, "scratch"), (preset, "tuned")), rtol=1e-9)
        md17 = next(m for m in self.sizes["scaling"] if m["dataset"] == "MD17")
        for start in ("scratch", "tuned"):
            np.testing.assert_allclose(md17[start]["ours"]["share"], share(("jmp-s", start), ("jmp-l", start)), rtol=1e-9)

    def test_parts_of_a_mask_make_up_the_whole(self):
        parts = next(run for run in self.results["tuned"] if run["task"] == "qm9/eps_LUMO")["by_overlap"]
        self.assertEqual((parts["overlapping"] * 1000 + parts["non_overlapping"] * 2000) / 3000, parts["combined"])

    def test_comparisons_equal_numpys(self):
        names = [runs[0].name for _, runs in sorted(self.runs.items())]
        maes = [self.maes[key][0] for key in sorted(self.runs)]
        forces = next(row for row in self.compared["finals"] if row["quantity"] == "forces")
        self.assertEqual([run["name"] for run in self.compared["runs"]], names)
        np.testing.assert_allclose(forces["errors"], maes, rtol=1e-12)
        np.testing.assert_allclose(forces["improvements"], [(maes[0] - m) / maes[0] for m in maes], atol=1e-12)
        # Validations every 40 steps: the first whose metric is at or below the scratch run's best.
        scratch, tuned = (0.9 * self.maes["fit950", start][0] for start in ("scratch", "tuned"))
        step = next(s for s in range(40, STEPS + 1, 40) if curve(9 * tuned, tuned, s) <= scratch)
        told = self.compared["matches"][0]
        self.assertEqual(told["matched_step"], step)
        np.testing.assert_allclose(told["factor"], 60 / (20 * step / STEPS), rtol=1e-12)
        shares = [1 - self.maes[t, "tuned"][0] / self.maes[t, "scratch"][0] for t in ("fit50", "fit950")]
        np.testing.assert_allclose(self.compared["ablation"][1]["improvement"]["share"], np.mean(shares), rtol=1e-12)

    def test_costs_follow_from_what_runs_recorded(self):
        items = {item["label"]: item for item in self.cost["items"]}
        hours = {run.name: (20 + seed) / 60 for training in ("fit50", "fit950") for seed, run in enumerate(self.runs[training, "tuned"])}
        hours.update({self.ranks.name: 4 * 30 / 60, self.lumo.name: 2 * 30 / 60, "tests": 1.5})
        self.assertEqual(sorted(items), sorted(hours))
        for name, spent in hours.items():
            np.testing.assert_allclose([items[name]["hours"], items[name]["energy_kwh"], items[name]["emissions_kg"]],
                                       [spent, spent * 0.065 * 1.2, spent * 0.065 * 1.2 * 0.38], rtol=1e-12)
        self.assertEqual((items[self.ranks.name]["devices"], items[self.ranks.name]["devices_from"]), (4, "record"))
        self.assertEqual((items[self.lumo.name]["devices"], items[self.lumo.name]["devices_from"]), (2, "given"))
        np.testing.assert_allclose(self.cost["total_kg"], sum(hours.values()) * 0.065 * 1.2 * 0.38, rtol=1e-12)


if __name__ == "__main__":
    unittest.main(module=Path(__file__).stem)
