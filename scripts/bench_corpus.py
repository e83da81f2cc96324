"""Seeded made-up corpora for scripts/bench-ingest: relaxations of slabs and of molecules, 50 frames each, as the formats that
people download: an OC20 S2EF LMDB of torch_geometric pickles, and an HDF5 file in the layout of ANI-1x.

Positions and forces are float32 with the noise of a relaxation, so that they compress about as real ones do.
"""
import collections
import io
import pickle
import struct
import sys
import types

import h5py
import lmdb
import numpy as np

ATOM = {1: -13.6, 6: -1029.0, 7: -1485.0, 8: -2042.0, 13: -3.7, 22: -7.8, 26: -8.3, 28: -5.6, 29: -3.7, 78: -6.1}
ADSORBED = {1: -3.4, 6: -9.2, 7: -8.3, 8: -7.5}
METALS = np.array([13, 22, 26, 28, 29, 78])
FRAMES = 50
HARTREE = 27.211386024367243


# ------------------------------------------------------------- structures
def cluster(rng, n, start, bond, apart, upwards=False):
    """A random connected cluster of n points."""
    points = [np.array(start, float)]
    while len(points) < n:
        base = points[rng.integers(max(0, len(points) - 4), len(points))]
        step = rng.normal(size=3)
        if upwards:
            step[2] = abs(step[2])
        point = base + step * rng.uniform(*bond) / np.linalg.norm(step)
        if min(np.linalg.norm(point - other) for other in points) > apart:
            points.append(point)
    return np.array(points)


def springs(rng, n, low, high):
    """A positive definite matrix for each atom."""
    a = rng.normal(size=(n, 3, 3)) * 0.25
    k = np.einsum("nij,nkj->nik", a, a)
    k[:, range(3), range(3)] += rng.uniform(low, high, (n, 1))
    return k


def relaxation(rng, rest, start, k, fixed, noise_x, noise_f):
    """Frames from `rest + start` to `rest`: positions, forces, elastic energy."""
    n, t = len(rest), np.arange(FRAMES)[:, None]
    decay, waves = rng.uniform(8, 20, n)[None], rng.uniform(0.2, 0.9, n)[None]
    g = np.exp(-t / decay) * (1 + 0.1 * np.cos(waves * t) * (t > 0))
    g = g * np.cumprod(1 - rng.uniform(0, 0.01, (FRAMES, 1)), 0)
    d = g[:, :, None] * start[None]
    fading = np.exp(-t / 15.0)[:, :, None]
    d += rng.normal(size=d.shape) * noise_x * fading * (t > 0)[:, :, None]
    d[:, fixed] = 0
    f = -np.einsum("nij,tnj->tni", k, d)
    if fixed.any():
        held, mixing = rng.normal(size=(n, 3)) * 0.3, rng.normal(size=(n, 3)) * 2
        f[:, fixed] = held[fixed][None] + mixing[fixed][None] * d.mean(1, keepdims=True)
    f += rng.normal(size=f.shape) * (noise_f * fading + 0.002)
    energy = 0.5 * np.einsum("tni,nij,tnj->t", d, k, d)
    return (rest[None] + d).astype(np.float32), f.astype(np.float32), energy


def slab(rng):
    """A metal slab of 20 to 200 atoms, 74 on average, with an adsorbate, and its relaxation."""
    n = int(np.clip(np.exp(rng.normal(np.log(67.8), 0.40)), 20, 200))
    adsorbed = int(rng.integers(1, 9))
    bulk = n - adsorbed
    least = max(4, bulk / 20 / 0.95)
    height = rng.uniform(least, max(least + 0.01, min(10, bulk / 3.2)))
    gamma = np.deg2rad(rng.choice([90.0, 90.0, 60.0, rng.uniform(65, 90)]))
    area = bulk / (0.05 * height)
    a = np.clip(np.sqrt(area / np.sin(gamma)) * rng.uniform(0.85, 1.18), 8, 20)
    b, c = np.clip(area / np.sin(gamma) / a, 8, 20), np.clip(2 * height, 8, 20)
    cell = np.array([[a, 0, 0], [b * np.cos(gamma), b * np.sin(gamma), 0], [0, 0, c]])
    layers, columns = max(2, round(height / 2.71)), max(1, round(a / 2.71))
    rows = int(np.ceil(bulk / layers / columns))
    sites = np.array([(i, j, k) for k in range(layers) for j in range(rows) for i in range(columns)])[:bulk]
    fraction = (sites + [0.25, 0.25, 0.0]) / [columns, rows, 1]
    fraction[:, 2] = 0
    shift = (sites[:, 2] % 2)[:, None] * np.array([0.5 / columns, 0.5 / rows, 0])
    metal = (fraction + shift) % 1 @ cell
    metal[:, 2] = sites[:, 2] * height / layers + 0.6
    metal += rng.normal(size=metal.shape) * 0.10
    above = [rng.uniform(0, a), rng.uniform(0, b), metal[:, 2].max() + 1.8]
    rest = np.vstack([metal, cluster(rng, adsorbed, above, (1.0, 1.5), 0.9, upwards=True)])
    kinds = rng.choice(METALS, rng.integers(1, 4), replace=False)
    numbers = np.concatenate([rng.choice(kinds, bulk), rng.choice([1, 6, 7, 8], adsorbed, p=[0.4, 0.3, 0.1, 0.2])])
    surface = sites[:, 2] >= max(1, layers // 2)
    tags = np.concatenate([surface.astype(int), np.full(adsorbed, 2)])
    start = rng.normal(size=(n, 3)) * 0.08
    start[bulk:] += rng.normal(size=3) * 0.3
    start[tags == 0] = 0
    x, f, elastic = relaxation(rng, rest, start, springs(rng, n, 1.5, 6), tags == 0, 0.002, 0.02)
    zero = sum(ATOM[int(z)] if z > 8 else ADSORBED[int(z)] for z in numbers) - 0.05 * n + rng.normal() * 0.5
    energy = zero + elastic + rng.normal(size=FRAMES) * 1e-3
    return numbers, x, f, energy, tags, cell.astype(np.float32)


def molecule(rng):
    """A molecule of 4 to 23 atoms, 14 on average, and its relaxation."""
    n = 4 + int(round(19 * rng.beta(2.4, 2.16)))
    hydrogens = int(round(n * rng.uniform(0.3, 0.6)))
    rest = cluster(rng, n, [0, 0, 0], (1.05, 1.5), 0.95)
    heavy = rng.choice([6, 7, 8], n - hydrogens, p=[0.7, 0.15, 0.15])
    numbers = np.concatenate([heavy, np.full(hydrogens, 1)]).astype(np.uint8)
    start, nothing = rng.normal(size=(n, 3)) * 0.10, np.zeros(n, bool)
    x, f, elastic = relaxation(rng, rest, start, springs(rng, n, 10, 40), nothing, 0.004, 0.05)
    f -= f.mean(1, keepdims=True)
    zero = sum(ATOM[int(z)] for z in numbers) - 0.3 * n + rng.normal() * 0.3
    return numbers, x, f, zero + elastic + rng.normal(size=FRAMES) * 1e-3


# ------------------------------------------- pickles as torch makes them
def stand_ins():
    """Modules named like torch's, with the least that writing and reading its pickles takes. Real ones are used if there."""
    try:
        import torch  # noqa: F401
        import torch_geometric.data  # noqa: F401
        return "torch and torch_geometric"
    except ImportError:
        pass
    modules = {}
    for name in ("torch", "torch._utils", "torch.storage", "torch_geometric", "torch_geometric.data",
                 "torch_geometric.data.data", "torch_geometric.data.storage"):
        modules[name] = sys.modules[name] = types.ModuleType(name)

    def define(module, name, value):
        value.__module__, value.__qualname__, value.__name__ = module, name, name
        setattr(modules[module], name, value)
        return value

    for name, kind in (("FloatStorage", "<f4"), ("LongStorage", "<i8"), ("DoubleStorage", "<f8")):
        define("torch", name, type(name, (), {"kind": kind}))
    define("torch_geometric.data.data", "Data", type("Data", (), {}))
    define("torch_geometric.data.storage", "GlobalStorage", type("GlobalStorage", (), {}))

    def load_from_bytes(blob):
        file = io.BytesIO(blob)
        for _ in range(3):
            pickle.load(file)
        reader = pickle.Unpickler(file)
        reader.persistent_load = lambda saved: saved
        kind = reader.load()[1].kind
        pickle.load(file)
        (count,) = struct.unpack("<q", file.read(8))
        return np.frombuffer(file.read(), kind, count)

    def rebuild(storage, offset, size, stride, requires_grad, hooks):
        return storage[offset:].reshape(size)

    define("torch.storage", "_load_from_bytes", load_from_bytes)
    define("torch._utils", "_rebuild_tensor_v2", rebuild)
    return "stand-ins that only rebuild numpy arrays, which is less work than torch's"


class Tensor:
    """An array that is pickled as a torch tensor."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array)

    def __reduce__(self):
        shape = self.array.shape
        stride = tuple(int(np.prod(shape[k + 1:], dtype=int)) for k in range(len(shape)))
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Storage(self.array), 0, shape, stride, False, collections.OrderedDict())


class Storage:
    KINDS = {"<f4": "FloatStorage", "<i8": "LongStorage", "<f8": "DoubleStorage"}

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        return sys.modules["torch.storage"]._load_from_bytes, (self.blob(),)

    def blob(self):
        """What torch.save writes for a storage, in its older layout."""
        file = io.BytesIO()
        pickle.dump(0x1950A86A20F9469CFC6C, file, 2)
        pickle.dump(1001, file, 2)
        sizes = {"short": 2, "int": 4, "long": 4}
        pickle.dump({"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}, file, 2)
        kind = getattr(sys.modules["torch"], self.KINDS[self.array.dtype.str])
        writer = pickle.Pickler(file, 2)
        writer.persistent_id = lambda o: ("storage", kind, "0", "cpu", self.array.size, None) if o is self else None
        writer.dump(self)
        pickle.dump(["0"], file, 2)
        file.write(struct.pack("<q", self.array.size) + self.array.tobytes())
        return file.getvalue()


def record(fields):
    """A torch_geometric 2 `Data` with these attributes."""
    data, storage = sys.modules["torch_geometric.data.data"].Data(), sys.modules["torch_geometric.data.storage"].GlobalStorage()
    storage.__dict__.update(_mapping=fields, _parent=None)
    data.__dict__.update(_edge_attr_cls=None, _tensor_attr_cls=None, _store=storage)
    return pickle.dumps(data, protocol=4)


# ------------------------------------------------------------------ files
def write_lmdb(path, count):
    rng = np.random.default_rng(20240607)
    environment = lmdb.open(str(path), map_size=1 << 36, subdir=False, lock=False, meminit=False, map_async=True)
    key = 0
    while key < count:
        numbers, x, f, energy, tags, cell = slab(rng)
        shared = {
            "cell": Tensor(cell[None]),
            "atomic_numbers": Tensor(numbers.astype(np.float32)),
            "natoms": len(numbers),
            "tags": Tensor(tags.astype(np.int64)),
            "fixed": Tensor((tags == 0).astype(np.float32)),
            "sid": 1_000_000 + 7 * (key // FRAMES),
        }
        with environment.begin(write=True) as transaction:
            for frame in range(min(FRAMES, count - key)):
                fields = {"pos": Tensor(x[frame]), "force": Tensor(f[frame]), "y": float(energy[frame]), "fid": frame, **shared}
                transaction.put(b"%d" % key, record(fields))
                key += 1
    with environment.begin(write=True) as transaction:
        transaction.put(b"length", pickle.dumps(count))
    environment.close()


def write_hdf5(path, count):
    rng = np.random.default_rng(20240608)
    with h5py.File(path, "w") as file:
        for number in range(count // FRAMES):
            numbers, x, f, energy = molecule(rng)
            group = file.create_group("m%06d" % number)
            group["atomic_numbers"], group["coordinates"] = numbers, x
            group["wb97x_dz.energy"] = energy / HARTREE
            group["wb97x_dz.forces"] = (f / HARTREE).astype(np.float32)


def read_lmdb(path):
    """Reads every record once, as any Python program that uses the file must. Returns how many there were."""
    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False, meminit=False)
    with environment.begin() as transaction:
        count = pickle.loads(transaction.get(b"length"))
        for key in range(count):
            pickle.loads(transaction.get(b"%d" % key))
    return count
