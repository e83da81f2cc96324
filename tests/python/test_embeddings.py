"""Principal components, t-SNE's divergence and cosines of jmp-tools against numpy."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np
import polars as pl

TOOLS = Path(os.environ.get("JMP_TOOLS", "target/release/jmp-tools")).resolve()


def run(home, *arguments):
    command = [TOOLS, *arguments, "--output", "page.html", "--json", "--quiet"]
    done = subprocess.run([str(word) for word in command], cwd=home, check=True, capture_output=True)
    return json.loads(done.stdout)


def write(path, **columns):
    """Columns of vectors are numpy matrices."""
    arrays = {name: pl.Series(values).cast(pl.Array(pl.Float32, values.shape[1])) if isinstance(values, np.ndarray) and values.ndim == 2
              else values for name, values in columns.items()}
    pl.DataFrame(arrays).write_parquet(path)


def affinities(points, perplexity):
    """p_ij by bisection of each point's precision; all points are neighbours."""
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    n = len(points)
    conditional = np.zeros((n, n))
    for i in range(n):
        others = np.arange(n) != i
        d = squared[i, others]
        low, high = 0.0, 1e6
        for _ in range(300):
            beta = (low + high) / 2
            w = np.exp(-beta * (d - d.min()))
            p = w / w.sum()
            entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
            low, high = (beta, high) if entropy > np.log(perplexity) else (low, beta)
        conditional[i, others] = p
    return (conditional + conditional.T) / (2 * n)


class Embeddings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = Path(folder.name)
        self.random = np.random.default_rng(5)

    def test_map(self):
        n, d = 90, 64
        shift = 4.0 * self.random.normal(size=(3, d))
        groups = np.repeat(np.arange(3), n // 3)
        # Few strong directions, so that fifty components are not all of it.
        node = (self.random.normal(size=(n, d)) * np.linspace(2.0, 0.1, d) + shift[groups]).astype(np.float32)
        edge = self.random.normal(size=(n, 20)).astype(np.float32)
        write(self.home / "e.parquet", dataset=[f"set{g}" for g in groups], id=[str(i) for i in range(n)],
              formula=["H2O"] * n, node=node, edge=edge)
        told = run(self.home, "embedding-map", "e.parquet", "--perplexity", "8", "--iterations", "500")
        places = pl.read_parquet(self.home / "page.parquet")
        for level, vectors in (("node", node), ("edge", edge)):
            told_level = next(m for m in told["maps"] if m["level"] == level)
            centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(0)
            u, s, _ = np.linalg.svd(centred, full_matrices=False)
            kept = min(50, d, vectors.shape[1])
            self.assertEqual(told_level["components"], kept)
            self.assertAlmostEqual(told_level["explained"], (s[:kept] ** 2).sum() / (s ** 2).sum(), places=10)
            p = affinities(u[:, :kept] * s[:kept], 8.0)
            self.assertAlmostEqual(p.sum(), 1.0, places=12)
            y = places.select(f"{level}_x", f"{level}_y").to_numpy()
            kernel = 1 / (1 + ((y[:, None] - y[None]) ** 2).sum(-1))
            np.fill_diagonal(kernel, 0)
            q = kernel / kernel.sum()
            some = p > 0
            divergence = (p[some] * np.log(p[some] / q[some])).sum()
            self.assertAlmostEqual(told_level["divergence"], divergence, places=6)
            # The map is truer than the same places dealt out at random.
            other = self.random.permutation(n)
            worse = (p[some] * np.log(p[some] / q[np.ix_(other, other)][some].clip(1e-300))).sum()
            self.assertLess(divergence, 0.8 * worse)
            np.testing.assert_allclose(y.mean(0), 0, atol=1e-9)

    def test_elements(self):
        vectors = self.random.normal(size=(118, 32)).astype(np.float32)
        write(self.home / "a.parquet", atomic_number=pl.Series(range(1, 119), dtype=pl.UInt8),
              trained=pl.Series([None] * 118, dtype=pl.Boolean), embedding=vectors)
        told = run(self.home, "element-similarity", "a.parquet")
        self.assertEqual([e["symbol"] for e in told["elements"]], ["H", "C", "N", "O", "Co", "Cu"])
        unit = vectors.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        for element, z in zip(told["elements"], (1, 6, 7, 8, 27, 29)):
            others = [o for o in range(1, 119) if o != z]
            self.assertEqual([o["atomic_number"] for o in element["others"]], others)
            got = [o["cosine"] for o in element["others"]]
            np.testing.assert_allclose(got, [unit[z - 1] @ unit[o - 1] for o in others], atol=1e-12)


if __name__ == "__main__":
    unittest.main()
