"""Entries of `models`: local models, models of providers, pipelines; names and fallbacks."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.settings import SettingsError, load
from serve_app.settings.models import LocalModel, PipelineEntry, RemoteModel

REMOTE = {"name": "r", "provider": "cohere", "model": "rerank-v3.5"}
PIPELINE = {"name": "p", "pipeline": [{"rerank": "l"}]}
COHERE = {"name": "cohere", "provider": "cohere", "model": "rerank-v3.5"}


def test_the_kind_of_an_entry_follows_from_its_keys() -> None:
    models = load({"models": [{"name": "l"}, REMOTE, PIPELINE]}, {}).models
    assert [type(entry) for entry in models.entries] == [LocalModel, RemoteModel, PipelineEntry]
    assert [model.name for model in models.served()] == ["l", "r"]
    assert [model.name for model in models.local()] == ["l"]
    assert list(models.pipelines()) == ["p"]


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"name": "a", "window": 5}, r"models\.0\.window .*window belongs to a model with a `prov"),
        ({**REMOTE, "device": "cpu"}, "device belongs to a local model, not to one with a `prov"),
        ({**REMOTE, "budget_ms": 5}, "budget_ms belongs to a pipeline"),
        ({"name": "a", "budget_ms": 5}, "budget_ms belongs to a pipeline"),
        ({**PIPELINE, "device": "cpu"}, "device belongs to a model, not to a pipeline"),
        ({**PIPELINE, "provider": "cohere"}, "provider belongs to a model, not to a pipeline"),
    ],
)
def test_a_key_of_another_kind_is_refused_with_where_it_belongs(
    entry: dict[str, Any], error: str
) -> None:
    with pytest.raises(SettingsError, match=error):
        load({"models": [entry]}, {})


def test_a_local_path_overrides_the_model_and_names_it() -> None:
    settings = load({}, {"RERANKER_LOCAL_MODEL_PATH": "/m/mine/", "RERANKER_MODEL": "a/b"})
    assert settings.models.served() == (LocalModel(name="mine", source="/m/mine/"),)


def test_well_known_names_are_aliases_of_the_default_unless_given_to_another_model() -> None:
    models = [
        {"name": "fast"},
        {"name": "BAAI/bge-reranker-v2-m3"},
        {"name": "c", "aliases": ["rerank-2"]},
    ]
    catalog = load({"models": models, "default_model": "c"}, {}).models.catalog()
    assert catalog.resolve(None) == "c"
    assert catalog.resolve("rerank-v3.5") == "c"
    assert catalog.resolve("rerank-2") == "c"
    assert catalog.resolve("BAAI/bge-reranker-v2-m3") == "BAAI/bge-reranker-v2-m3"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"models": [{"name": "a"}, {"name": "a"}]}, "'a' is used twice"),
        ({"models": [{"name": "a", "aliases": ["b"]}, {"name": "b"}]}, "'b' is used twice"),
        ({"models": [{"name": "a"}], "default_model": "z"}, "default_model: 'z' is not one of"),
        ({"models": [{"name": "a", "fallback": "z"}]}, "fallback 'z' of 'a' is not one of them"),
        (
            {"models": [{"name": "a", "fallback": "b"}, {"name": "b", "fallback": "a"}]},
            "the fallbacks of 'a' lead back to 'a'",
        ),
    ],
)
def test_unclear_names_are_refused(args: dict[str, Any], error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        load(args, {})


def test_an_entry_with_a_provider_becomes_a_remote_spec() -> None:
    entry = {**COHERE, "api_key_env": "MY_KEY", "fallback": "own", "parameters": {"a": 1}}
    settings = load({"models": [entry, {"name": "own"}]}, {})
    hosted, own = settings.models.served()
    spec = hosted.spec()
    assert (type(hosted), type(own), hosted.fallback) == (RemoteModel, LocalModel, "own")
    assert (spec.provider, spec.model, spec.api_key_env) == ("cohere", "rerank-v3.5", "MY_KEY")
    assert (spec.timeout_s, spec.parameters) == (30, {"a": 1})
    judge = load({"models": [{"name": "j", "provider": "lmstudio", "model": "m"}]}, {})
    assert judge.models.served()[0].spec().timeout_s == 100


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "a", "provider": "nobody", "model": "m"}, "provider must be one of cohere, jina"),
        ({"name": "a", "provider": "cohere"}, "needs `model`"),
        ({"name": "a", "provider": "vllm", "model": "m"}, "needs `base_url`"),
        ({**COHERE, "device": "cpu"}, "device belongs to a local model"),
        ({"name": "a", "window": 5}, "window belongs to a model with a `provider`"),
        ({**COHERE, "api_key": "sk-secret"}, "api_key is not a setting"),
        ({**COHERE, "base_url": "https://me:sk-secret@host"}, "user name"),
        ({**COHERE, "base_url": "ftp://sk-secret"}, "http or https"),
        ({**COHERE, "parameters": "sk-secret"}, "valid dictionary"),
        ({**COHERE, "fallback": "gone"}, "'gone' of 'cohere' is not one of them"),
        ({**COHERE, "fallback": "cohere"}, "lead back to 'cohere'"),
        ({**COHERE, "step": 30}, "step must not be larger"),
        ({**COHERE, "step": 30, "parameters": {"auth": "sk-secret"}}, "step must not be larger"),
    ],
)
def test_errors_name_the_wrong_entry_and_show_no_secrets(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load({"models": [entry]}, {})
    assert "sk-secret" not in str(caught.value)
