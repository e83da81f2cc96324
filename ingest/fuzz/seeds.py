"""Writes the seed corpora from the fixtures of the repository: python seeds.py (needs lmdb).

Every file is small, so that mutations hit something. Files that fuzzing found (crash-*, slow-*) lie beside them and are
kept."""
import gzip
import json
import pathlib
import sqlite3
import tempfile
import zipfile
import zlib

import lmdb

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent.parent / "tests" / "fixtures"


def write(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def lmdb_file(items):
    """The bytes of an LMDB file with these entries."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/data.lmdb"
        env = lmdb.open(path, subdir=False, map_size=1 << 20, sync=False)
        with env.begin(write=True) as txn:
            for key, value in items:
                txn.put(key, value)
        env.close()
        return pathlib.Path(path).read_bytes()


def database():
    """The fixture's database with one row and without its indices."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.db"
        path.write_bytes((FIXTURES / "ase_files/rows.db").read_bytes())
        db = sqlite3.connect(path)
        tables = [name for (name,) in db.execute("select name from sqlite_master where type = 'table'")]
        for name in [n for n in tables if n not in ("systems", "information", "sqlite_sequence")]:
            db.execute(f"drop table {name}")
        db.execute("delete from systems where id > 2")
        db.commit()
        db.execute("vacuum")
        db.close()
        return path.read_bytes()


def npz(members):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "x.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            for name, data in members:
                z.writestr(zipfile.ZipInfo(name), data)
        return path.read_bytes()


def npy(descr, shape, data):
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (53 - len(head) % 64 + 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


def main():
    for path in sorted((FIXTURES / "pickle").glob("*.p*")):
        if path.stat().st_size < 8000:
            write("pickle", path.name, path.read_bytes())
    records = [p for p in sorted((FIXTURES / "pickle").glob("ok_pyg*.pkl"))]
    for path in records:
        write("lmdb_value", path.name, path.read_bytes())
    values = [(str(i).encode(), p.read_bytes()) for i, p in enumerate(records[:2])]
    write("lmdb", "two.lmdb", lmdb_file([*values, (b"length", b"\x80\x04K\x02.")]))
    write("lmdb", "small.lmdb", lmdb_file([(b"0", b"\x80\x04N."), (b"length", b"\x80\x04K\x01.")]))

    many = bytearray(lmdb_file([(b"0", b"\x80\x04N.")]))
    for page in (0, 4096):  # the count of entries in both header pages
        many[page + 120:page + 128] = (1 << 62).to_bytes(8, "little")
    write("lmdb", "many_entries.lmdb", bytes(many))

    source = lmdb.open(str(FIXTURES / "aselmdb/manual.aselmdb"), subdir=False, readonly=True, lock=False)
    with source.begin() as txn:
        items = [(k, bytes(v)) for k, v in txn.cursor() if k in (b"1", b"2", b"metadata")]
    source.close()
    items += [(b"nextid", zlib.compress(b"3")), (b"deleted_ids", zlib.compress(b"[]"))]
    write("aselmdb", "two.aselmdb", lmdb_file(items))
    write("traj", "frames.traj", (FIXTURES / "ase_files/frames.traj").read_bytes())
    write("db", "row.db", database())

    member = {"nuclear_charges": npy("|u1", "(1,)", b"\x06"), "coords": npy("<f8", "(1, 1, 3)", bytes(24)),
              "energies": npy("<f8", "(1,)", bytes(8)), "forces": npy("<f8", "(1, 1, 3)", bytes(24)),
              "old_indices": npy("<i8", "(1,)", bytes(8))}
    write("npz", "rmd17.npz", npz([(f"{k}.npy", v) for k, v in member.items()]))
    write("npz", "text.npz", npz([("name.npy", npy("<U3", "()", "abc".encode("utf-32-le")))]))
    write("npz", "metadata.npz", (FIXTURES / "oc20/s2ef_pyg2/metadata.npz").read_bytes())

    write("extxyz", "variants.extxyz", (FIXTURES / "extxyz/variants.extxyz").read_bytes())
    ase = (FIXTURES / "extxyz/ase.extxyz").read_text().splitlines(keepends=True)
    write("extxyz", "first.extxyz", "".join(ase[:int(ase[0]) + 2]).encode())

    with gzip.open(FIXTURES / "matbench/matbench_dielectric.json.gz") as f:
        table = json.load(f)
    rows = [table["data"][i] for i in (0, 7)]
    text = json.dumps({"index": [0, 1], "columns": table["columns"], "data": rows}).encode()
    write("matbench", "two.json", text)
    write("matbench", "compact.json", text.replace(b", ", b",").replace(b": ", b":"))
    write("json", "two.json", text)
    write("json", "values.json", b'[1, -2.5e-3, "a\\"\\u00e9", {"b": [true, null, {}]}, [], NaN, -Infinity]')
    for i in (0, 7, 9):
        write("structure", f"row{i}.json", json.dumps(table["data"][i][0]).encode())

    with zipfile.ZipFile(FIXTURES / "qmof/qmof_database/relaxed_structures.zip") as z:
        for name in sorted(z.namelist())[:2]:
            write("cif", pathlib.Path(name).name, z.read(name))
    write("cif", "symmetric.cif", b"""data_x
_cell_length_a 4.0(2)
_cell_length_b 4.0
_cell_length_c 5.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120.
_cell_volume 69.282
_chemical_formula_sum 'O2 Si1'
_note
;text
;
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
'-x+1/2, -y, -z'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 0.25 0 0 1
O1 0.25(1) 0.5 -0.125 1.0
""")
    sdf = (FIXTURES / "qm9/pyg_raw/gdb9.sdf").read_bytes().split(b"$$$$\n")
    rows = (FIXTURES / "qm9/pyg_raw/gdb9.sdf.csv").read_bytes().splitlines(keepends=True)
    write("sdf", "two.sdf", b"".join(m + b"$$$$\n" for m in sdf[:2]) + b"\0" + b"".join(rows[:3]))
    write("sdf", "one.sdf", sdf[3] + b"$$$$\n\0" + rows[0] + rows[4])
    for k in (1, 8):
        name = f"dsgdb9nsd_{k:06d}.xyz"
        write("qm9_xyz", name, (FIXTURES / "qm9/xyz" / name).read_bytes())
    lines = (FIXTURES / "qmof/qmof_database/qmof.csv").read_bytes().splitlines(keepends=True)
    write("csv", "qmof.csv", b"".join(lines[:4]))
    write("csv", "quoted.csv", b'a,"b ""c"""\r\n1,"x,\ny"\r\n')


if __name__ == "__main__":
    main()
