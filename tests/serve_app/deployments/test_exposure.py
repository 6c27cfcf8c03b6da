"""Key rings from settings, and the warning about a service without keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serve_app.deployments.exposure import check_keys, exposure_warning, ring_of
from serve_app.settings import Settings, SettingsError, load

SECRET = "a-secret-of-mine"


def from_environment(**environ: str) -> Settings:
    return load({}, environ)


def test_without_keys_there_is_no_key_ring() -> None:
    assert ring_of(load({}, {})) is None


def test_errors_in_keys_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"RERANKER_API_KEYS_FILE.*nowhere"):
        check_keys(from_environment(RERANKER_API_KEYS_FILE=str(tmp_path / "nowhere")))
    with pytest.raises(SettingsError, match=r"RERANKER_API_KEYS\).*the same key"):
        check_keys(from_environment(RERANKER_API_KEYS="k name=a,k name=b"))


def test_the_documented_key_file_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "access.md").read_text()
    (example,) = re.findall(r"```\n(# SHA.*?)```", text, re.DOTALL)
    (tmp_path / "keys").write_text(example)
    ring = ring_of(load({"api_keys_file": str(tmp_path / "keys")}, {}))
    assert ring is not None
    assert ring.keys().names == {"search", "batch", "line-4"}


@pytest.mark.parametrize(
    ("host", "exposed"),
    [
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.7", True),
        ("rerank.internal", True),
        ("", True),
    ],
)
def test_a_service_without_keys_on_a_public_address_gets_a_warning(
    host: str, exposed: bool
) -> None:
    warning = exposure_warning(host, load({}, {}))
    assert (warning is not None) == exposed
    assert warning is None or "WITHOUT API KEYS" in warning
    assert exposure_warning(host, from_environment(RERANKER_API_KEYS=SECRET)) is None
