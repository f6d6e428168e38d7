"""Hostile clients and backends against a real node, byte by byte.

    cargo xtask hostile         makes a place with what requirements.txt names, and calls this
    python run.py BINARY [--only NAME]

A case is a function of `cases/`, named by what must be true; its docstring names the section of the RFC. After each the node has to serve
somebody else. The last line tells how many ran.
"""

import argparse
import importlib
import os
import tempfile
import traceback
from pathlib import Path

from world import World


def main():
    words = argparse.ArgumentParser()
    words.add_argument("binary")
    words.add_argument("--only", default="", help="cases with this in their line: 'floods rapid_reset'")
    words = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegate-hostile-") as folder:
        world = World(words.binary, folder)
        try:
            lines = [judged(world, name, case) for name, case in cases() if words.only in f"{name} {case.__name__}"]
        finally:
            world.stop()
    failed = sum(line.startswith("FAIL") for line in lines)
    print(f"{len(lines)} cases ran, {failed} failed", flush=True)
    os._exit(1 if failed or not lines else 0)  # Threads of backends may wait for ever.


def cases():
    for file in sorted((Path(__file__).parent / "cases").glob("*.py")):
        for case in importlib.import_module(f"cases.{file.stem}").CASES:
            yield file.stem, case


def judged(world, name, case):
    world.plain.forget()
    world.odd.forget()
    try:
        case(world)
        world.is_well()
        line = f"ok    {name} {case.__name__}"
    except Exception:
        line = f"FAIL  {name} {case.__name__}\n{traceback.format_exc(limit=-4)}"
    print(line, flush=True)
    return line


main()
