"""The files in deploy/ and serve_config.yaml match Ray's schema, the settings and the package."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve import Application
from ray.serve.schema import ServeDeploySchema

from serve_app.app import bind
from serve_app.cli.host import RAY
from serve_app.cli.main import START_TIMEOUT_S, _parser
from serve_app.cli.up import stop_timeout_s
from serve_app.deployments import haproxy
from serve_app.deployments.proxy import HAPROXY, MIDDLEWARE
from serve_app.settings import load
from tests.programs import need

ROOT = Path(__file__).parent.parent
KUBERAY: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "rayservice.yaml").read_text())
ANYSCALE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "anyscale.yaml").read_text())
CONTAINER = (ROOT / "deploy" / "Containerfile").read_text().replace("\\\n", " ")
CLUSTER: dict[str, Any] = KUBERAY["spec"]["rayClusterConfig"]
GROUPS: list[dict[str, Any]] = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]
PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


def configs() -> dict[str, dict[str, Any]]:
    return {
        "serve_config.yaml": yaml.safe_load((ROOT / "serve_config.yaml").read_text()),
        "rayservice.yaml": yaml.safe_load(KUBERAY["spec"]["serveConfigV2"]),
        "anyscale.yaml": {"applications": ANYSCALE["applications"]},
    }


@pytest.mark.parametrize("name", configs())
def test_ray_serve_accepts_the_configuration_and_the_service_its_arguments(name: str) -> None:
    content = configs()[name]
    unknown = set(content) - set(ServeDeploySchema.model_fields)
    assert not unknown, "Ray ignores unknown keys"
    schema = ServeDeploySchema.model_validate(content)
    (application,) = schema.applications
    assert application.route_prefix == "/"
    module, _, function = application.import_path.partition(":")
    assert callable(getattr(import_module(module), function))
    settings = load(application.args, {})
    for model in settings.models.served():
        settings.scaling.of(model).deployment_options()


def _container(group: dict[str, Any]) -> dict[str, Any]:
    (container,) = group["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def _check_proxy_variables(environment: dict[str, str]) -> None:
    expected = {
        **HAPROXY,
        **MIDDLEWARE,
        **RAY,
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "15",
    }
    expected[haproxy.VARIABLE] = f"/usr/local/bin/{haproxy.NAME}"
    for name, value in expected.items():
        if name.startswith("RAY_SERVE_"):
            assert environment[name] == value, name


def test_every_node_has_the_proxy_settings_of_rerank_up() -> None:
    for group in GROUPS:
        _check_proxy_variables({pair["name"]: pair["value"] for pair in _container(group)["env"]})
    _check_proxy_variables(ANYSCALE["env_vars"])


def test_the_kuberay_manifest_has_a_cpu_and_a_gpu_worker_group() -> None:
    assert (KUBERAY["apiVersion"], KUBERAY["kind"]) == ("ray.io/v1", "RayService")
    assert CLUSTER["enableInTreeAutoscaling"] is True
    assert CLUSTER["gcsFaultToleranceOptions"]["redisAddress"]
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    names = [group["groupName"] for group in CLUSTER["workerGroupSpecs"]]
    assert names == ["processors", "gpus"]
    for group in CLUSTER["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > 120
    for group in GROUPS:
        assert {"readinessProbe", "livenessProbe"} <= set(_container(group))
    limits = _container(GROUPS[2])["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"


def test_each_model_replica_fits_on_a_node_of_its_group() -> None:
    settings = load(configs()["rayservice.yaml"]["applications"][0]["args"], {})
    processors, gpus = (_container(group)["resources"]["limits"] for group in GROUPS[1:])
    for model in settings.models.served():
        scaling = settings.scaling.of(model)
        node = gpus if scaling.num_gpus else processors
        assert (scaling.num_cpus or 0) <= float(node["cpu"])
        assert scaling.num_gpus <= float(node.get("nvidia.com/gpu", 0))


def test_all_files_use_the_same_version_of_ray() -> None:
    assert CLUSTER["rayVersion"] == ANYSCALE["ray_version"] == PINNED["ray"]


def test_the_container_copies_existing_files_and_starts_the_service() -> None:
    for line in re.findall(r"^COPY (.*)$", CONTAINER, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = re.search(r"'\.\[([\w,]+)\]'", CONTAINER)
    assert asked is not None
    assert set(asked[1].split(",")) <= set(extras["optional-dependencies"])
    command = re.search(r'^CMD \["rerank", "(\w+)"\]$', CONTAINER, re.MULTILINE)
    assert command is not None
    assert callable(_parser().parse_args([command[1]]).run)


def test_json_logs_are_configured_for_every_deployment_and_text_logs_for_none() -> None:
    def configured(log_format: str) -> list[Any]:
        ingress = bind(load({"log_format": log_format, "log_level": "DEBUG"}, {}))
        root = ingress._bound_deployment
        bound = (*root.init_args, *root.init_kwargs.values())
        deployments = [b._bound_deployment for b in bound if isinstance(b, Application)]
        return [one._deployment_config.logging_config for one in (root, *deployments)]

    assert configured("text") == [None] * 3
    for found in configured("json"):
        assert (found["encoding"], found["log_level"]) == ("JSON", "DEBUG")
        assert found["enable_access_log"] is False


def test_the_network_policy_opens_the_ports_that_the_manifest_uses() -> None:
    policy = yaml.safe_load((ROOT / "deploy" / "networkpolicy.yaml").read_text())
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    rules = policy["spec"]["ingress"]
    port = yaml.safe_load(KUBERAY["spec"]["serveConfigV2"])["http_options"]["port"]
    opened = {one["port"] for rule in rules if "from" not in rule for one in rule["ports"]}
    assert opened == {port}
    assert CLUSTER["authOptions"] == {"mode": "token"}


UNIT = (ROOT / "deploy" / "rerank-serve.service").read_text()


def _unit(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    found: str = value
    return found


def test_the_systemd_unit_waits_for_a_clean_stop() -> None:
    assert _unit("ExecStart").endswith("/rerank up")
    assert float(_unit("TimeoutStopSec")) > stop_timeout_s(load({}, {}))
    assert float(_unit("TimeoutStartSec")) >= START_TIMEOUT_S
    # Only the main process gets SIGTERM, and all of them SIGKILL.
    assert _unit("KillMode") == "mixed"
    assert _unit("NotifyAccess") == "all"
    assert _unit("Restart") == "always"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "rerank-serve.service"
    unit.write_text(UNIT.replace(_unit("ExecStart"), "/bin/true").replace("User=rerank\n", ""))
    done = subprocess.run(
        [need("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
