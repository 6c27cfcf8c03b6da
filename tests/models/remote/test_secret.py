"""Keys: where they are read from, and that no error shows them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from models.registry import load_remote
from models.remote.errors import RemoteAnswerError, RemoteUnauthorized
from models.remote.secret import Secret
from models.remote.types import RemoteSpec
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import DOCUMENTS, KEY, spec_of
from tests.models.remote.fake_provider import as_json


async def test_no_error_message_contains_the_key(tmp_path: Any) -> None:
    with fake.serving(fake.cohere) as provider:
        provider.always = as_json({"message": f"Incorrect API key provided: {KEY}"}, 401)
        scorer = load_remote(spec_of("cohere", provider.url), {"A_KEY": KEY})
        with pytest.raises(RemoteUnauthorized) as caught:
            await scorer.score("q", DOCUMENTS)
        assert KEY not in str(caught.value)
        assert "provided: ***" in str(caught.value)
        provider.always = as_json({"message": f"{KEY} is unknown"})
        with pytest.raises(RemoteAnswerError) as answered:
            await scorer.score("q", DOCUMENTS)
        assert KEY not in str(answered.value)


async def test_a_changed_key_file_is_read_again(tmp_path: Any) -> None:
    file = tmp_path / "key"
    file.write_text("first\n")
    with fake.serving(fake.cohere) as provider:
        spec = RemoteSpec("m", "cohere", "x", base_url=provider.url, api_key_file=str(file))
        scorer = load_remote(spec, {})
        await scorer.score("q", DOCUMENTS)
        file.write_text("the second\n")
        await scorer.score("q", DOCUMENTS)
    sent = [request.headers["authorization"] for request in provider.received]
    assert sent == ["Bearer first", "Bearer the second"]
    file.unlink()
    with pytest.raises(RemoteUnauthorized, match="cannot read the key file"):
        load_remote(spec, {})


def test_a_missing_or_malformed_key_is_rejected_on_loading() -> None:
    with pytest.raises(RemoteUnauthorized, match="COHERE_API_KEY"):
        load_remote(RemoteSpec("m", "cohere", "x"), {})
    with pytest.raises(RemoteUnauthorized, match="not allowed in a header") as caught:
        load_remote(RemoteSpec("m", "cohere", "x"), {"COHERE_API_KEY": "sécret"})
    assert "cret" not in json.dumps(str(caught.value))


def test_a_key_of_the_same_length_and_time_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "key"
    secret = Secret("m", file=str(file))
    for value in ("first-key", "other-key"):
        new = tmp_path / "new"
        new.write_text(value)
        os.utime(new, (1, 1))
        os.replace(new, file)
        assert secret.get() == value
    assert secret.redact("first-key other-key") == "*** ***"


def test_a_bounded_number_of_keys_is_known() -> None:
    environ: dict[str, str] = {}
    secret = Secret("m", env="A_KEY", environ=environ)
    for i in range(100):
        environ["A_KEY"] = f"key-{i:05}"
        secret.get()
    assert len(secret._known) <= 16
    assert secret.redact("key-00099") == "***"
