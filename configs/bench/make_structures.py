"""Writes the structures of the step benchmarks: molecules.json and slabs.json beside this file.

Eight molecules of 14 atoms (isobutane, trans-butane) and two slabs of 70 atoms (methanol on Cu and Pt, 4x4x4), all
displaced at random. Needs numpy and ase; run it only to change the benchmarks.
"""

import json
import pathlib

import numpy as np
from ase.build import add_adsorbate, fcc111, molecule

HERE = pathlib.Path(__file__).parent


def record(name, atoms, tags, periodic, rng, jitter):
    positions = atoms.get_positions() + rng.normal(0, jitter, (len(atoms), 3))
    return {
        "id": name,
        "numbers": [int(z) for z in atoms.get_atomic_numbers()],
        "positions": [[round(x, 6) for x in row] for row in positions.tolist()],
        "cell": [[round(x, 6) for x in row] for row in np.array(atoms.cell).tolist()] if periodic else None,
        "pbc": [periodic] * 3,
        "tags": [int(t) for t in tags],
    }


def slab(metal, rng):
    atoms = fcc111(metal, size=(4, 4, 4), vacuum=10.0)
    surface = [1 if layer == 1 else 0 for layer in atoms.get_tags()]
    adsorbate = molecule("CH3OH")
    add_adsorbate(atoms, adsorbate, height=1.9, position="ontop", mol_index=0)
    return record(f"{metal}+CH3OH", atoms, surface + [2] * len(adsorbate), True, rng, 0.06)


def main():
    rng = np.random.default_rng(1)
    names = ["isobutane", "trans-butane"] * 4
    molecules = [record(f"{n}-{i}", molecule(n), [2] * 14, False, rng, 0.05) for i, n in enumerate(names)]
    for name, structures in [("molecules", molecules), ("slabs", [slab("Cu", rng), slab("Pt", rng)])]:
        lines = ",\n".join(json.dumps(s) for s in structures)
        (HERE / f"{name}.json").write_text(f"[\n{lines}\n]\n")


main()
