"""Settings of a request's limits."""

from __future__ import annotations

import pytest

from serve_app.settings import SettingsError, load


def test_private_hosts_are_names_addresses_and_networks() -> None:
    hosts = "images.internal, 10.1.0.0/16, 192.168.0.7, fd00::/8, localhost"
    limits = load({}, {"RERANKER_IMAGE_PRIVATE_HOSTS": hosts}).limits
    assert limits.image_private_hosts == tuple(hosts.split(", "))
    assert load({}, {}).limits.image_private_hosts == ()


@pytest.mark.parametrize(
    "host", ["http://a", "a:80", "10.0.0.0/33", "10.0.0", "*", "a b", "256.1.1.1"]
)
def test_other_values_are_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="RERANKER_IMAGE_PRIVATE_HOSTS"):
        load({}, {"RERANKER_IMAGE_PRIVATE_HOSTS": f"a.example,{host}"})
