"""The pages that the service shows in a browser."""

from importlib.resources import files


def page(name: str) -> bytes:
    """The page's HTML. Raises FileNotFoundError for a name that is not there."""
    return files(__name__).joinpath(f"{name.removesuffix('.html')}.html").read_bytes()
