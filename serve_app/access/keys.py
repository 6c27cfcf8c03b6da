"""API keys as lines of text: parsing them, and finding the key that a client sent."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Every request is compared with every key, and each name is a label in the metrics.
MAX_KEYS = 1000
MAX_LINE_CHARS = 1024
MAX_PER_MINUTE = 10**12
ANONYMOUS = "anonymous"
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED = re.compile(r"(?:env|line)-\d+|anonymous|other")
_ROLES = {"client": False, "operator": True}
_OPTIONS = ("name", "rpm", "tpm", "role")
_NUMBER = re.compile(r"[0-9]{1,13}")


class KeysError(ValueError):
    """Keys are invalid. The message says where and why, and never contains a key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key's digest, its client's name, and that client's limits and role.

    `rpm` and `tpm` are requests and tokens per minute: None is the service's default, 0 no limit.
    An operator may also read the metrics of all clients and the details of `/health`.
    """

    digest: bytes
    name: str
    rpm: int | None = None
    tpm: int | None = None
    operator: bool = False

    def line(self) -> str:
        """The key as a line of a key file, without a name that was generated from its position."""
        name = None if _RESERVED.fullmatch(self.name) else self.name
        role = "operator" if self.operator else None
        options = {"name": name, "rpm": self.rpm, "tpm": self.tpm, "role": role}
        words = [f"{word}={value}" for word, value in options.items() if value is not None]
        return " ".join([f"sha256:{self.digest.hex()}", *words])


def digest_of(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def new_key() -> str:
    """A random 256-bit key."""
    return f"rk_{secrets.token_urlsafe(32)}"


def parse_entry(text: str, where: str) -> Key | None:
    """Parse a line: `sha256:HEX` or the plain key, then its options in any order.

    Returns None for a blank line or a comment. `where` identifies the line in errors and is the
    name of a key without `name=`. Raises KeysError.
    """
    if len(text) > MAX_LINE_CHARS:
        raise KeysError(f"{where} is longer than {MAX_LINE_CHARS} characters")
    words = text.split()
    if not words or words[0].startswith("#"):
        return None
    options: dict[str, str] = {}
    for word in words[1:]:
        if word.startswith("#"):
            break
        option, _, value = word.partition("=")
        if option not in _OPTIONS or option in options:
            # The word is not shown: it may be part of a key that contains a space.
            raise KeysError(
                f"{where}: only name=, rpm=, tpm= and role= may follow the key, each at most once; "
                "a key must not contain spaces"
            )
        options[option] = value
    return Key(
        digest=_digest(words[0], where),
        name=_name(options["name"], where) if "name" in options else where,
        rpm=_per_minute(options.get("rpm"), "rpm", where),
        tpm=_per_minute(options.get("tpm"), "tpm", where),
        operator=_is_operator(options.get("role", "client"), where),
    )


def _digest(word: str, where: str) -> bytes:
    scheme, found, rest = word.partition(":")
    if found and scheme.lower() == "sha256":
        if not _DIGEST.fullmatch(rest):
            raise KeysError(f"{where}: sha256: must be followed by 64 hexadecimal digits")
        return bytes.fromhex(rest)
    if not (word.isascii() and word.isprintable()):
        raise KeysError(f"{where}: a key must consist of printable ASCII characters")
    return digest_of(word.encode("ascii"))


def _name(value: str, where: str) -> str:
    if not _NAME.fullmatch(value):
        raise KeysError(
            f"{where}: name= must be 1 to 64 letters, digits, dots, hyphens or underscores, "
            "starting with a letter or digit"
        )
    if _RESERVED.fullmatch(value):
        raise KeysError(f"{where}: the name {value!r} is reserved")
    return value


def _is_operator(value: str, where: str) -> bool:
    if value not in _ROLES:
        raise KeysError(f"{where}: role= must be {' or '.join(_ROLES)}")
    return _ROLES[value]


def _per_minute(value: str | None, option: str, where: str) -> int | None:
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or int(value) > MAX_PER_MINUTE:
        raise KeysError(
            f"{where}: {option}= must be an integer from 0 (no limit) to {MAX_PER_MINUTE}"
        )
    return int(value)


def parse_entries(entries: Iterable[str], kind: str) -> tuple[Key, ...]:
    """The keys of several lines; one without a name is called `kind` and its line number.

    Raises KeysError.
    """
    found = (parse_entry(text, f"{kind}-{i}") for i, text in enumerate(entries, 1))
    return tuple(key for key in found if key is not None)


def hashed(entries: Iterable[str]) -> tuple[str, ...]:
    """The entries with plain keys replaced by their hashes. Raises KeysError."""
    return tuple(key.line() for key in parse_entries(entries, "env"))


class KeySet:
    """The keys valid at one time. Keys with the same name belong to one client."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        """Raises KeysError if two entries contradict each other or there are too many."""
        if len(keys) > MAX_KEYS:
            raise KeysError(f"too many keys: {len(keys)}, and the maximum is {MAX_KEYS}")
        by_digest: dict[bytes, Key] = {}
        by_name: dict[str, Key] = {}
        for key in keys:
            same = by_digest.setdefault(key.digest, key)
            if same != key:
                raise KeysError(f"entries {same.name!r} and {key.name!r} are the same key")
            other = by_name.setdefault(key.name, key)
            if (other.rpm, other.tpm, other.operator) != (key.rpm, key.tpm, key.operator):
                raise KeysError(f"two keys named {key.name!r} have different limits or roles")
        self._keys = tuple(by_digest.values())
        self.names = frozenset(by_name)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, candidates: Iterable[bytes]) -> Key | None:
        """The key that matches a candidate, or None. Takes the same time whichever key matches."""
        found: Key | None = None
        for candidate in candidates:
            digest = digest_of(candidate)
            for key in self._keys:
                if hmac.compare_digest(digest, key.digest) and found is None:
                    found = key
        return found
