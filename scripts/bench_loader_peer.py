"""The fastest way found to read such files in Python: whole columns of a pool of row groups, batches cut by index.

    python3 bench_loader_peer.py SHARDS SECONDS

Row groups are permuted, pools of eight joined and shuffled, batches of 32 gathered with numpy from the columns' buffers.
"""
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

POOL, BATCH = 8, 32
COLUMNS = ["natoms", "positions", "forces", "atomic_numbers", "tags", "fixed", "cell", "energy"]


def epoch(files, groups, rng):
    order = rng.permutation(len(groups))
    for first in range(0, len(order), POOL):
        chosen = [groups[k] for k in order[first:first + POOL]]
        tables = [files[f].read_row_group(g, columns=COLUMNS, use_threads=False) for f, g in chosen]
        table = pa.concat_tables(tables).combine_chunks()
        flat = lambda name: table[name].chunk(0).flatten().to_numpy(zero_copy_only=False)
        positions, forces = flat("positions").reshape(-1, 3), flat("forces").reshape(-1, 3)
        numbers, tags, fixed, cell = flat("atomic_numbers"), flat("tags"), flat("fixed"), flat("cell").reshape(-1, 3, 3)
        energy, natoms = table["energy"].to_numpy(), table["natoms"].to_numpy()
        offsets = np.concatenate([[0], np.cumsum(natoms, dtype=np.int64)])
        shuffled = rng.permutation(len(natoms))
        for at in range(0, len(shuffled), BATCH):
            rows = shuffled[at:at + BATCH]
            n = natoms[rows].astype(np.int64)
            starts = np.concatenate([[0], np.cumsum(n)])
            gather = np.repeat(offsets[rows] - starts[:-1], n) + np.arange(starts[-1])
            yield {
                "natoms": n,
                "positions": positions[gather],
                "forces": forces[gather],
                "atomic_numbers": numbers[gather].astype(np.int64),
                "tags": tags[gather],
                "fixed": fixed[gather],
                "cell": cell[rows],
                "energy": energy[rows],
                "structure": np.repeat(np.arange(len(rows)), n),
            }


def main():
    pa.set_cpu_count(1)
    paths = sorted(Path(sys.argv[1], "data").glob("*.parquet"))
    files = [pq.ParquetFile(path, memory_map=True) for path in paths]
    groups = [(f, g) for f, file in enumerate(files) for g in range(file.num_row_groups)]
    rng, count, begin, first = np.random.default_rng(0), 0, None, time.perf_counter()
    while begin is None or time.perf_counter() - begin < float(sys.argv[2]):
        for batch in epoch(files, groups, rng):
            if begin is None:
                # A pool has been read and begun: from here on.
                begin = time.perf_counter()
                continue
            count += len(batch["natoms"])
    seconds = time.perf_counter() - begin
    print(json.dumps({
        "samples_per_second": count / seconds,
        "first_batch_seconds": begin - first,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


main()
