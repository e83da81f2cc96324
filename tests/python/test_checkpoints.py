"""PyTorch loads what `jmp-train export` writes, with the weights that the published layout held.

Skipped where torch cannot be imported: the libtorch that `make libtorch` unpacks is for linking only.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "checkpoint" / "published.pt"
TRAIN = Path(os.environ.get("JMP_TRAIN", ROOT / "target" / "release" / "jmp-train")).resolve()
sys.path.insert(0, str(ROOT / "tests" / "fixtures" / "make"))

try:
    import torch
except (ImportError, OSError) as problem:
    torch = None
    print("test_checkpoints: skipped: torch cannot be imported (%s)" % problem, file=sys.stderr)


def run(*words):
    done = subprocess.run([str(TRAIN), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@unittest.skipIf(torch is None, "torch cannot be imported")
class Export(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import make_checkpoint
        cls.make = make_checkpoint
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = Path(cls.folder.name)
        run("import", FIXTURE, cls.dir / "checkpoint")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def expected(self):
        """Every name of the reference's state dict with the averaged weight, or the buffer."""
        kept = {}
        for name, shape in self.make.names(self.make.SIZES):
            first = name.replace(".seq_energy_pre.", ".layers.")
            kept[name] = self.make.filled(first, shape, "ema:" if self.make.averaged(first) else "")
        return kept

    def test_a_torch_file_is_loaded_without_unpickling_objects(self):
        out = self.dir / "model.pt"
        run("export", self.dir / "checkpoint", out)
        for options in [{}, {"mmap": True}]:
            state = torch.load(out, weights_only=True, **options)
            want = self.expected()
            self.assertEqual(sorted(state), sorted(want))
            for name, tensor in want.items():
                self.assertEqual(state[name].dtype, torch.float32, name)
                self.assertTrue(torch.equal(state[name], tensor), name)
        pair = ["backbone.out_blocks.1.layers.0.linear.weight", "backbone.out_blocks.1.seq_energy_pre.0.linear.weight"]
        self.assertEqual(*(state[name].data_ptr() for name in pair))

    def test_a_module_takes_it_strictly(self):
        run("export", self.dir / "checkpoint", self.dir / "plain.pt", "--aliases", "false")
        state = torch.load(self.dir / "plain.pt", weights_only=True)
        embedding = torch.nn.ModuleDict({"atom_embedding": torch.nn.Embedding(120, 6)})
        embedding.load_state_dict({k.removeprefix("embedding."): v for k, v in state.items() if k.startswith("embedding.")})
        want = self.make.filled("embedding.atom_embedding.weight", (120, 6), "ema:")
        self.assertTrue(torch.equal(embedding["atom_embedding"].weight.data, want))

    def test_safetensors_hold_the_same(self):
        out = self.dir / "model.safetensors"
        run("export", self.dir / "checkpoint", out, "--aliases", "true")
        data = out.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + size])
        header.pop("__metadata__", None)
        want = self.expected()
        self.assertEqual(sorted(header), sorted(want))
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + size + begin:8 + size + end], "<f4").reshape(entry["shape"])
            self.assertEqual(entry["dtype"], "F32", name)
            np.testing.assert_array_equal(values, want[name].numpy(), name)


if __name__ == "__main__":
    unittest.main()
