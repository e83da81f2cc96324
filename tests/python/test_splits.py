"""Splits equal those of numpy's legacy generator, and the published lists."""
import subprocess
import unittest

import numpy as np

from shard_files import FIXTURES, INGEST, Converted, truth

ETHANOL = "rmd17/rmd17/npz_data/rmd17_ethanol.npz"


def shuffled(items, seed):
    order = np.array(items, dtype=object)
    np.random.RandomState(seed).shuffle(order)
    return list(order)


class Splits(unittest.TestCase):
    def convert(self, *arguments):
        shards = Converted(*arguments)
        self.addCleanup(shards.close)
        return shards

    def test_published_lists_of_rmd17(self):
        shards = self.convert("rmd17", ETHANOL)
        for name, rows in truth("rmd17")["published_splits"].items():
            self.assertEqual(list(shards.split(name)), sorted(rows), name)

    def test_seeded_split_is_numpys_shuffle(self):
        shards = self.convert("rmd17", ETHANOL)
        command = [INGEST, "split", shards.dir, "--random", "42", "--sizes", "fit=19,watch=1,judge=rest"]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
        told = truth("rmd17")["jmp_style_split_scaled_down"]
        order = shuffled(range(50), 42)
        for ours, theirs, rows in (("fit", "train", order[:19]), ("watch", "val", order[19:20]), ("judge", "test", order[20:])):
            self.assertEqual(sorted(told[theirs]), sorted(rows))
            self.assertEqual(list(shards.split(ours)), sorted(rows), ours)

    def test_ani1x_holds_out_whole_formulas_as_its_manifest_says(self):
        shards = self.convert("ani1x", "demo/ani1x/ani1x-release.h5")
        groups = shards.column("group")
        sizes = {formula: groups.count(formula) for formula in groups}
        order = iter(shuffled(sorted(sizes), 42))
        expected, target = {}, len(groups) // 10
        for name in ("test", "val"):
            expected[name] = set()
            while sum(sizes[formula] for formula in expected[name]) < target:
                expected[name].add(next(order))
        expected["train"] = set(order)
        for name, formulas in expected.items():
            rows = [row for row, formula in enumerate(groups) if formula in formulas]
            self.assertEqual(list(shards.split(name)), rows, name)

    def test_oc22_folders_are_splits(self):
        shards = self.convert("oc22", "oc22/s2ef-total")
        counts = {name: len(shards.split(name)) for name in shards.manifest["splits"]}
        self.assertEqual(counts, truth("oc22")["counts"])
        self.assertTrue((FIXTURES / "oc22" / "s2ef-total").is_dir())


if __name__ == "__main__":
    unittest.main()
