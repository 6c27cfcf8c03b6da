"""How others score the same checkpoint: what our engines are measured beside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shapes import QUERY, texts

Way = Callable[[list[str]], list[float]]
MAX_LENGTH = 512


def sentence_transformers(path: Path) -> Way:
    """CrossEncoder with its defaults: float32, batches of 32."""
    from sentence_transformers import CrossEncoder

    reference = CrossEncoder(str(path), device="cpu", max_length=MAX_LENGTH)
    identity = torch.nn.Identity()

    def score(documents: list[str]) -> list[float]:
        pairs = [(QUERY, document) for document in documents]
        scores: list[float] = reference.predict(pairs, activation_fn=identity).tolist()
        return scores

    return score


class Infinity:
    """infinity-emb's engine without its HTTP server, in the Python of its own environment."""

    def __init__(self, python: Path, path: Path, dtype: str) -> None:
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("infinity_worker.py")), str(path), dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
        )

    def __call__(self, documents: list[str]) -> list[float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"query": QUERY, "documents": documents}) + "\n")
        self._process.stdin.flush()
        scores: list[float] = json.loads(self._process.stdout.readline())
        return scores

    def close(self) -> None:
        """End its process."""
        self._process.terminate()
        self._process.wait()


def onnx_int8(path: Path) -> Way:
    """FlashRank's way: ONNX Runtime, dynamic int8, all documents padded in one batch."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from tokenizers import Tokenizer

    exported, quantized = path / "model.onnx", path / "model_int8.onnx"
    _export(path, exported)
    quantize_dynamic(exported, quantized, weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(quantized), options, ["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding()

    def score(documents: list[str]) -> list[float]:
        encoded = tokenizer.encode_batch([(QUERY, document) for document in documents])
        arrays = {
            "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
            "token_type_ids": np.array([one.type_ids for one in encoded], dtype=np.int64),
        }
        logits = session.run(None, {name: arrays[name] for name in names})[0]
        scores: list[float] = logits[:, 0].tolist()
        return scores

    return score


def _export(path: Path, target: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    module: Any = AutoModelForSequenceClassification.from_pretrained(
        path, attn_implementation="eager"
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    example = tokenizer([QUERY] * 2, texts(2), padding=True, truncation=True, return_tensors="pt")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    names = names if module.config.type_vocab_size > 1 else names[:2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(example[name] for name in names),
            str(target),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in names},
            dynamo=False,
        )


def infinity_python() -> Path | None:
    """The Python of the virtual environment that infinity-emb is installed in."""
    python = Path(".venv-infinity/bin/python")
    if not python.is_file():
        print("infinity-emb is left out: no .venv-infinity", file=sys.stderr)
        return None
    return python.absolute()
