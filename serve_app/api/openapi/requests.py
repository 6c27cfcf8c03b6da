"""Schemas of the requests. The parsers in `dialects` are authoritative; tests compare the two."""

from __future__ import annotations

from serve_app.api.openapi import pipelines
from serve_app.api.openapi.parts import (
    NOTHING,
    NUMBER,
    TEXT,
    Json,
    array,
    flag,
    nullable,
    obj,
    option,
    ref,
    word,
)
from serve_app.request_options import OPTIONS

_NOT_BLANK: Json = {"type": "string", "pattern": "\\S", "description": "Not blank."}
_TRUNCATE = "False rejects documents that are too long instead of truncating them."
_MODEL: Json = nullable("string", maxLength=256, description="The model (default: the service's).")

_QUERY: Json = {"anyOf": [TEXT, obj("", text=nullable("string"), image=NOTHING), NOTHING]}


def schemas() -> Json:
    return {
        "Document": _document(),
        "Query": {"anyOf": [_NOT_BLANK, obj("text", text=_NOT_BLANK, image=NOTHING)]},
        "Flag": _flag(),
        "NativeRequest": _request(
            returns=True,
            top_k=_top(),
            top_n=_top(),
            # These fields identify other formats on the same path.
            texts=NOTHING,
            truncation=NOTHING,
        ),
        "V1Request": _request(
            returns=False,
            top_n=_top(),
            top_k=_top("Voyage's name; without top_n the response also has `data`."),
            truncation=flag(True, _TRUNCATE),
            return_embeddings={
                "enum": [False, "false", None],
                "description": "Not supported: the service returns no embeddings.",
            },
            return_len=flag(False, "Ignored: token counts are always returned."),
        ),
        "VoyageRequest": _asking(
            "documents",
            documents=_texts(),
            model=_MODEL,
            top_k=_top(),
            return_documents=flag(False),
            truncation=flag(True, _TRUNCATE),
        ),
        "V1ToldRequest": {"allOf": [ref("V1Request"), obj("", input=NOTHING)]},
        # On paths that are not Voyage's own, `truncation` identifies its clients.
        "VoyageToldRequest": {
            "allOf": [
                ref("VoyageRequest"),
                obj("truncation", truncation={"not": NOTHING}, texts=NOTHING),
            ]
        },
        "TeiRequest": _asking(
            "texts",
            texts=_texts(),
            model=_MODEL,
            top_n=_top(),
            raw_scores=flag(False, "Return logits instead of scores from 0 to 1."),
            return_text=flag(False),
            truncate=flag(True, _TRUNCATE),
            truncation_direction=word("right", "left"),
        ),
        "MixedbreadRequest": _ranked(
            _asking(
                "input",
                input=array({"anyOf": [TEXT, {"type": "object"}]}, minItems=1),
                model=_MODEL,
                rank_fields=_rank_fields(),
                top_k=_top(),
                return_input=flag(False),
            ),
            "input",
        ),
        "SglangRequest": _request(returns=True, top_n=_top()),
        "NimRequest": _asking(
            "passages",
            passages=array(ref("Document"), minItems=1),
            model=_MODEL,
            top_n=_top(),
            truncate=word("none", "end"),
        ),
        "ScoreRequest": _pairs(),
        "BatchRequest": obj(
            "queries",
            queries=array(
                {"anyOf": [TEXT, {"type": "object"}]},
                minItems=1,
                description="Queries, or objects with the fields of NativeRequest.",
            ),
            documents=array(
                ref("Document"), minItems=1, description="Documents of queries without their own."
            ),
            model=_MODEL,
            top_k=_top(),
        ),
    }


def _asking(required: str, **properties: Json) -> Json:
    """A request with a query, its own fields, and those shared by all such formats."""
    query = ref("Query")
    return _either_query(obj(f"query {required}", query=query, **properties, **_reading()))


def _either_query(schema: Json) -> Json:
    """The request's schema, with the query optional if there is a query image."""
    return {
        **schema,
        "required": [name for name in schema["required"] if name != "query"],
        "properties": {**schema["properties"], "query": _QUERY},
        "anyOf": [
            obj("query", query=ref("Query")),
            obj("query_image_url", query_image_url=TEXT),
        ],
    }


def _request(*, returns: bool, **more: Json) -> Json:
    """A scoring request. Unknown fields are ignored, since clients may send additional ones."""
    schema = _asking(
        "documents",
        documents=array({"anyOf": [TEXT, {"type": "object"}]}, minItems=1),
        model=_MODEL,
        return_documents=flag(returns),
        rank_fields=_rank_fields(),
        **option("sort"),
        **option("raw_scores"),
        **option("truncate"),
        use_activation=flag(True, "vLLM's field: false returns raw scores."),
        **option("priority"),
        relevant_spans=_spans(),
        pipeline=pipelines.stages(),
        **option("budget_ms"),
        **more,
    )
    return {**_ranked(schema, "documents"), "not": pipelines.BOTH}


def _ranked(schema: Json, documents: str) -> Json:
    """With rank_fields, object documents need no text."""
    named = {"type": "array", "minItems": 1}
    return {
        **schema,
        "if": {"required": ["rank_fields"], "properties": {"rank_fields": named}},
        "else": {"properties": {documents: array(ref("Document"))}},
    }


def _rank_fields() -> Json:
    return {
        "type": ["array", "null"],
        "items": {"type": "string", "minLength": 1},
        "maxItems": 100,
        "description": "Fields of object documents to score (default: text).",
    }


def _reading() -> Json:
    """How the model scores: the fields shared by all formats with documents."""
    scoring = [option(name) for name, one in OPTIONS.items() if one.attribute]
    return {
        **{name: schema for fields in scoring for name, schema in fields.items()},
        "max_chunks_per_doc": nullable(
            "integer", minimum=1, description="Above 1, long_document is max_passage."
        ),
    }


def _pairs() -> Json:
    side = {"anyOf": [_NOT_BLANK, array(_NOT_BLANK, minItems=1)]}
    other = {"anyOf": [TEXT, array(ref("Document"), minItems=1)]}
    common = obj(
        "",
        model=_MODEL,
        use_activation=flag(True, "False returns raw scores."),
        raw_scores=flag(False, "True returns raw scores."),
        **option("priority"),
        **_reading(),
    )
    return {
        **common,
        "anyOf": [
            obj("text_1 text_2", text_1=side, text_2=other),
            obj("queries documents", queries=side, documents=other),
        ],
    }


def _spans() -> Json:
    return {
        "anyOf": [
            obj(
                "mode",
                mode={"enum": ["enabled", "disabled"]},
                threshold={**NUMBER, "type": ["number", "null"], "minimum": 0, "maximum": 1},
                max_spans=nullable("integer", minimum=1),
            ),
            NOTHING,
        ]
    }


def _document() -> Json:
    """A document: a string (which may be empty), or an object with a text or an image."""
    text = obj("text", text=TEXT)
    image = obj("image", image=TEXT, text=nullable("string"))
    return {"anyOf": [TEXT, text, image]}


def _texts() -> Json:
    return array(TEXT, minItems=1)


def _top(description: str = "Maximum number of results (default: all).") -> Json:
    return nullable("integer", minimum=1, description=description)


def _flag() -> Json:
    words = {"type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"}
    return {"oneOf": [{"type": ["boolean", "null"]}, words]}
