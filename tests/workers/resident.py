"""A worker process for the tests of those that stay: its jobs say what it was told, wait, count, or misbehave."""

from __future__ import annotations

import os
import time

from chronik.workers.messages import JobKind, NewsKind
from chronik.workers.residing import REST, Residence, reside
from tests.workers.worker import Ask, Told

DO = JobKind("do", Ask, Told, Told)
NEWS = NewsKind("news", Ask)

told = []
background = steps = 0


def hear(news):
    if news.what == "slow":
        time.sleep(0.1)
    told.append(news.number)


def do(ask):
    global steps
    if ask.what == "told":
        return Told(sum(told), os.getpid())
        yield
    if ask.what == "count":  # as long as nobody cancels it
        number = 0
        while number < ask.number:
            number += 1
            time.sleep(0.01)
            yield Told(number, os.getpid())
    if ask.what == "quiet":
        for _ in range(int(ask.number)):
            time.sleep(0.01)
            yield None
    if ask.what == "rest":  # woken by any message
        seen = len(told)
        yield Told(0, os.getpid())
        while len(told) == seen:
            steps += 1
            yield REST
    if ask.what == "steps":
        return Told(steps, os.getpid())
    if ask.what == "hang":
        yield Told(0, os.getpid())
        time.sleep(60)
    if ask.what == "fail":
        yield None
        raise OSError(28, "No space left on device")
    if ask.what == "exit":
        os._exit(3)
    if ask.what == "background":
        return Told(background, os.getpid())
    return Told(ask.number, os.getpid())


def step():
    global background
    background += 1
    return False


if __name__ == "__main__":
    reside(lambda send: Residence({DO: do}, {NEWS: hear}, step, send, time.monotonic))
