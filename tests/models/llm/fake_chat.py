"""Answers of a chat server that judges each passage by the number at its start."""

from __future__ import annotations

import json
import math
import re
from typing import Any

Json = dict[str, Any]
_PASSAGE = re.compile(r"<passage(?: number=\d+)?>\n(.*?)\n</passage>", re.DOTALL)


def passages(body: Json) -> list[str]:
    return _PASSAGE.findall(body["messages"][-1]["content"])


def values(body: Json) -> list[float]:
    return [float(passage.split()[0]) for passage in passages(body)]


def completion(text: str | None, **more: Any) -> Json:
    """A chat completion as in OpenAI's API reference."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "finish_reason": "stop",
                **more,
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }


def rating(body: Json) -> Json:
    """The passage's number times ten, in the requested JSON schema."""
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["additionalProperties"] is False
    answer: Json = {"score": round(values(body)[0] * 10)}
    if "reason" in schema["required"]:
        answer = {"reason": f"It has {values(body)[0]}.", **answer}
    return completion(json.dumps(answer))


def yes_no(body: Json) -> Json:
    """With log-probabilities: the probability of yes is the passage's number."""
    assert body["logprobs"] is True
    (yes,) = values(body)
    words = {"Yes": yes * 0.6, " yes": yes * 0.3, "no": (1 - yes) * 0.9, "maybe": 0.1}
    top = [{"token": w, "logprob": math.log(max(p, 1e-9))} for w, p in words.items()]
    top.sort(key=lambda entry: -float(entry["logprob"]))
    position = {"token": top[0]["token"], "logprob": top[0]["logprob"], "top_logprobs": top}
    return completion("Yes" if yes > 0.5 else "no", logprobs={"content": [position]})


def ranking(body: Json) -> Json:
    found = values(body)
    order = sorted(range(len(found)), key=lambda i: -found[i])
    return completion(json.dumps({"ranking": [i + 1 for i in order]}))
