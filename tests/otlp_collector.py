"""A local trace collector: receives spans by OTLP over HTTP."""

from __future__ import annotations

import gzip
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests import local_server


@dataclass
class Collector:
    """The spans received, each with the service name of its process."""

    url: str = ""
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Span]:
        """The spans of a trace; `trace_id` is hexadecimal."""
        return [span for _, span in self.spans if span.trace_id.hex() == trace_id]

    def wait_for(self, trace_id: str, names: set[str], timeout_s: float = 20) -> list[Span]:
        """The spans of a trace, once there is one of every name.

        Also waits until there are as many spans of each replica stage as calls to replicas.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.of(trace_id)
            counts = Counter(span.name for span in found)
            stages = names & {"encode", "wait", "forward", "upstream"}
            if names <= set(counts) and all(counts[n] == counts["score"] for n in stages):
                return found
            assert time.monotonic() < deadline, counts
            time.sleep(0.1)


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(local_server.QuietHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                content = gzip.decompress(content)
            assert self.path == "/v1/traces"
            for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
                named = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    collector.spans += [(named["service.name"], span) for span in scope.spans]
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send(200, answer, content_type="application/x-protobuf")

    with local_server.serving(Handler) as url:
        collector.url = url
        yield collector
