"""The service's web pages."""

from importlib.resources import files


def page(name: str) -> bytes:
    """Return a page's HTML. Raises FileNotFoundError for an unknown name."""
    return files(__name__).joinpath(f"{name.removesuffix('.html')}.html").read_bytes()
