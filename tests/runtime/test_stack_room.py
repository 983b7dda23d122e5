import resource

import pytest

from densityjax.runtime.stack_room import with_room


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _one(number: int) -> int:
    return number + 1


def _pages_of_a_loop(depth: int) -> int:
    """Pages that this process takes anew in 500 calls, made at a depth of the stack."""
    if depth:
        return _pages_of_a_loop(depth - 1)
    before = _faults()
    for number in range(500):
        _one(number)
    return _faults() - before


def test_no_depth_takes_a_piece_for_each_call():
    """Without room some depths do: pieces hold some hundred frames of this size."""
    pages = [with_room(_pages_of_a_loop, depth) for depth in range(700)]
    assert max(pages) < 250


def test_results_and_errors_come_through():
    assert with_room(divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):
        with_room(divmod, 1, 0)
