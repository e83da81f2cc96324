"""An ASE calculator that asks a running `jmp-train predict --serve` over a pipe. No network; needs ASE and numpy only.

    from jmp_calculator import JMP
    with JMP("runs/ethanol") as calculator:
        atoms.calc = calculator
        print(atoms.get_potential_energy(), atoms.get_forces())

The conversation is described in docs/predict.md. Energies in eV, forces in eV/Å.
"""
import json
import shlex
import subprocess
import tempfile

import numpy as np
from ase.calculators.calculator import Calculator, CalculatorError, all_changes

PROTOCOL = 1


class Died(Exception):
    """The program ended, or closed its side of the pipe."""


class JMP(Calculator):
    """Energies and forces, or one property, of a checkpoint.

    checkpoint: a run directory, a checkpoint in it, or a file of weights.
    task:       which task of a model of several.
    command:    the program, as one text or a list of words.
    options:    more words for `jmp-train predict`, for example ["--device", "cuda", "--precision", "f64"].

    The program starts with the first calculation and ends with `close()`, at the end of a `with` block or with Python. One
    that dies is started once more for the same structure; a second death is an error, with what it last said.
    """

    # What a model gives is known when it has started; until then, what most give.
    implemented_properties = ["energy", "free_energy", "forces"]

    def __init__(self, checkpoint, task=None, command="jmp-train", options=(), **kwargs):
        super().__init__(**kwargs)
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
        self.command = words + ["predict", "--serve", "--checkpoint", str(checkpoint)]
        self.command += (["--task", task] if task else []) + [str(word) for word in options]
        self.process = None
        self.log = None
        self.greeting = None
        self.asked = 0

    def start(self):
        """Starts the program, unless it runs, and waits until the model is loaded."""
        if self.process is not None:
            return
        self.log = tempfile.TemporaryFile()
        try:
            # In a session of its own, so that Ctrl-C stops the Python program and not the model.
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                            encoding="utf-8", start_new_session=True)
        except OSError as problem:
            self.log.close()
            raise CalculatorError("cannot start %s: %s; name the program with command=" % (self.command[0], problem))
        try:
            self.greeting = self.read()
        except Died:
            raise CalculatorError("%s did not start: %s" % (shlex.join(self.command), self.end())) from None
        if self.greeting.get("protocol") != PROTOCOL:
            self.close()
            raise CalculatorError("jmp-train speaks version %s of the conversation, this calculator %s; use the file "
                                  "tools/ase/jmp_calculator.py of the same release" % (self.greeting.get("protocol"), PROTOCOL))
        label = self.greeting["label"]
        # A model that was trained on forces alone, by a head of their own, has no label.
        labels = {"energy": ["energy", "free_energy"], None: []}
        self.implemented_properties = labels.get(label, [label]) + (["forces"] if self.greeting["forces"] else [])

    def get_property(self, name, atoms=None, allow_calculation=True):
        # What the model gives must be known before ASE asks whether it gives `name`.
        if allow_calculation:
            self.start()
        return super().get_property(name, atoms, allow_calculation)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        try:
            answer = self.ask(self.atoms)
        except Died:
            first = self.end()
            try:
                answer = self.ask(self.atoms)
            except Died:
                raise CalculatorError("jmp-train died twice with this structure; first: %s; then: %s"
                                      % (first, self.end())) from None
        if "error" in answer:
            raise CalculatorError("jmp-train: %s" % answer["error"])
        results = answer["results"]
        if "forces" in results:
            results["forces"] = np.array(results["forces"], float).reshape(-1, 3)
        if "energy" in results:
            results["free_energy"] = results["energy"]
        self.results = results

    def ask(self, atoms):
        """The answer to one structure, as it came."""
        self.start()
        self.asked += 1
        question = {
            "id": self.asked,
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
        }
        if atoms.has("tags"):
            question["tags"] = atoms.get_tags().tolist()
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise Died from None
        answer = self.read()
        if answer.get("id") not in (self.asked, None):
            self.close()
            raise CalculatorError("jmp-train answered question %s instead of %d" % (answer.get("id"), self.asked))
        return answer

    def read(self):
        line = self.process.stdout.readline()
        if not line.endswith("\n"):
            raise Died
        return json.loads(line)

    def end(self):
        """Ends the program; returns what it last said, or how it ended."""
        process, log = self.process, self.log
        if process is None:
            return ""
        self.process = self.log = None
        for pipe in (process.stdin, process.stdout):
            try:
                pipe.close()
            except OSError:
                pass
        try:
            code = process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        log.seek(0)
        said = log.read().decode("utf-8", "replace").strip()
        log.close()
        return said[-2000:] or "exit code %d" % code

    def close(self):
        """Ends the program. The next calculation starts it again."""
        self.end()

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        self.close()

    def __del__(self):
        if getattr(self, "process", None) is not None:
            self.close()
