"""`POST /v1/sql` on the search listener: the request's side of HTTP, and lines of progress for those who want them.

Who goes away has his statement ended: the listener cancels the call, and with it the process is killed.
"""

from __future__ import annotations

from typing import Any

import msgspec
from klein import Klein
from twisted.internet.interfaces import IReactorTime

from chronik.analytics.messages import Told
from chronik.errors import ChronikError, KafkaError
from chronik.listeners.http import Refusal, check_caller, send_answer
from chronik.listeners.search_http import content_of, error_document, parameters_of, refusal_of, set_product
from chronik.listeners.sql_calls import KINDS, SUMMARY, SqlBody, SqlCalls, SqlParts, form_of

PATH = "/v1/sql"


def route_sql(app: Klein, parts: SqlParts, loopback: bool) -> None:
    """Serve SQL in `app`, whose error wall takes what is refused."""
    calls = SqlCalls(parts)

    async def serve(request: Any) -> bytes:
        check_caller(request, loopback)
        for name in parameters_of(request):
            raise Refusal(400, f"unrecognized parameter `{name:.50}`; all is said in the body")
        body = calls.body(content_of(request))
        form = form_of(body, request.getHeader("accept") or "")
        if form == "ndjson":
            return await _in_lines(request, calls, body, parts.clock)
        written = await calls.answer(body, form)
        set_product(request)
        request.setHeader("content-type", KINDS[form])
        if written.summary:
            request.setHeader(SUMMARY, written.summary)
        await send_answer(request, written.pieces, parts.clock)
        return b""

    app.route(PATH, methods=["POST"], endpoint="POST /v1/sql")(serve)


async def _in_lines(request: Any, calls: SqlCalls, body: SqlBody, clock: IReactorTime) -> bytes:
    """Lines as they come: `progress`, some times a second while the statement runs, and at last `answer`, or `error`.

    What is refused before the first line has a status of its own.
    """
    set_product(request)
    request.setHeader("content-type", KINDS["ndjson"])

    def progress(told: Told) -> None:
        if told.counts is not None and request.channel is not None:
            line = {
                "offsets": told.done,
                "of": told.all,
                "records": told.counts.records,
                "bytes_read": told.counts.bytes_read,
            }
            request.write(msgspec.json.encode({"progress": line}) + b"\n")

    try:
        written = await calls.answer(body, "ndjson", progress)
    except (Refusal, ChronikError, KafkaError) as error:
        if not request.startedWriting:
            raise
        refusal = error if isinstance(error, Refusal) else refusal_of(error)
        return msgspec.json.encode(error_document(refusal)) + b"\n"
    await send_answer(request, [b'{"answer":', *written.pieces, b"}\n"], clock)
    return b""
