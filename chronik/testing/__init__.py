"""A real broker inside any test suite: `with Chronik() as broker:`. See `chronik.testing.embedded`."""

from chronik.testing.embedded import Chronik

__all__ = ["Chronik"]
