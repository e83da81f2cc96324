"""Runs one stage of CI: `python3 scripts/stage.py NAME COMMAND…`; prints its minutes and peak memory when it ends.

Peak memory is the largest sum, over one sampling, of the resident memory of the command and all its descendants.
"""
import os
import subprocess
import sys
import threading
import time


def parents_and_memory():
    """Every process: its parent and its resident memory in bytes."""
    page, table = os.sysconf("SC_PAGE_SIZE"), {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as file:
                    fields = file.read().rsplit(")", 1)[1].split()
                table[int(entry)] = (int(fields[1]), int(fields[21]) * page)
            except (OSError, IndexError):
                continue  # it ended meanwhile
    return table


def tree_memory(root):
    table = parents_and_memory()
    total, inside = 0, {root}
    # Parents can have larger ids than children, so repeat until nothing is added.
    grown = True
    while grown:
        grown = False
        for pid, (parent, _) in table.items():
            if parent in inside and pid not in inside:
                inside.add(pid)
                grown = True
    for pid in inside & table.keys():
        total += table[pid][1]
    return total


def main():
    name, command = sys.argv[1], sys.argv[2:]
    print("=== %s: %s" % (name, " ".join(command)), flush=True)
    started, peak, ended = time.monotonic(), 0, threading.Event()
    process = subprocess.Popen(command)

    def watch():
        nonlocal peak
        while not ended.wait(0.5):
            peak = max(peak, tree_memory(process.pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    code = process.wait()
    ended.set()
    watcher.join()
    minutes = (time.monotonic() - started) / 60
    told = "=== %s: %s in %.1f minutes, peak memory %.1f GB" % (name, "ok" if code == 0 else "FAILED (exit code %d)" % code, minutes, peak / 1e9)
    print(told, flush=True)
    summary = os.environ.get("JMP_STAGES")
    if summary:
        with open(summary, "a") as file:
            file.write(told + "\n")
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
