"""Reading a request in the process that searches: for those that would hold up the reactor.

A query of a few kilobytes may take tens of milliseconds to read: regular expressions are compiled, words multiply by fields.
"""

from __future__ import annotations

from chronik.search.elastic_context import Context
from chronik.search.explaining import explained
from chronik.search.messages import Fault, Read, ReadResult
from chronik.search.query import QueryError, decode
from chronik.search.requests import read_count, read_search


def read(asked: Read) -> ReadResult:
    """The request, or what is wrong with it."""
    context = Context(asked.now_ms, asked.mapping)
    try:
        if asked.kind == "count":
            request = read_count(asked.parameters, asked.body, context)
        else:
            request = read_search(asked.parameters, asked.body, context, asked.scores)
        explanation = None
        if asked.kind == "explain":
            explanation = explained(decode(request.query), asked.mapping, asked.now_ms)
    except QueryError as fault:
        return ReadResult(fault=Fault(fault.reason, fault.position, fault.path))
    return ReadResult(request, explanation=explanation)
