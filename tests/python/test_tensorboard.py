"""TensorBoard reads the event files of a run: the values of metrics.jsonl, also after a resumption.

Skipped where tensorboard cannot be imported.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAIN = Path(os.environ.get("JMP_TRAIN", ROOT / "target" / "release" / "jmp-train")).resolve()
INGEST = Path(os.environ.get("JMP_INGEST", ROOT / "target" / "release" / "jmp-ingest")).resolve()

try:
    from tensorboard.backend.event_processing import event_accumulator
except (ImportError, OSError) as problem:
    event_accumulator = None
    print("test_tensorboard: skipped: tensorboard cannot be imported (%s)" % problem, file=sys.stderr)

CONFIG = """
kind = "pretrain"
run = { dir = "run", device = "cpu", threads = 1 }
model = { preset = "tiny" }
sampling = { batch_size = 4 }
optimizer = { lr = 1e-3, clip = { norm = 1.0 }, ema = 0.9 }
schedule = { epochs = 1, warmup_steps = 2, max_steps = 7 }
validation = { every_steps = 3, max_structures = 8 }
checkpoint = { every_steps = 2, keep = 9 }

[[dataset]]
name = "ani1x"
path = "ani1x"
val = "val"
energy_within = 0.02
cutoff = 5.0
neighbors = 8
"""


@unittest.skipIf(event_accumulator is None, "tensorboard cannot be imported")
class Events(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.dir = Path(self.folder.name)
        (self.dir / "config.toml").write_text(CONFIG)
        source = ROOT / "tests" / "fixtures" / "demo" / "ani1x" / "ani1x-release.h5"
        self.run_program(INGEST, "convert", "--dataset", "ani1x", "--input", source, "--output", "ani1x")

    def run_program(self, *words):
        done = subprocess.run([str(word) for word in words], cwd=self.dir, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def check(self):
        events = event_accumulator.EventAccumulator(str(self.dir / "run" / "tensorboard"))
        events.Reload()
        lines = [json.loads(line) for line in (self.dir / "run" / "metrics.jsonl").read_text().splitlines()]
        steps = [line for line in lines if line["kind"] == "train"]
        want = {
            "train/loss": [(s["step"], s["loss"]) for s in steps],
            "train/lr": [(s["step"], s["lr"]) for s in steps],
            "train/gradient_norm": [(s["step"], s["gradient_norm"]) for s in steps],
            "train/force_loss/ani1x": [(s["step"], s["tasks"]["ani1x"]["force_loss"]) for s in steps],
        }
        validations = [line for line in lines if line["kind"] == "validation"]
        self.assertGreater(len(validations), 0)
        for name in ["energy_mae", "energy_mae_per_atom", "energy_within", "force_mae", "force_cosine"]:
            values = [(v["step"], v["tasks"]["ani1x"][name]) for v in validations]
            want["validation/%s/ani1x" % name] = values
        for tag, values in want.items():
            found = [(event.step, event.value) for event in events.Scalars(tag)]
            self.assertEqual([step for step, _ in found], [step for step, _ in values], tag)
            for (_, got), (_, value) in zip(found, values):
                self.assertAlmostEqual(got, value, delta=1e-6 * abs(value) + 1e-30, msg=tag)
        return len(steps)

    def kill_after(self, last):
        """As if the run had been killed after this step: later checkpoints never were."""
        for step in range(last + 1, 8):
            checkpoint = self.dir / "run" / "checkpoints" / ("step-%08d" % step)
            if checkpoint.exists():
                for file in checkpoint.iterdir():
                    file.unlink()
                checkpoint.rmdir()

    def test_values_are_those_of_the_metrics_also_after_resumptions(self):
        self.run_program(TRAIN, "pretrain", "config.toml")
        self.assertEqual(self.check(), 7)
        # In the middle, and before the first checkpoint after the beginning.
        for last in [4, 0]:
            self.kill_after(last)
            self.run_program(TRAIN, "pretrain", "--resume", "run")
            self.assertEqual(self.check(), 7)

    def test_values_of_a_run_without_a_checkpoint_do_not_outlive_it(self):
        self.run_program(TRAIN, "pretrain", "config.toml")
        # Its directory has nothing to lose, and a run may begin in it anew.
        self.kill_after(-1)
        self.run_program(TRAIN, "pretrain", "config.toml", "--set", "schedule.max_steps=5")
        self.assertEqual(self.check(), 5)


if __name__ == "__main__":
    unittest.main()
