"""Times neighbour lists of ours and of peers on the same structures, taking turns on one core, and prints a table.

Called by scripts/bench-neighbors, which installs the peers. Every code finds all neighbours within the cutoff in
float64; ours also sorts them. What a peer wants to be given (contiguous arrays, a cell for a molecule) is made before
the clock starts. Rows of molecules include what a call from Python costs a peer.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".deps" / "bench-neighbors"
SECONDS_A_ROUND = 0.1
OURS = "this project"

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import matscipy.neighbours  # noqa: E402
import numpy as np  # noqa: E402
import vesin  # noqa: E402
from pymatgen.optimization.neighbors import find_points_in_spheres  # noqa: E402


def pymatgen_call(positions, cell, pbc, cutoff):
    """A search to be timed, and how many pairs its result holds: pymatgen lists each atom as its own neighbour."""
    lattice = cell if any(pbc) else np.eye(3) * (np.ptp(positions, axis=0).max() + 2 * cutoff + 2)
    periodic = np.array(pbc, dtype=np.int64)

    def search():
        return find_points_in_spheres(positions, positions, r=cutoff, pbc=periodic, lattice=lattice, tol=1e-8)

    return search, lambda found: len(found[0]) - len(positions)


def vesin_call(positions, cell, pbc, cutoff):
    neighbors = vesin.NeighborList(cutoff=cutoff, full_list=True)

    def search():
        return neighbors.compute(points=positions, box=cell, periodic=all(pbc), quantities="ijS")

    return search, lambda found: len(found[0])


def matscipy_call(positions, cell, pbc, cutoff):
    if not any(pbc):
        low = positions.min(0) - 1
        positions, cell = positions - low, np.diag(positions.max(0) - low + 2)
    periodic = np.array(pbc)

    def search():
        return matscipy.neighbours.neighbour_list("ijS", positions=positions, cell=cell, pbc=periodic, cutoff=cutoff)

    return search, lambda found: len(found[0])


PEERS = {"pymatgen": pymatgen_call, "vesin": vesin_call, "matscipy": matscipy_call}


def bench_program():
    """Builds our bench and returns its path."""
    command = ["cargo", "bench", "--locked", "--package", "shards", "--bench", "neighbors", "--no-run"]
    done = subprocess.run(command + ["--message-format=json"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("error: the bench does not build (cargo's message is above)")
    lines = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    return [line["executable"] for line in lines if line.get("executable")][-1]


def measure(program, *arguments):
    """The objects that our bench prints."""
    done = subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def microseconds(searches):
    """Processor time of one structure, mean over a round."""
    begun, start, passes = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begun < SECONDS_A_ROUND:
        for search in searches:
            search()
        passes += 1
    return (time.process_time() - start) / passes / len(searches) * 1e6


def compare(program, structures, case, rounds):
    """Times a case, one code after the other in every round. Returns µs by code and the pairs of a structure."""
    calls, pairs = {}, {}
    for name, make in PEERS.items():
        made = []
        for sample in case["structures"]:
            positions = np.ascontiguousarray(sample["positions"], dtype=float)
            cell = np.ascontiguousarray(sample["cell"] or np.zeros((3, 3)), dtype=float)
            made.append(make(positions, cell, sample["pbc"], float(case["cutoff"])))
        calls[name] = [search for search, _ in made]
        pairs[name] = sum(count(search()) for search, count in made) / len(made)
    times = {name: [] for name in [OURS, *PEERS]}
    for _ in range(rounds):
        (ours,) = measure(program, case["name"], "--only", "neighbors", "--rounds", "1", "--structures", structures)
        pairs[OURS] = ours["pairs"]
        times[OURS].append(ours["median_us"])
        for name, searches in calls.items():
            times[name].append(microseconds(searches))
    if len(set(pairs.values())) != 1:
        sys.exit("error: %s: numbers of pairs differ: %s" % (case["name"], pairs))
    return times, pairs[OURS]


def lists(program, structures, cases, rounds):
    print("\nNeighbour lists: µs of processor time a structure, median (least–largest) of %d rounds" % rounds)
    print("| case | atoms | cutoff, Å | pairs | %s | fastest peer ÷ ours |" % " | ".join([OURS, *PEERS]))
    print("|---" * (6 + len(PEERS)) + "|")
    for case in cases:
        times, pairs = compare(program, structures, case, rounds)
        median = {name: statistics.median(us) for name, us in times.items()}
        cells = ["%.1f (%.1f–%.1f)" % (median[name], min(us), max(us)) for name, us in times.items()]
        peer = min(PEERS, key=median.get)
        atoms = len(case["structures"][0]["positions"])
        print("| %s | %d | %g | %.1f | %s | %.1f (%s) |" % (
            case["name"], atoms, case["cutoff"], pairs, " | ".join(cells), median[peer] / median[OURS], peer),
            flush=True)


def preparations(program, structures, cases, rounds):
    print("\nGraphs: µs of processor time a structure, median (least–largest) of %d rounds" % rounds)
    print("| case | what | µs |\n|---|---|---|")
    for case in cases:
        arguments = [case["name"], "--only", "graphs", "--rounds", str(rounds), "--structures", structures]
        for line in measure(program, *arguments):
            print("| %s | %s | %.0f (%.0f–%.0f) |" % (
                case["name"], line["what"], line["median_us"], line["min_us"], line["max_us"]), flush=True)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench-neighbors", description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="slab73, slab70, bulk200, bulk1000, molecule14; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="turns each code takes (default: 7)")
    arguments = parser.parse_args()
    program = bench_program()
    structures = str(HOME / "structures.json")
    subprocess.run([program, "--write", structures], check=True)
    cases = json.loads(Path(structures).read_text())
    unknown = set(arguments.cases) - {case["name"] for case in cases}
    if unknown:
        parser.error("no case %s" % ", ".join(sorted(unknown)))
    cases = [case for case in cases if not arguments.cases or case["name"] in arguments.cases]
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    print("on core %d, taking turns; load of the machine before: %.1f" % (core, os.getloadavg()[0]))
    lists(program, structures, cases, arguments.rounds)
    preparations(program, structures, cases, arguments.rounds)
    print("\nload of the machine after: %.1f" % os.getloadavg()[0])


if __name__ == "__main__":
    main()
