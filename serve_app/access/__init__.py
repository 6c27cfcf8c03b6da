"""Access control: API keys, rate limits and usage by key. Off until keys or limits are set."""

from serve_app.access.gate import Access, Visit, estimate
from serve_app.access.keyring import KeyRing
from serve_app.access.keys import Key, KeysError, KeySet, new_key, parse_entry
from serve_app.access.limits import HEADER_NAMES

__all__ = [
    "HEADER_NAMES",
    "Access",
    "Key",
    "KeyRing",
    "KeySet",
    "KeysError",
    "Visit",
    "estimate",
    "new_key",
    "parse_entry",
]
