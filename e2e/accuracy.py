"""Measures how accurate the records are, and writes docs/accuracy.md.

    python -m accuracy --calls 20 --out ../docs/accuracy.md --keep DIR
    python -m accuracy --again DIR --out ../docs/accuracy.md

Needs what the scenarios need, see README.md; `--again` only the binary and a kept directory.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from harness.accuracy.hold import hold_all
from harness.accuracy.report import report
from harness.accuracy.rows import ROWS


def main() -> int:
    parser = argparse.ArgumentParser(prog="accuracy", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20, help="calls of each row")
    parser.add_argument("--rows", default=",".join(ROWS), help="which, separated by commas")
    parser.add_argument("--at-once", type=int, default=2, help="calls at a time")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other calls")
    parser.add_argument("--keep", type=Path, help="where journals and truth stay")
    parser.add_argument("--again", type=Path, help="hold no calls, measure those kept there")
    parser.add_argument("--out", type=Path, help="the report; without it, it is printed")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")

    kept = options.again or options.keep or Path(tempfile.mkdtemp(prefix="accuracy-"))
    try:
        if not options.again:
            asyncio.run(hold_all(rows, options.calls, options.seed, options.at_once, kept))
        text = report(kept, rows)
    finally:
        if not (options.again or options.keep):
            shutil.rmtree(kept, ignore_errors=True)
    if options.out:
        options.out.write_text(text)
        print(f"written: {options.out}")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
