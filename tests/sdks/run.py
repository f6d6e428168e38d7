"""Official SDKs against a real node: their parsers judge what callers get, in their own dialect and translated.

    cargo xtask sdks            makes a place with the SDKs in requirements.txt and node/package-lock.json, and calls this
    python run.py BINARY [FOLDER OF THE NODE.JS PART] [--only NAME]

Every case runs over four fake providers (`providers.py`, `dialects/`), one for each dialect, and some over a real llama.cpp
server (`llama.py`). An SDK that is missing fails the run. The last line tells how many ran.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import llama
import quickstart
from cases import anthropic_sdk, boto3_sdk, cohere_sdk, google_sdk, langchain_sdk, llama_server, openai_sdk
from world import MODELS, World

SDKS = {
    "openai": openai_sdk,
    "anthropic": anthropic_sdk,
    "google-genai": google_sdk,
    "langchain-openai": langchain_sdk,
    "boto3": boto3_sdk,
    "cohere": cohere_sdk,
}


def main():
    words = argparse.ArgumentParser()
    words.add_argument("binary")
    words.add_argument("node", nargs="?", help="the folder with run.mjs and node_modules")
    words.add_argument("--only", default="", help="cases with this in their line: 'anthropic by-gemini loop'")
    words = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegate-sdks-") as folder:
        server, url = llama.start(Path(folder))
        world = World(words.binary, folder, url)
        try:
            lines = python_cases(world, words)
            if words.node:
                lines += node_cases(world, words)
        finally:
            world.stop()
            del server
    failed = sum(line.startswith("FAIL") for line in lines)
    print(f"{len(lines)} cases ran, {failed} failed")
    sys.exit(1 if failed or not lines else 0)


def python_cases(world, words):
    every = [(name, model, case) for name, sdk in SDKS.items() for model in MODELS for case in sdk.cases(world, model)]
    every += [("llama.cpp", "by-llama", case) for case in llama_server.cases(world, "by-llama")]
    every += [("quick start", "fast", case) for case in quickstart.cases(world, words.node)]
    lines = []
    for name, model, case in every:
        line = f"{name} {model} {case.__name__}"
        if words.only not in line:
            continue
        try:
            case()
            lines.append(f"ok    {line}")
        except Exception:
            lines.append(f"FAIL  {line}\n{traceback.format_exc(limit=-3)}")
        print(lines[-1], flush=True)
    return lines


def node_cases(world, words):
    env = {**os.environ, "TIDEGATE_URL": world.url, "TIDEGATE_KEY": world.key, "MODELS": ",".join(MODELS), "ONLY": words.only}
    done = subprocess.run(["node", "--no-warnings", Path(words.node) / "run.mjs"], env=env, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    print(done.stdout, end="", flush=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ok  ", "FAIL"))]
    if done.returncode and not any(line.startswith("FAIL") for line in lines):
        lines.append(f"FAIL  the part of Node.js ended with {done.returncode}")
        print(lines[-1])
    return lines


main()
