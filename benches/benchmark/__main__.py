"""Measures call-history beside the same job in Python, and writes docs/benchmarks.md.

python -m benchmark --binaries ../target/release --out ../docs
python -m benchmark --again FIGURES.json --out ../docs        # the page anew, from kept figures
"""

import argparse
import asyncio
import json
import logging
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from .figures import Figures
from .page import write
from .plan import FULL, SHORT
from .run import bounded, unequal

WITHIN = 45 * 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=Path, help="folder with call-history, load and livekit-devserver")
    parser.add_argument("--short", action="store_true", help="a few minutes, coarse figures: for trials")
    parser.add_argument("--keep", type=Path, help="the file in which the figures are kept")
    parser.add_argument("--again", type=Path, help="measure nothing; the page from kept figures")
    parser.add_argument(
        "--out", type=Path, help="the folder of benchmarks.md; without it only the figures are kept"
    )
    options = parser.parse_args()
    logging.basicConfig(
        format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO, stream=sys.stderr
    )
    logging.getLogger("livekit").setLevel(logging.WARNING)
    if options.again:
        figures = Figures(**json.loads(options.again.read_text()))
    elif options.binaries:
        figures = measure(options)
    else:
        parser.error("--binaries or --again")
    if options.keep:
        options.keep.write_text(json.dumps(asdict(figures), indent=1) + "\n")
    if faults := unequal(figures):
        print("the work is not equal, so nothing is compared:", *faults, sep="\n  ", file=sys.stderr)
        return 1
    if options.out:
        for path in write(figures, options.out):
            print(f"written: {path}")
    return 0


def measure(options: argparse.Namespace) -> Figures:
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    plan = SHORT if options.short else FULL

    async def interruptible() -> Figures:
        # The child processes are ended when this task is cancelled.
        task = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await bounded(plan, options.binaries.resolve(), folder, WITHIN)

    try:
        figures = asyncio.run(interruptible())
    except BaseException as error:
        logging.error("the logs are in %s", folder)
        if isinstance(error, asyncio.CancelledError):
            sys.exit("interrupted")
        if isinstance(error, TimeoutError):
            sys.exit(f"it takes longer than {WITHIN // 60} minutes")
        raise
    if unequal(figures):
        logging.error("the logs are in %s", folder)
    else:
        shutil.rmtree(folder)
    return figures


if __name__ == "__main__":
    sys.exit(main())
