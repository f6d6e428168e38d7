"""The code of docs/llm/quickstart.md, as it stands there: each piece is run, and prints what stands under it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from judge import same

PAGE = Path(__file__).resolve().parents[2] / "docs/llm/quickstart.md"
PIECE = re.compile(r"^## (?P<name>[^\n]+)\n.*?^```(?P<kind>python|js)\n(?P<code>.*?)^```\n\n```text\n(?P<told>.*?)^```$", re.DOTALL | re.MULTILINE)


def cases(world, node):
    """`node`: the folder with node_modules; without it what is of Node.js is not run."""
    text = PAGE.read_text()
    pieces = list(PIECE.finditer(text))
    assert len(pieces) == text.count("\n## ") == 9, f"{len(pieces)} pieces of {text.count(chr(10) + '## ')}"
    return [case(world, node, piece) for piece in pieces if node or piece["kind"] == "python"]


def case(world, node, piece):
    def run():
        env = {**os.environ, "TIDEGATE_URL": world.url, "TIDEGATE_KEY": world.key}
        if piece["kind"] == "js":
            # Modules are looked for beside the file.
            file = Path(node) / "quickstart.tmp.mjs"
            file.write_text(piece["code"])
            command = ["node", "--no-warnings", str(file)]
        else:
            command = [sys.executable, "-W", "ignore", "-c", piece["code"]]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        same(done.stdout.strip(), piece["told"].strip(), done.stderr[-500:])

    run.__name__ = piece["name"]
    return run
