"""Room on Python's stack, so that no loop pays for its place on it."""

from collections.abc import Callable
from typing import Any


def with_room(function: Callable, *arguments: Any) -> Any:
    """`function(*arguments)`, with a mebibyte of Python's stack for the frames of its calls.

    CPython takes this stack from the system in pieces of 16 KiB, and gives a piece back when the
    first frame in it ends. A loop whose calls happen to begin a piece takes and gives it back each
    time: 58,000 times while one file was predicted, 0.3 s of 2.4; started in another way, 0.2 s.
    The frame of this function is so large that its piece has room for all that follow. What it
    does not use of it is no memory.
    """
    return function(*arguments)


with_room.__code__ = with_room.__code__.replace(co_stacksize=2**17)
