"""The ASE calculator of tools/ase with a model trained here in seconds: forces, optimisation, energy drift, faults.

The potential means nothing; that forces are its exact derivative, and that energy is kept, must hold whatever the weights.
"""
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculatorError, PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.verlet import VelocityVerlet
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.optimize import BFGS

from shard_files import ROOT, Converted

sys.path.insert(0, str(ROOT / "tools" / "ase"))
from jmp_calculator import JMP

TRAIN = Path(os.environ.get("JMP_TRAIN", ROOT / "target" / "release" / "jmp-train")).resolve()

# All neighbours of ethanol's nine atoms take part in all graphs (30 main ones give 8 of the quadruplets'), so that the
# energy has no jumps.
CONFIG = """
kind = "finetune"
run = { dir = "run", seed = 5, device = "cpu", threads = 1, precision = "f64" }
model = { preset = "tiny" }
dataset = { name = "ethanol", path = "shards", train = "train_01", cutoff = 12.0, neighbors = 30, force_weight = 10.0 }
heads = { forces = "gradient" }
sampling = { batch_size = 8 }
optimizer = { lr = 2e-3, clip = { value = 1.0 }, ema = 0.9 }
schedule = { warmup_epochs = 1 }
stop = { epochs = 4 }
"""


def setUpModule():
    global shards, folder, run
    shards = Converted("rmd17", "demo/rmd17/npz_data/rmd17_ethanol.npz")
    folder = Path(shards.folder.name)
    (folder / "config.toml").write_text(CONFIG)
    done = subprocess.run([str(TRAIN), "finetune", "config.toml", "--scratch", "--quiet"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = folder / "run"


def tearDownModule():
    shards.close()


def ethanol():
    """A structure of the training data."""
    positions = np.array(shards.column("positions")[0], float).reshape(-1, 3)
    return Atoms(shards.column("atomic_numbers")[0], positions)


def predict(*words, stdin=None):
    return subprocess.run([str(TRAIN), "predict", *map(str, words)], capture_output=True, text=True, input=stdin)


class WithCalculator(unittest.TestCase):
    def setUp(self):
        self.calculator = JMP(run, command=str(TRAIN))
        self.addCleanup(self.calculator.close)


class Physics(WithCalculator):
    def test_forces_are_the_derivative_of_the_energy(self):
        atoms = ethanol()
        atoms.calc = self.calculator
        forces = atoms.get_forces()
        self.assertGreater(np.abs(forces).max(), 1e-2)
        step = 1e-4
        for atom in range(len(atoms)):
            for axis in range(3):
                energies = []
                for sign in (1, -1):
                    moved = atoms.copy()
                    moved.positions[atom, axis] += sign * step
                    moved.calc = self.calculator
                    energies.append(moved.get_potential_energy())
                numeric = -(energies[0] - energies[1]) / (2 * step)
                self.assertAlmostEqual(forces[atom, axis], numeric, delta=1e-6 * max(1, np.abs(forces).max()))

    def test_no_net_force_and_no_net_torque(self):
        atoms = ethanol()
        atoms.calc = self.calculator
        forces = atoms.get_forces()
        scale = np.abs(forces).max()
        np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-9 * scale)
        arms = atoms.positions - atoms.positions.mean(axis=0)
        np.testing.assert_allclose(np.cross(arms, forces).sum(axis=0), 0, atol=1e-8 * scale)

    def test_a_molecule_is_relaxed(self):
        atoms = ethanol()
        atoms.rattle(0.05, seed=1)
        atoms.calc = self.calculator
        before = atoms.get_potential_energy()
        start = np.linalg.norm(atoms.get_forces(), axis=1).max()
        converged = BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=0.02 * start, steps=300)
        self.assertTrue(converged)
        self.assertLess(atoms.get_potential_energy(), before)

    def test_energy_is_kept_in_dynamics(self):
        def drift(step):
            atoms = ethanol()
            atoms.calc = self.calculator
            MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(2))
            Stationary(atoms)
            kinetic = atoms.get_kinetic_energy()
            dynamics = VelocityVerlet(atoms, step * units.fs)
            totals = [atoms.get_total_energy()]
            for _ in range(round(50 / step)):
                dynamics.run(1)
                totals.append(atoms.get_total_energy())
            self.assertGreater(abs(atoms.get_kinetic_energy() - kinetic), 1e-3)
            return np.abs(np.array(totals) - totals[0]).max()

        coarse, fine = drift(0.5), drift(0.25)
        self.assertLess(coarse, 0.02)
        # The error of velocity Verlet falls with the square of the step if, and only if, forces belong to the energy.
        self.assertLess(fine, 0.35 * coarse)


class OtherModels(unittest.TestCase):
    def trained(self, name, config, *words):
        (folder / (name + ".toml")).write_text(config)
        words = ["--set", "run.dir=" + name, "--set", "stop.epochs=1", *words]
        done = subprocess.run([str(TRAIN), "finetune", name + ".toml", "--scratch", "--quiet", *words], cwd=folder,
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        calculator = JMP(folder / name, command=str(TRAIN))
        self.addCleanup(calculator.close)
        return calculator

    def test_a_property_is_known_before_the_first_calculation(self):
        crystals = Converted("matbench", "matbench/matbench_dielectric.json.gz")
        self.addCleanup(crystals.close)
        os.symlink(crystals.folder.name + "/shards", folder / "crystals")
        self.addCleanup(os.remove, folder / "crystals")
        config = CONFIG.replace('name = "ethanol", path = "shards", train = "train_01"',
                                'name = "crystals", path = "crystals", train = "fold0_train"')
        config = config.replace(", force_weight = 10.0", "").replace('forces = "gradient"', 'target = "refractive_index"')
        calculator = self.trained("property", config)
        atoms = Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[5.6, 5.6, 5.6], pbc=True)
        index = calculator.get_property("refractive_index", atoms)
        self.assertTrue(np.isfinite(index))
        self.assertEqual(calculator.implemented_properties, ["refractive_index"])
        with self.assertRaises(PropertyNotImplementedError):
            calculator.get_property("energy", atoms)

    def test_forces_alone_move_a_molecule(self):
        calculator = self.trained("forces", CONFIG, "--set", "heads.forces=direct", "--set", "dataset.energy_weight=0")
        atoms = ethanol()
        atoms.calc = calculator
        start = atoms.positions.copy()
        self.assertEqual(atoms.get_forces().shape, (9, 3))
        self.assertEqual(calculator.implemented_properties, ["forces"])
        with self.assertRaises(PropertyNotImplementedError):
            atoms.get_potential_energy()
        dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
        dynamics.run(3)
        self.assertGreater(np.abs(atoms.positions - start).max(), 1e-5)


class Faults(WithCalculator):
    def test_a_program_that_dies_is_started_once_more(self):
        atoms = ethanol()
        atoms.calc = self.calculator
        before = atoms.get_potential_energy()
        os.kill(self.calculator.process.pid, signal.SIGKILL)
        atoms.rattle(0.01, seed=3)
        self.assertNotEqual(atoms.get_potential_energy(), before)
        second = self.calculator.process.pid
        os.kill(second, signal.SIGKILL)
        self.calculator.process.wait()
        self.calculator.command = [str(TRAIN), "predict", "--serve", "--checkpoint", str(folder / "nowhere")]
        atoms.rattle(0.01, seed=4)
        with self.assertRaisesRegex(CalculatorError, "did not start: error: .*nowhere: no checkpoint here"):
            atoms.get_potential_energy()

    def test_errors_are_answers_and_the_next_question_is_answered(self):
        good = ethanol()
        good.calc = self.calculator
        good.get_potential_energy()
        process = self.calculator.process.pid
        far = Atoms("CO", [[0, 0, 0], [0, 0, 50]])
        far.calc = self.calculator
        with self.assertRaisesRegex(CalculatorError, r"atom 0 \(C\) has no neighbour within 12 Å"):
            far.get_forces()
        gold = Atoms("Au2", [[0, 0, 0], [0, 0, 2]])
        gold.calc = self.calculator
        with self.assertRaisesRegex(CalculatorError, "element Au .* absent from the linear reference"):
            gold.get_forces()
        lost = ethanol()
        lost.positions[0, 0] = np.nan
        lost.calc = self.calculator
        with self.assertRaisesRegex(CalculatorError, "not JSON"):
            lost.get_forces()
        again = ethanol()
        again.calc = self.calculator
        self.assertEqual(again.get_potential_energy(), good.get_potential_energy())
        self.assertEqual(self.calculator.process.pid, process)

    def test_a_wrong_program_or_checkpoint_is_told(self):
        atoms = ethanol()
        atoms.calc = JMP(run, command="/nowhere/jmp-train")
        with self.assertRaisesRegex(CalculatorError, "cannot start /nowhere/jmp-train"):
            atoms.get_forces()
        atoms.calc = JMP(folder / "missing", command=str(TRAIN))
        with self.assertRaisesRegex(CalculatorError, "no checkpoint here"):
            atoms.get_forces()
        atoms.calc = JMP(run, task="other", command=str(TRAIN))
        with self.assertRaisesRegex(CalculatorError, "no task `other`; the model has ethanol"):
            atoms.get_forces()

    def test_the_program_ends_with_its_input(self):
        self.calculator.start()
        process = self.calculator.process
        process.stdin.close()
        self.assertEqual(process.wait(timeout=30), 0)


class Files(WithCalculator):
    def frames(self):
        """What ASE may write: a molecule with results of its own, a constraint and entries; periodic structures."""
        first, second = ethanol(), ethanol()
        first.info.update(name="two words", matrix=np.eye(3), flag=True, REF_energy=-1.5)
        first.calc = SinglePointCalculator(first, energy=-7.0, forces=np.ones((9, 3)), dipole=[1, 2, 3])
        second.rattle(0.02, seed=5)
        second.set_cell([8, 9, 10])
        second.pbc = [True, True, False]
        second.set_initial_magnetic_moments(np.linspace(0, 1, 9))
        return [first, second]

    def test_ase_reads_what_is_written_and_the_calculator_agrees(self):
        given, out = folder / "given.extxyz", folder / "out.extxyz"
        self.addCleanup(out.unlink)
        frames = self.frames()
        ase.io.write(given, frames)
        done = predict("--checkpoint", run, given, out)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("energy and forces of 2 structures", done.stdout)
        results = ase.io.read(out, ":")
        self.assertEqual(len(results), 2)
        for before, after in zip(ase.io.read(given, ":"), results):
            self.assertIsInstance(after.calc, SinglePointCalculator)
            self.assertEqual(sorted(after.calc.results), ["energy", "forces"])
            np.testing.assert_array_equal(before.numbers, after.numbers)
            np.testing.assert_array_equal(before.positions, after.positions)
            np.testing.assert_array_equal(before.cell.array, after.cell.array)
            np.testing.assert_array_equal(before.pbc, after.pbc)
            self.assertEqual(sorted(before.info), sorted(after.info))
            for key, value in before.info.items():
                np.testing.assert_array_equal(value, after.info[key])
            self.assertEqual(sorted(before.arrays), sorted(after.arrays))
            for key, value in before.arrays.items():
                np.testing.assert_array_equal(value, after.arrays[key])
            before.calc = self.calculator
            # Another batch, another order of sums.
            self.assertAlmostEqual(after.get_potential_energy(), before.get_potential_energy(), places=8)
            np.testing.assert_allclose(after.get_forces(), before.get_forces(), atol=1e-9)

    def test_pipes(self):
        given = folder / "piped.extxyz"
        ase.io.write(given, self.frames() * 3)
        done = predict("--checkpoint", run, "-", "-", stdin=given.read_text())
        self.assertEqual(done.returncode, 0, done.stderr)
        (folder / "answer.extxyz").write_text(done.stdout)
        self.assertEqual(len(ase.io.read(folder / "answer.extxyz", ":")), 6)
        again = predict("--checkpoint", run, "--batch-size", 1, "--quiet", "-", "-", stdin=given.read_text())
        self.assertEqual((again.returncode, again.stderr), (0, ""))
        # ASE writes positions with eight decimals: what counts is what it wrote.
        for one, other in zip(ase.io.read(folder / "answer.extxyz", ":"), ase.io.read(given, ":")):
            other.calc = self.calculator
            self.assertAlmostEqual(one.get_potential_energy(), other.get_potential_energy(), places=8)

    def test_what_was_written_before_a_fault_is_valid(self):
        given, out = folder / "faulty.extxyz", folder / "faulty-out.extxyz"
        ase.io.write(given, self.frames() + [Atoms("Au2", [[0, 0, 0], [0, 0, 2]])] + self.frames())
        done = predict("--checkpoint", run, given, out)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"faulty.extxyz: frame 2 \(line 23\): element Au \(Z = 79\) is absent")
        self.assertFalse(out.exists())
        self.assertEqual(len(ase.io.read(str(out) + ".partial", ":", format="extxyz")), 2)


if __name__ == "__main__":
    unittest.main()
