"""What the oracles share: running jmp-ingest on a fixture, and opening what it wrote with pyarrow."""
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
INGEST = Path(os.environ.get("JMP_INGEST", ROOT / "target" / "release" / "jmp-ingest")).resolve()


def truth(dataset):
    return json.loads((FIXTURES / dataset / "truth.json").read_text())


class Converted:
    """A fixture converted into a temporary folder; `close` removes it."""

    def __init__(self, dataset, *inputs, options=()):
        self.folder = tempfile.TemporaryDirectory()
        self.dir = Path(self.folder.name) / "shards"
        command = [INGEST, "convert", "--dataset", dataset, "--output", self.dir, *options]
        for given in inputs:
            split, _, path = str(given).rpartition("=")
            command += ["--input", (split + "=" if split else "") + str(FIXTURES / path)]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.manifest = json.loads((self.dir / "manifest.json").read_text())
        self.parts = [self.dir / "data" / part["file"] for part in self.manifest["parts"]]
        self.table = pa.concat_tables([pq.read_table(part) for part in self.parts])

    def close(self):
        self.folder.cleanup()

    def column(self, name):
        return self.table.column(name).to_pylist()

    def split(self, name):
        """Row numbers of a split."""
        ranges = pq.read_table(self.dir / "splits" / (name + ".parquet")).to_pylist()
        return np.concatenate([np.arange(r["start"], r["start"] + r["length"]) for r in ranges] or [np.zeros(0, int)]).astype(int)

    def counts(self, rows):
        """Element counts, [rows, 119]."""
        numbers = self.column("atomic_numbers")
        return np.stack([np.bincount(numbers[row], minlength=119) for row in rows]).astype(float)
