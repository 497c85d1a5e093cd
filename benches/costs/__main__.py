"""Where a talking call's memory and instructions are, as two tables: `make profile`."""

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from costs import heap, instructions

FEW, MANY = 10, 50
TALKING = 4
REST, MEASURED = 3, 10
TRACED = {"heap": 600.0, "instructions": 900.0}
"""Seconds within which the calls of a run must be on; a traced worker is many times slower."""


class Run:
    """`load` with a worker that runs below another program."""

    def __init__(
        self, binaries: Path, folder: Path, wrapper: str, calls: int, seconds: int
    ) -> None:
        self.log = folder / "log"
        self._worker = folder / "worker"
        self._pid = folder / "pid"
        binary = binaries / "call-history"
        # `load` asks for the version first, and then starts the worker.
        self._worker.write_text(
            "#!/bin/sh\n"
            f'[ "$1" = --version ] && exec {binary} "$@"\n'
            f'echo $$ >{self._pid}\nexec {wrapper} {binary} "$@"\n'
        )
        self._worker.chmod(0o755)
        counts = {"calls": calls, "seconds": seconds, "settle": REST}
        counts |= {"deletions": 0, "burst": 0, "starts": 0}
        options = [text for name, n in counts.items() for text in (f"--{name}", str(n))]
        command = [binaries / "load", "--worker", self._worker, "--log", self.log, *options]
        # A group of its own: the server and the worker end with it.
        self.load = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)

    def wait_for_calls(self, calls: int, within: float) -> None:
        until = time.monotonic() + within
        while not self.log.exists() or self.log.read_text().count('"call started"') < calls:
            if self.load.poll() is not None or time.monotonic() > until:
                last = self.log.read_text()[-2000:] if self.log.exists() else "no log"
                raise SystemExit(f"{calls} calls are not on: {last}")
            time.sleep(0.2)

    def worker(self) -> int:
        return int(self._pid.read_text())

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self.load.pid, signal.SIGKILL)
        self.load.wait()


def bytes_of(binaries: Path, calls: int) -> Counter[str]:
    """What the heap holds, by who asked for it, while so many calls talk."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        with Run(binaries, Path(folder), heap.wrapper(raw), calls, MEASURED) as run:
            run.wait_for_calls(calls, TRACED["heap"])
            # Quiet calls are measured first. The worker ends in the midst of those that talk.
            time.sleep(REST + MEASURED + REST + MEASURED / 2)
            os.kill(run.worker(), signal.SIGKILL)
        return heap.by_owner(heap.held(raw))


def instructions_of(binaries: Path, calls: int) -> tuple[instructions.Profile, float]:
    """Also returns the seconds that were looked at."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        with Run(binaries, Path(folder), instructions.wrapper(out), calls, 2 * MEASURED) as run:
            run.wait_for_calls(calls, TRACED["instructions"])
            time.sleep(REST + 2 * MEASURED + REST)
            instructions.control(run.worker(), "--zero")
            began = time.monotonic()
            time.sleep(MEASURED)
            instructions.control(run.worker(), "--dump")
            return instructions.read(Path(f"{out}.1")), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="costs", description=__doc__)
    what = "where call-history, load and livekit-devserver are, with symbols"
    parser.add_argument("--binaries", type=Path, required=True, help=what)
    binaries = parser.parse_args().binaries.resolve()
    few, many = (bytes_of(binaries, calls) for calls in (FEW, MANY))
    print(heap.table({owner: (n - few[owner]) / (MANY - FEW) for owner, n in many.items()}))
    print()
    profile, seconds = instructions_of(binaries, TALKING)
    print(instructions.table(profile, TALKING, seconds))


if __name__ == "__main__":
    main()
