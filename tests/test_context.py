"""Progress, stop and ordered work on threads."""

from __future__ import annotations

import threading
import time

import pytest

from astrobench.context import Context
from astrobench.errors import Stopped


def test_results_come_in_order_whatever_finishes_first():
    context = Context(workers=4)

    def slow_first(n):
        time.sleep(0.02 if n == 0 else 0)
        return n

    assert context.map(slow_first, range(20)) == list(range(20))


def test_progress_of_a_part_lies_in_its_span_and_reaches_its_end():
    seen = []
    context = Context(progress_to=lambda fraction, text: seen.append(fraction))
    with context.part(0.5, 0.8), context.part(0.0, 0.5):
        context.map(str, range(4))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(0.65)
    context.progress(1.0)
    assert seen[-1] == 1.0


def test_stop_ends_work_at_the_next_check():
    context = Context(workers=2)
    done = []

    def work(n):
        done.append(n)
        if n == 3:
            context.stop()
        return n

    with pytest.raises(Stopped, match="Stopped on request"):
        context.map(work, range(1000))
    assert len(done) < 20


def test_an_error_in_a_worker_reaches_the_caller_and_no_thread_is_left():
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError):
        Context(workers=3).map(lambda n: 1 / n, [1, 0, 1])
    assert not set(threading.enumerate()) - before  # a thread of an earlier test may end meanwhile
