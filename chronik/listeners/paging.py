"""Long lists in pages: `limit` items behind the one that `after` names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chronik.listeners.http import Refusal

_PAGE = 1000


def page_of(request: Any, items: Sequence[Any], name: Callable[[Any], str]) -> tuple[Sequence[Any], str | None]:
    """Of the items, which are sorted by `name`, those behind the query's `after`, at most its `limit`; the next page's `after`.

    Raises Refusal.
    """
    arguments: Mapping[bytes, list[bytes]] = request.args
    try:
        limit = int(arguments.get(b"limit", [b"%d" % _PAGE])[-1])
        after = arguments.get(b"after", [b""])[-1].decode("utf-8")
    except ValueError:
        raise Refusal(400, "limit must be a whole number, after UTF-8 text") from None
    if not 1 <= limit <= _PAGE:
        raise Refusal(400, f"limit must be from 1 to {_PAGE}")
    rest = [item for item in items if name(item) > after] if after else items
    page = rest[:limit]
    return page, name(page[-1]) if len(rest) > limit else None
