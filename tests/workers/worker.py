"""A worker process for the tests of the pool, with jobs that do as they are told."""

from __future__ import annotations

import os
import time

import msgspec

from chronik.workers.messages import JobKind
from chronik.workers.pipes import ANSWERS_FD
from chronik.workers.serving import serve


class Ask(msgspec.Struct):
    what: str
    number: float = 0
    body: bytes = b""


class Told(msgspec.Struct):
    number: float
    pid: int = 0


ACT = JobKind("act", Ask, Told, Told)
UNKNOWN = JobKind("unknown", Ask, Told, Told)


def act(ask, report):
    if ask.what == "fail":
        raise OSError(28, "No space left on device")
    if ask.what == "exit":
        os._exit(int(ask.number))
    if ask.what == "sleep":
        report(Told(0, os.getpid()))
        time.sleep(ask.number)
    if ask.what == "count":
        for number in range(int(ask.number)):
            report(Told(number))
            time.sleep(0.05)
    if ask.what == "print":
        print("it says something", flush=True)
    if ask.what == "garbage":
        os.write(ANSWERS_FD, b"\0\0\0\3abc")
        time.sleep(30)
    if ask.what == "huge":
        os.write(ANSWERS_FD, b"\xff" * 8)
        time.sleep(30)
    if ask.what == "nice":
        return Told(os.nice(0), os.getpid())
    return Told(len(ask.body), os.getpid())


if __name__ == "__main__":
    serve({ACT: act})
