"""All providers by name; docs/providers.md is generated from them."""

from __future__ import annotations

from collections.abc import Mapping

from models.remote.hosted import HOSTED
from models.remote.servers import SERVERS
from models.remote.types import Provider

PROVIDERS: Mapping[str, Provider] = {row.name: row for row in (*HOSTED, *SERVERS)}
