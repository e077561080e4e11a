"""What `test_native_border.py` and `bench_border.py` run in child processes: `python native_probe.py MODE CASE ...`."""

from __future__ import annotations

import faulthandler
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator

from native_case import Call
from native_cases import CASES

LONG_S = 2.0
MAX_CPU_S = 1.0
FORK_LIMIT_S = 20.0


def timed(call: Call) -> float:
    """Seconds the call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def long_call(name: str) -> tuple[Call, float]:
    """The call with its input doubled until it takes `LONG_S`, and the seconds it takes."""
    case = CASES[name]
    assert case.prepare is not None
    exponent = 0
    while exponent < 40:
        call = case.prepare(1 << exponent)
        seconds = timed(call)
        if seconds >= LONG_S:
            return call, seconds
        # Far below the aim the next sizes would only cost time.
        exponent += 1 if seconds > LONG_S / 8 else 3
    raise AssertionError(f"{name}: no input makes the call take {LONG_S} s: is it a long case?")


def interrupt_latencies(name: str, tries: int) -> Iterator[float]:
    """Seconds from a SIGINT, sent at a random moment of the call, to the KeyboardInterrupt it raises."""
    call, seconds = long_call(name)
    rng = random.Random(7)
    sent = 0.0

    def send(delay: float) -> None:
        nonlocal sent
        time.sleep(delay)
        sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    caught = early = 0
    while caught < tries:
        sender = threading.Thread(target=send, args=(rng.uniform(0.05, 0.5) * seconds / 2,))
        ended = False
        started = time.perf_counter()
        try:
            sender.start()
            call()
            ended = True
            seconds = min(seconds, time.perf_counter() - started)
            sender.join()
            time.sleep(1)  # for the signal that is on its way
        except KeyboardInterrupt:
            if not ended:
                caught += 1
                yield time.perf_counter() - sent
        sender.join()
        early += ended
        assert early <= 3, f"{name} ended before the signal that was to stop it, again and again"


def interrupt(name: str, tries: str) -> None:
    for latency in interrupt_latencies(name, int(tries)):
        print(latency)


def repeat_in_fork(name: str, forks: str) -> None:
    """Forks, half of the time while another thread is inside the call; each child repeats it."""
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads: the point here.
    case = CASES[name]
    assert case.prepare is not None
    call = case.prepare(1)
    want = call()
    for i in range(int(forks)):
        beside = threading.Thread(target=lambda: [call() for _ in range(20)])
        if i % 2:
            beside.start()
        child = os.fork()
        if child == 0:
            os._exit(0 if call() == want else 3)
        deadline = time.monotonic() + FORK_LIMIT_S
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise AssertionError(f"{name}: the forked child did not end in {FORK_LIMIT_S} s")
            time.sleep(0.002)
        assert status == 0, f"{name}: the forked child ended with status {status}"
        if i % 2:
            beside.join()


def repeat_in_threads(name: str, threads: str) -> None:
    """Several threads make the call at once; each gets what one alone gets."""
    case = CASES[name]
    assert case.prepare is not None
    call = case.prepare(1)
    want = call()
    wrong: list[object] = []

    def work() -> None:
        try:
            for _ in range(5):
                if (got := call()) != want:
                    wrong.append(got)
        except BaseException as error:
            wrong.append(error)

    workers = [threading.Thread(target=work) for _ in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, f"{name} in threads: {wrong[0]!r}"


def malformed(name: str) -> None:
    """Every bad input gives a result or one of the allowed exceptions, soon. A signal kills this child: a failure."""
    from biollm.errors import BiollmError, InternalError

    case = CASES[name]
    assert case.malformed is not None
    count = 0
    for call in case.malformed(random.Random(11)):
        started = time.process_time()
        try:
            call()
        except InternalError as error:
            raise AssertionError(f"{name}: a panic for {call!r}: {error}") from error
        except (BiollmError, TypeError, MemoryError):
            pass
        except BaseException as error:
            raise AssertionError(f"{name}: {type(error).__name__} for {call!r}: {error}") from error
        seconds = time.process_time() - started
        assert seconds <= MAX_CPU_S, f"{name}: {seconds:.2f} s of CPU for {call!r}"
        count += 1
    assert count >= 200, f"{name}: only {count} malformed inputs"
    print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


MODES = {f.__name__: f for f in (interrupt, repeat_in_fork, repeat_in_threads, malformed)}

if __name__ == "__main__":
    faulthandler.enable()
    MODES[sys.argv[1]](*sys.argv[2:])
