"""A node in front of the fake providers and of llama.cpp, and the key to ask it with."""

import json
import os
import subprocess
import time
from pathlib import Path

import providers

# A model for each: the name says who answers it.
KINDS = {"openai": "gpt-5-real", "anthropic": "claude-sonnet-4-5-real", "gemini": "gemini-3-real", "bedrock": "anthropic.claude-sonnet-4-5-real"}
MODELS = [f"by-{kind}" for kind in KINDS]


class World:
    def __init__(self, binary, folder, llama=None):
        """`llama`: the URL of a llama.cpp server; a model `by-llama` is asked there."""
        self.binary, folder = str(Path(binary).resolve()), Path(folder)
        ready, at = folder / "ready", "127.0.0.1:0"
        command = [self.binary, "serve", "--data", folder / "data", "--http", at, "--https", at, "--admin", at, "--peer", at, "--ready-file", ready]
        self.log = folder / "node.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env={**os.environ, "PROVIDER_KEY": providers.KEY}, stdout=subprocess.DEVNULL, stderr=log)
        until = time.time() + 60
        while not ready.exists() or not ready.read_text().strip():
            assert time.time() < until and self.process.poll() is None, f"the node does not start:\n{self.log.read_text()}"
            time.sleep(0.02)
        place = json.loads(ready.read_text())
        self.url = f"http://{place['http']}"
        self.env = {**os.environ, "TIDEGATE_ADMIN": f"http://{place['admin']}", "TIDEGATE_TOKEN": (folder / "data/admin.token").read_text().strip()}
        self.access = folder / "access.log"
        document = self.document(providers.start(), llama)
        (folder / "llm.json").write_text(json.dumps(document))
        self.cli("apply", str(folder / "llm.json"), "--wait")
        self.key = json.loads(self.cli("key", "create", "app", "-o", "json"))["secret"]

    def document(self, url, llama):
        document = {
            "version": 1,
            "secrets": [{"name": "provider", "from": "env:PROVIDER_KEY"}],
            "consumers": [{"name": "app"}],
            "providers": [{"name": kind, "kind": kind, "url": url, "key": "${secrets.provider}"} for kind in KINDS],
            "models": [{"name": f"by-{kind}", "deployments": [{"provider": kind, "model": model}], "losses": "drop"} for kind, model in KINDS.items()],
            "limits": [{"name": "tokens", "window": "1h", "max": 10_000_000, "per": ["key", "model"], "cost": {"from": "tokens"}}],
            "routes": [{"name": "llm", "match": {"path": "/*"}, "llm": {"models": [*MODELS, "fast"]}, "auth": ["key"], "limits": ["tokens"]}],
            "telemetry": {"access_log": {"format": "json", "file": str(self.access)}},
        }
        # Of docs/llm/quickstart.md.
        document["models"].append({"name": "fast", "deployments": [{"provider": "openai", "model": "gpt-5-mini"}], "losses": "drop"})
        if llama:
            document["providers"].append({"name": "llama", "kind": "openai_compatible", "url": f"{llama}/v1"})
            document["models"].append({"name": "by-llama", "deployments": [{"provider": "llama", "model": "tiny"}], "max_output": 64, "losses": "drop"})
            document["routes"][0]["llm"]["models"].append("by-llama")
        return document

    def cli(self, *words):
        done = subprocess.run([self.binary, *words], env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def logged(self, sure):
        """What the access log tells about the last call that `sure` is true of; waits until it stands there."""
        until = time.time() + 10
        while True:
            lines = [json.loads(line) for line in self.access.read_text().splitlines()] if self.access.exists() else []
            found = [line["llm"] for line in lines if line.get("llm") and sure(line["llm"])]
            if found:
                return found[-1]
            assert time.time() < until, f"the access log does not tell it: {[line.get('llm') for line in lines[-3:]]}"
            time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
