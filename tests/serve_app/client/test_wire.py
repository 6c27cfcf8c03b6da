"""The wire formats of hosted providers."""

from __future__ import annotations

import httpx

from tests.serve_app.client.scripted_servers import OK, ok, scripted


async def test_hosted_providers_formats() -> None:
    cohere = {"meta": {"tokens": {"input_tokens": 7.0}, "warnings": ["w"]}, "id": "x"}
    client, requests = scripted(ok(**cohere), dialect="cohere", model="rerank-v3.5", api_key="k")
    found = await client.rerank("q", [{"text": "d", "id": 4}], top_k=1)
    assert (found.tokens, found.warnings, found[0].metadata) == (7, ("w",), {"id": 4})
    expected = b'{"query":"q","documents":["d"],"top_n":1,"model":"rerank-v3.5"}'
    assert requests[0].content == expected
    jina = {"model": "jina-reranker-v2", "usage": {"total_tokens": 9, "prompt_tokens": 9}}
    client, requests = scripted(ok(**jina), dialect="jina")
    assert (await client.rerank("q", ["d"])).tokens == 9
    assert b'"return_documents":false' in requests[0].content
    voyage = {"object": "list", "data": OK["results"], "usage": {"total_tokens": 3}}
    client, requests = scripted(httpx.Response(200, json=voyage), dialect="voyage")
    assert (await client.rerank("q", ["d"], top_k=1)).tokens == 3
    assert b'"top_k":1' in requests[0].content
