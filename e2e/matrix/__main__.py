"""Holds a call with each pinned version of agents, and checks the records.

    python -m matrix --out ../docs/frameworks.md
    python -m matrix --only python-1.0,node-newest --keep DIR

Needs what the scenarios need, see README.md, and the environments that `make matrix` makes.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from .held import MatrixLab, Result, hold
from .table import write
from .versions import VERSIONS, Version


async def hold_all(versions: list[Version], keep: Path) -> list[Result]:
    """One call at a time: others would disturb its times."""
    lab, results = MatrixLab(), []
    try:
        await lab.open()
        for version in versions:
            result = await hold(lab, version, keep)
            print(result, flush=True)
            results.append(result)
    finally:
        await lab.close()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="matrix", description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="which versions, separated by commas")
    parser.add_argument("--keep", type=Path, help="where journals stay, and notes on failures")
    parser.add_argument("--out", type=Path, help="the document with the table")
    options = parser.parse_args()
    known = {version.key: version for version in VERSIONS}
    keys = options.only.split(",") if options.only else list(known)
    if unknown := set(keys) - set(known):
        parser.error(f"no such version: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if options.only and options.out:
        parser.error("a table needs all versions: --out without --only")
    keep = options.keep or Path(tempfile.mkdtemp(prefix="matrix-"))
    keep.mkdir(parents=True, exist_ok=True)

    results = asyncio.run(hold_all([known[key] for key in keys], keep))
    wrong = any(result.wrong for result in results)
    if not (options.keep or wrong):
        shutil.rmtree(keep, ignore_errors=True)
    if options.out:
        write(options.out, results)
        print(f"written: {options.out}")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
