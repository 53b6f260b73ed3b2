"""Hits on their way to the node: as they are, or as JSON, some at a time, so that neither side is held up."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import msgspec

from chronik.search.kept import Kept
from chronik.search.match import Scope
from chronik.search.messages import Hit, Hits, Search
from chronik.search.rendering import Renderer, place_only, renderer

MAX_ANSWER_BYTES = 32 << 20
"""What all hits together may have. Those that come after are left without."""
STEP_BYTES = 256 << 10
"""What is told at a time."""
_EACH_BYTES = 2048
"""What a hit counts beside its bytes: writing and reading it takes time too."""


def written(
    kept: Sequence[Kept], numbers: Sequence[int], scopes: Sequence[Scope], request: Search, skip: int
) -> Generator[Hits, None, tuple[Hit, ...]]:
    """The hits as they are answered, some at a time; what comes of it are the last of them.

    Parts are numbered as in the request by `numbers`. The first `skip` are not written.
    """
    hits: list[Hit] = []
    left = MAX_ANSWER_BYTES
    since = 0
    by_values = request.sort is not None and not request.sort.by_time
    renderers: dict[str, Renderer] = {}
    for rank, each in enumerate(kept):
        number, document = numbers[each.part], each.document
        hit = Hit(number, document.offset, document.timestamp, values=tuple(each.values) if by_values else ())
        if rank >= skip:
            scope = scopes[each.part]
            if request.shape is not None:
                render = renderers.get(scope.topic)
                if render is None:
                    render = renderers[scope.topic] = renderer(request.shape, request.query, scope)
                hit = _rendered(hit, each, scope, render, left)
            elif request.sources and left > 0:
                hit = msgspec.structs.replace(
                    hit, key=document.key, value=document.value, headers=tuple(document.headers), whole=each.whole
                )
        size = len(hit.rendered) + len(hit.key or b"") + len(hit.value or b"")
        size += sum(len(name) + len(value or b"") for name, value in hit.headers)
        left -= size
        since += size + _EACH_BYTES
        if len(hit.rendered) > STEP_BYTES:
            rendered, hit = hit.rendered, msgspec.structs.replace(hit, rendered=hit.rendered[:STEP_BYTES])
            yield Hits((*hits, hit))
            for piece in pieces(rendered[STEP_BYTES:]):
                yield Hits((), piece)
        else:
            hits.append(hit)
            if since <= STEP_BYTES:
                continue
            yield Hits(tuple(hits))
        since = 0
        hits.clear()
    return tuple(hits)


def pieces(data: bytes) -> list[bytes]:
    """What is told one after the other."""
    return [data[at : at + STEP_BYTES] for at in range(0, len(data), STEP_BYTES)]


def _rendered(hit: Hit, kept: Kept, scope: Scope, render: Renderer, left: int) -> Hit:
    """The hit as JSON, of at most `left` bytes; without its source where it has more."""
    if kept.whole and len(kept.document.value or b"") <= left:
        rendered = render(kept.document, scope, kept.values)
        if len(rendered) <= left:
            return msgspec.structs.replace(hit, rendered=rendered)
    return msgspec.structs.replace(hit, rendered=place_only(kept.document, scope), whole=False)
