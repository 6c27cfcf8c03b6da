"""The judge that a spec asks for."""

from __future__ import annotations

from models.llm.listwise import Listwise
from models.llm.pointwise import Pointwise
from models.remote.remote import Remote
from models.remote.types import RemoteScorer


def judge(remote: Remote) -> RemoteScorer:
    """Pointwise by mark or by yes and no, or listwise."""
    return Listwise(remote) if remote.spec.judge == "listwise" else Pointwise(remote)
