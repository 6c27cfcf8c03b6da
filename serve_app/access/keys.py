"""API keys as lines of text: what a line may say, and which key a client sent."""

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
_NUMBER = re.compile(r"[0-9]{1,13}")


class KeysError(ValueError):
    """Keys can't be read; the message says where and why, and never holds a key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key's digest, the name of the client that it is for, and that client's own limits.

    `rpm` and `tpm` are requests and tokens a minute: None is the service's default, 0 no limit.
    """

    digest: bytes
    name: str
    rpm: int | None = None
    tpm: int | None = None

    def line(self) -> str:
        """The key as a line of a file of keys; a name that its place gave it is left out."""
        name = None if _RESERVED.fullmatch(self.name) else self.name
        limits = {"name": name, "rpm": self.rpm, "tpm": self.tpm}
        words = [f"{word}={value}" for word, value in limits.items() if value is not None]
        return " ".join([f"sha256:{self.digest.hex()}", *words])


def digest_of(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def new_key() -> str:
    """A random key of 256 bits."""
    return f"rk_{secrets.token_urlsafe(32)}"


def parse_entry(text: str, where: str) -> Key | None:
    """One line: `sha256:HEX` or a key as it is, then `name=`, `rpm=`, `tpm=` in any order.

    None where there is no key, as in a blank line or a comment. A key without a name is called
    by `where`. Raises KeysError.
    """
    if len(text) > MAX_LINE_CHARS:
        raise KeysError(f"{where} has more than {MAX_LINE_CHARS} characters")
    words = text.split()
    if not words or words[0].startswith("#"):
        return None
    options: dict[str, str] = {}
    for word in words[1:]:
        if word.startswith("#"):
            break
        option, _, value = word.partition("=")
        if option not in ("name", "rpm", "tpm") or option in options:
            # The word itself may be a piece of a key with a space in it: it is not shown.
            raise KeysError(
                f"{where}: after the key come name=, rpm= and tpm=, each once; a key has no spaces"
            )
        options[option] = value
    return Key(
        digest=_digest(words[0], where),
        name=_name(options["name"], where) if "name" in options else where,
        rpm=_per_minute(options.get("rpm"), "rpm", where),
        tpm=_per_minute(options.get("tpm"), "tpm", where),
    )


def _digest(word: str, where: str) -> bytes:
    scheme, found, rest = word.partition(":")
    if found and scheme.lower() == "sha256":
        if not _DIGEST.fullmatch(rest):
            raise KeysError(f"{where}: sha256: is followed by 64 hexadecimal digits")
        return bytes.fromhex(rest)
    if not (word.isascii() and word.isprintable()):
        raise KeysError(f"{where}: a key is of printable ASCII characters, as headers are")
    return digest_of(word.encode("ascii"))


def _name(value: str, where: str) -> str:
    if not _NAME.fullmatch(value):
        raise KeysError(f"{where}: name= takes 1 to 64 letters, digits, dots, dashes, underscores")
    if _RESERVED.fullmatch(value):
        raise KeysError(f"{where}: the name {value!r} is one that the service gives by itself")
    return value


def _per_minute(value: str | None, option: str, where: str) -> int | None:
    if value is None:
        return None
    if not _NUMBER.fullmatch(value) or int(value) > MAX_PER_MINUTE:
        raise KeysError(f"{where}: {option}= takes a whole number; 0 is no limit")
    return int(value)


def parse_entries(entries: Iterable[str], kind: str) -> tuple[Key, ...]:
    """The keys of several lines; `kind` and the line's number stand for a name that is missing.

    Raises KeysError.
    """
    found = (parse_entry(text, f"{kind}-{i}") for i, text in enumerate(entries, 1))
    return tuple(key for key in found if key is not None)


def hashed(entries: Iterable[str]) -> tuple[str, ...]:
    """The entries with no plain key left in them. Raises KeysError."""
    return tuple(key.line() for key in parse_entries(entries, "env"))


class KeySet:
    """Keys that are good at one time. Several may have one name: then they are one client's."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        """Raises KeysError where two entries contradict each other, or there are too many."""
        if len(keys) > MAX_KEYS:
            raise KeysError(f"there are {len(keys)} keys; at most {MAX_KEYS} are taken")
        by_digest: dict[bytes, Key] = {}
        by_name: dict[str, Key] = {}
        for key in keys:
            same = by_digest.setdefault(key.digest, key)
            if same != key:
                raise KeysError(f"the keys {same.name!r} and {key.name!r} are the same key")
            other = by_name.setdefault(key.name, key)
            if (other.rpm, other.tpm) != (key.rpm, key.tpm):
                raise KeysError(f"the name {key.name!r} is given twice, with different limits")
        self._keys = tuple(by_digest.values())
        self.names = frozenset(by_name)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, candidates: Iterable[bytes]) -> Key | None:
        """The key that one of the candidates is; in a time that tells nothing of the keys."""
        found: Key | None = None
        for candidate in candidates:
            digest = digest_of(candidate)
            for key in self._keys:
                if hmac.compare_digest(digest, key.digest) and found is None:
                    found = key
        return found
