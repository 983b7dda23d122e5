"""The first signal saves and ends with a status of its own, the second ends at once."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from densityjax.runtime import preemption


def test_a_signal_is_held_back_while_there_is_something_to_save():
    before = signal.getsignal(signal.SIGTERM)
    with preemption.watch() as watch:
        with watch.saving():
            assert not watch.reached(3)
            signal.raise_signal(signal.SIGTERM)
            assert watch.reached(4)
            assert watch.requested()
        with pytest.raises(preemption.Preempted) as caught, watch.saving():
            pass
    assert caught.value.code == preemption.EXIT_STATUS == 75
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_ends_at_once_where_nothing_is_to_be_saved():
    with pytest.raises(preemption.Preempted), preemption.watch():
        signal.raise_signal(signal.SIGINT)


def test_another_thread_gets_no_signals():
    found = []

    def work():
        with preemption.watch() as watch:
            found.append(watch.reached(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.process
def test_the_second_signal_ends_a_process_that_is_busy():
    code = """if True:
        import os, signal, time
        from densityjax.runtime import preemption
        with preemption.watch() as watch, watch.saving():
            os.kill(os.getpid(), signal.SIGTERM)
            assert watch.requested()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
    """
    result = subprocess.run([sys.executable, "-c", code], timeout=50, check=False)
    assert result.returncode == 128 + signal.SIGINT


def test_a_signal_ends_a_process_that_hangs():
    code = """if True:
        import os, signal, time
        from densityjax.runtime import preemption
        preemption._END_SECONDS = 0.5
        with preemption.watch() as watch, watch.saving():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    """
    result = subprocess.run(
        [sys.executable, "-c", code], timeout=50, check=False, capture_output=True, text=True
    )
    assert result.returncode == preemption.EXIT_STATUS
    assert "ending without saving; the same command resumes" in result.stderr


COMPILING = """
import jax, jax.numpy as jnp
from densityjax.runtime import preemption
def unrolled(x):
    for i in range(400):
        x = jnp.sin(x @ x) + jnp.sort(x, axis=i % 2)
    return x
lowered = jax.jit(unrolled).lower(jnp.ones((64, 64)))
with preemption.watch() as watch, watch.saving():
    print("compiling", flush=True)
    lowered.compile()
    print("compiled", watch.requested(), flush=True)
"""


@pytest.mark.process
def test_the_same_signal_twice_ends_a_process_that_compiles():
    """The first alone waits for the compiler, which takes seconds; the second does not."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMPILING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "compiling\n"
        for _ in range(2):
            time.sleep(0.2)  # two that nobody has taken yet would be one
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM, process.stderr.read()
        assert process.stdout.read() == ""  # before the end of the compilation
    finally:
        process.kill()
        process.wait()
