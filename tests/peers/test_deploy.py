# SPDX-License-Identifier: MIT
"""The files of examples/deploy: the Kubernetes objects against the API's own schemas, the systemd
unit against systemd's checker, and that all options and names in them exist."""

import configparser
import copy
import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from harness.model import echo
from harness.timing import wait_until
from harness.worker import BINARY, ROOT, run

DEPLOY = ROOT / "examples/deploy"
OBJECTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
WORKER = next(
    container
    for one in OBJECTS
    if one["kind"] == "Deployment"
    for container in one["spec"]["template"]["spec"]["containers"]
    if container["name"] == "worker"
)


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: one["kind"])
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_objects_fit_the_schema(one, version):
    kubernetes_validate.validate(one, version, strict=True)


def test_the_schema_would_notice():
    wrong = copy.deepcopy(next(one for one in OBJECTS if one["kind"] == "Deployment"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_every_option_exists():
    known = run("serve", "--help").stdout
    options = [a.split("=")[0] for a in WORKER["args"] if a.startswith("--")]
    assert options
    for option in options:
        assert re.search(rf"^  {option} ", known, re.MULTILINE), f"serve has no {option}"
    command = WORKER["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "luaworker"
    shown = run(command[1], "--help")
    assert shown.returncode == 0
    for option in [a for a in command[2:] if a.startswith("--")]:
        assert option in shown.stdout, f"{command[1]} has no {option}"


def test_probes_ask_what_the_worker_answers(start):
    worker = start()
    for probe in ("livenessProbe", "readinessProbe"):
        path = WORKER[probe]["httpGet"]["path"]
        assert worker.ask_internal("GET", path).status == 200


def test_the_worker_of_the_config_map_loads(start, model):
    model.on("/v1/chat/completions", echo)
    model.on("/health", echo)
    script = next(one for one in OBJECTS if one["kind"] == "ConfigMap")["data"]["worker.lua"]
    worker = start(script)
    wait_until(lambda: worker.ask_internal("GET", "/readyz").status == 200, "it to be ready")
    shown = worker.ask_internal("GET", "/readyz").json()
    assert {gate["name"]: gate["state"] for gate in shown["gates"]}["benchmark"] == "passed"


def test_metrics_of_the_scaler_exist(start):
    scaler = yaml.safe_load((DEPLOY / "keda.yaml").read_text())
    shown = start().ask_internal("GET", "/metrics").body.decode()
    queries = [t["metadata"]["query"] for t in scaler["spec"]["triggers"]]
    names = {name for query in queries for name in re.findall(r"luaworker_\w+", query)}
    assert len(names) >= 3
    for name in names:
        assert re.search(rf"^{name}[ {{]", shown, re.MULTILINE), f"/metrics has no {name}"


def test_scaler_and_service_name_the_deployment():
    scaler = yaml.safe_load((DEPLOY / "keda.yaml").read_text())
    deployment = next(one for one in OBJECTS if one["kind"] == "Deployment")
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_unit_is_what_systemd_takes(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed here (package systemd)")
    text = (DEPLOY / "luaworker@.service").read_text()
    unit = tmp_path / "luaworker@.service"
    unit.write_text(text.replace("/usr/local/bin/luaworker", str(BINARY)))
    shown = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in shown.stderr.splitlines() if "luaworker@" in line]
    assert shown.returncode == 0 and not ours, shown.stderr


def test_unit_names_options_that_exist():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string((DEPLOY / "luaworker@.service").read_text())
    known = run("serve", "--help").stdout
    for option in re.findall(r"--[a-z-]+", parser["Service"]["ExecStart"]):
        assert f"  {option} " in known
    for line in (DEPLOY / "hello_world.env").read_text().splitlines():
        name = line.lstrip("#").split("=")[0]
        if re.fullmatch(r"[A-Z_]+", name) and name != "MODEL_SERVER_URL":
            assert f"[env {name}]" in known, f"serve --help does not name {name}"
