"""The settings of a provider: invalid ones, and parameters added to the body."""

from __future__ import annotations

import pytest

from models.registry import load_remote
from models.remote.errors import RemoteConfigError
from models.remote.types import RemoteSpec
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import KEY, spec_of


async def test_parameters_are_added_and_null_removes_a_field() -> None:
    with fake.serving(lambda body: fake.common({**body, "return_documents": False})) as provider:
        provider.answer = lambda body: {
            "results": [{"index": 0, "relevance_score": 0.5, "document": None}]
        }
        parameters = {"overlap_tokens": 40, "return_documents": None}
        spec = spec_of("siliconflow", provider.url, parameters=parameters)
        await load_remote(spec, {"A_KEY": KEY}).score("q", ["a"])
    assert provider.received[0].body["overlap_tokens"] == 40
    assert "return_documents" not in provider.received[0].body


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (RemoteSpec("m", "nobody", "x"), "'nobody' is not a provider"),
        (RemoteSpec("m", "cohere"), "needs `model`"),
        (RemoteSpec("m", "vllm", "x"), "needs `base_url`"),
        (RemoteSpec("m", "vllm", "x", base_url="host:1"), "http or https"),
        (RemoteSpec("m", "vllm", "x", base_url="http://me:pw@host"), "user name"),
        (RemoteSpec("m", "vllm", "x", base_url="http://host?key=1"), "query string"),
        (RemoteSpec("m", "google", "x", api_key_env="A_KEY"), "needs `project`"),
        (RemoteSpec("m", "bedrock", "x", api_key_env="A_KEY"), "needs `region`"),
    ],
)
def test_invalid_settings_are_rejected_on_loading(spec: RemoteSpec, message: str) -> None:
    with pytest.raises(RemoteConfigError, match=message):
        load_remote(spec, {"A_KEY": "identity:secret"})
