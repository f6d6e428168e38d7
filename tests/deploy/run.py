"""Are the samples in deploy/ what they say? The chart is rendered by Helm and judged by Kubernetes' own schemas; what its
pods and compose.yaml tell their nodes is told to real ones.

    run.py TIDEGATE        (`cargo xtask deploy` finds a Python with what it needs)
"""

import base64
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import kubernetes_validate
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "tidegate"
HELM = pathlib.Path(sys.executable).parent / "helm"
# The oldest that Chart.yaml names, and a newer one.
RELEASES = ["1.27", "1.33"]
# Of an operator's, who brings the schema along.
FOREIGN = {"ServiceMonitor"}

VALUES = {
    "as it is": {},
    "one node": {"voters": 1},
    "five, and more with the traffic": {"voters": 5, "extra": {"autoscaling": {"enabled": True, "max": 20}}},
    "a few more": {"extra": {"replicas": 2, "resources": {"requests": {"cpu": "2"}}}},
    "all of it": {
        "admin": {"tlsSecret": "admin-tls"},
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "tokenSecret": {"name": "reader"}},
        "service": {"http3": True, "type": "NodePort", "annotations": {"a": "b"}},
        "cluster": {"existingSecret": "ours"},
        "env": {"TIDEGATE_REDIS_URL": "redis://redis:6379", "TIDEGATE_LOG": "debug"},
        "secretEnv": [{"name": "OPENAI_KEY", "secret": "providers", "key": "openai"}],
        "persistence": {"size": "1Gi", "storageClass": "fast"},
        "priorityClassName": "high",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gate", "operator": "Exists"}],
        "imagePullSecrets": [{"name": "pull"}],
        "networkPolicy": {"enabled": False},
    },
}
REFUSED = {
    "two voters lose nothing that one would not": {"voters": 2},
    "no setting of ours": {"env": {"path": "/"}},
    "a monitor that could not reach the port": {"serviceMonitor": {"enabled": True, "tokenSecret": {"name": "reader"}}},
    "a monitor that would hear 401": {"serviceMonitor": {"enabled": True}, "admin": {"tlsSecret": "admin-tls"}},
}


def helm(*words, values=None):
    done = subprocess.run([HELM, *words, "--values", "-"] if values is not None else [HELM, *words],
                          input=json.dumps(values) if values is not None else None, capture_output=True, text=True)
    return done.returncode == 0, done.stdout if done.returncode == 0 else done.stderr


def render(values):
    went_well, text = helm("template", "gate", str(CHART), "--namespace", "edge", values=values)
    assert went_well, text
    return [thing for thing in yaml.safe_load_all(text) if thing]


def selects(selector, labels):
    return selector.items() <= labels.items()


def judge(things, settings):
    """What the schemas do not see."""
    by_kind = {}
    for thing in things:
        by_kind.setdefault(thing["kind"], []).append(thing)
        if thing["kind"] not in FOREIGN:
            for release in RELEASES:
                kubernetes_validate.validate(thing, release, strict=True)
    pods = [thing["spec"]["template"] for kind in ("StatefulSet", "Deployment") for thing in by_kind.get(kind, [])]
    for workload in by_kind["StatefulSet"] + by_kind.get("Deployment", []):
        assert selects(workload["spec"]["selector"]["matchLabels"], workload["spec"]["template"]["metadata"]["labels"])
    for service in by_kind["Service"]:
        chosen = [pod for pod in pods if selects(service["spec"]["selector"], pod["metadata"]["labels"])]
        assert chosen, f"{service['metadata']['name']} chooses no pod"
        for pod in chosen:
            ports = {port["name"]: port.get("protocol", "TCP") for port in pod["spec"]["containers"][0]["ports"]}
            for port in service["spec"]["ports"]:
                assert ports.get(port["targetPort"]) == port.get("protocol", "TCP"), (service["metadata"]["name"], port)
    budget, voters = by_kind["PodDisruptionBudget"][0], by_kind["StatefulSet"][0]
    chosen = [pod for pod in pods if selects(budget["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"])]
    assert chosen == [voters["spec"]["template"]], "the budget is the voters'"
    for pod in pods:
        for variable in pod["spec"]["containers"][0]["env"]:
            assert not variable["name"].startswith("TIDEGATE_") or variable["name"] in settings, variable["name"]


def environment(pod, number, secret_folder, ports):
    """What the pod of this number is told, on this machine instead of its own."""
    container = pod["spec"]["containers"][0]
    name = f"gate-tidegate-{number}"
    variables = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    variables |= {"POD_NAME": name, "POD_IP": "127.0.0.1"}
    told = {}
    for key, value in variables.items():
        value = re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], value)
        value = value.replace("/etc/tidegate/secret", str(secret_folder))
        # Names are the cluster's to resolve.
        for at, port in enumerate(ports):
            value = value.replace(f"gate-tidegate-{at}.gate-tidegate-peers.edge.svc:7081", f"127.0.0.1:{port}")
        told[key] = value
    return told


def free_ports(count, kind):
    sockets = [socket.socket(socket.AF_INET, kind) for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Nodes:
    def __init__(self, tidegate, folder):
        self.tidegate, self.folder, self.running = tidegate, folder, {}

    def start(self, name, told):
        data = self.folder / name
        log = open(self.folder / f"{name}.log", "wb")
        told = {**told, "TIDEGATE_DATA": str(data), "PATH": os.environ["PATH"]}
        self.running[name] = (subprocess.Popen([self.tidegate, "serve"], env=told, cwd=self.folder, stderr=log), told)

    def ask(self, name, *words):
        told = self.running[name][1]
        token = (self.folder / "secret" / "admin").read_text().strip()
        done = subprocess.run([self.tidegate, "-o", "json", "--admin", f"http://{told['TIDEGATE_ADMIN']}", "--token", token,
                               *words], capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait(self, what, within, holds):
        ends = time.monotonic() + within
        while not (found := holds()):
            logs = "\n".join(f"{name}:\n{(self.folder / f'{name}.log').read_text()[-2000:]}" for name in self.running)
            assert time.monotonic() < ends, f"not within {within} s: {what}\n{logs}"
            time.sleep(0.2)
        return found

    def end(self):
        for process, _ in self.running.values():
            process.kill()
            process.wait()


def run_what_the_chart_tells(tidegate):
    things = render({"extra": {"replicas": 1}})
    voters = next(thing for thing in things if thing["kind"] == "StatefulSet")
    extra = next(thing for thing in things if thing["kind"] == "Deployment")
    secret = next(thing for thing in things if thing["kind"] == "Secret")
    with tempfile.TemporaryDirectory(prefix="tidegate-deploy-") as folder:
        folder = pathlib.Path(folder)
        (folder / "secret").mkdir()
        for key, value in secret["data"].items():
            (folder / "secret" / key).write_bytes(base64.b64decode(value))
        nodes, peers = Nodes(tidegate, folder), free_ports(4, socket.SOCK_DGRAM)
        try:
            for number in range(4):
                pod = (voters if number < 3 else extra)["spec"]["template"]
                told = environment(pod, number, folder / "secret", peers)
                http, https, admin = free_ports(3, socket.SOCK_STREAM)
                told |= {"TIDEGATE_PEER": f"127.0.0.1:{peers[number]}", "TIDEGATE_HTTP": f"127.0.0.1:{http}",
                         "TIDEGATE_HTTPS": f"127.0.0.1:{https}", "TIDEGATE_ADMIN": f"127.0.0.1:{admin}",
                         "TIDEGATE_DRAIN_WAIT": "100ms"}
                if number == 3:
                    told["TIDEGATE_ADVERTISE"] = told["TIDEGATE_ADVERTISE"].replace(":7081", f":{peers[3]}")
                nodes.start(f"n{number}", told)

            def members(live):
                status = nodes.ask("n0", "cluster", "status")
                found = [node for node in status["nodes"] if node["live"]] if status else []
                roles = sorted(node["role"] for node in found)
                return len(found) == live and status["settled"] and roles.count("voter") == 3

            nodes.wait("four nodes, three of which vote", 60, lambda: members(4))
            # What is scaled down leaves for good.
            process, _ = nodes.running["n3"]
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            nodes.wait("three nodes", 30, lambda: members(3))
            what_the_playbook_waits_for(folder, nodes.running["n0"][1]["TIDEGATE_ADMIN"])
            assert len(nodes.ask("n0", "cluster", "status")["nodes"]) == 3, "it is forgotten"
        finally:
            nodes.end()


def what_ansible_tells(settings):
    """The playbook is one, and its template names settings that there are."""
    ansible, playbook = HELM.parent / "ansible-playbook", DEPLOY / "ansible" / "site.yaml"
    inventory = ["-i", str(DEPLOY / "ansible" / "inventory.yaml"), "-e", f"ansible_python_interpreter={sys.executable}"]
    with tempfile.TemporaryDirectory(prefix="tidegate-deploy-") as folder:
        env = {**os.environ, "ANSIBLE_HOME": folder, "ANSIBLE_LOCALHOST_WARNING": "0", "LC_ALL": "C.UTF-8"}
        render = [{"hosts": "tidegate", "connection": "local", "gather_facts": False, "tasks": [
            {"ansible.builtin.template": {"src": str(DEPLOY / "ansible" / "templates" / "tidegate.env.j2"),
                                          "dest": folder + "/{{ inventory_hostname }}.env"}}]}]
        (pathlib.Path(folder) / "render.yaml").write_text(json.dumps(render))
        for words in ([str(playbook), "--syntax-check", "-e", "tidegate_program=/nowhere"], [folder + "/render.yaml"]):
            done = subprocess.run([sys.executable, ansible, *inventory, *words], env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        for host, address in (("gate1", "10.0.0.1"), ("gate3", "10.0.0.3")):
            lines = (pathlib.Path(folder) / f"{host}.env").read_text().splitlines()
            told = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
            assert told.keys() <= settings, told.keys() - settings
            assert told["TIDEGATE_ADVERTISE"] == f"{address}:7081" and told["TIDEGATE_NAME"] == host, told
            assert told["TIDEGATE_INITIAL_PEERS"] == "10.0.0.1:7081,10.0.0.2:7081,10.0.0.3:7081", told


def what_the_playbook_waits_for(folder, admin):
    """Its last task, as it stands there, sees that a node is ready; where none is, it goes on asking until it gives up."""
    play = yaml.safe_load((DEPLOY / "ansible" / "site.yaml").read_text())[-1]
    task = play["tasks"][-1]
    assert "127.0.0.1:7080/readyz" in task["ansible.builtin.uri"]["url"], task
    nobody = f"127.0.0.1:{free_ports(1, socket.SOCK_STREAM)[0]}"
    for at, goes_well in ((admin, True), (nobody, False)):
        asked = {**task, "ansible.builtin.uri": {**task["ansible.builtin.uri"], "url": f"http://{at}/readyz"}, "retries": 1, "delay": 0}
        book = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [asked]}]
        (folder / "waits.yaml").write_text(json.dumps(book))
        env = {**os.environ, "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_LOCALHOST_WARNING": "0", "LC_ALL": "C.UTF-8"}
        words = [sys.executable, HELM.parent / "ansible-playbook", "-i", "localhost,", "-e",
                 f"ansible_python_interpreter={sys.executable}", folder / "waits.yaml"]
        done = subprocess.run(words, env=env, capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert (done.returncode == 0) == goes_well and "conditional" not in said, said


def main():
    tidegate = pathlib.Path(sys.argv[1]).resolve()
    shown = subprocess.run([tidegate, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    settings = set(re.findall(r"\[env: (TIDEGATE_\w+)", shown)) | {"TIDEGATE_ADMIN"}
    assert len(settings) > 15, settings
    went_well, said = helm("lint", "--strict", "--quiet", str(CHART))
    assert went_well, said
    for name, values in VALUES.items():
        judge(render(values), settings)
        print(f"deploy: the chart, {name}: Kubernetes {' and '.join(RELEASES)} would take it")
    for name, values in REFUSED.items():
        went_well, said = helm("template", "gate", str(CHART), values=values)
        assert not went_well, f"{name}: {values} is refused"
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        for variable in service.get("environment", {}):
            assert variable in settings, f"{name}: {variable}"
    what_ansible_tells(settings)
    print("deploy: the playbook is one, and tells nodes what they know")
    run_what_the_chart_tells(tidegate)
    print("deploy: four nodes that are told what the chart tells became one cluster, one left it for good, the playbook sees who is ready")


if __name__ == "__main__":
    main()
