"""Compares what core, journal and outbox cost with the figures of counts.json: instructions by callgrind, and allocations.

counts.py BINARY           fails if a count is more than 5 % above its figure, or a long call costs more than its length
counts.py BINARY --accept  writes the figures anew
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FIGURES = Path(__file__).with_name("counts.json")
ALLOWED = 1.05
# A record over ten times as many segments costs ten times as much.
LONG = ["record of 1,000 segments", "record of 10,000 segments", "record of 100,000 segments"]
IN_PROPORTION = 1.15


def counted(binary: str) -> dict[str, dict[str, int]]:
    allocations = json.loads(subprocess.run([binary], check=True, capture_output=True).stdout)
    counts = {}
    for task, made in allocations.items():
        counts[task] = {"instructions": instructions(binary, task)}
        if made is not None:
            counts[task]["allocations"] = made
    return counts


def instructions(binary: str, task: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = ["valgrind", "--tool=callgrind", "--quiet", "--toggle-collect=*counted_part*", f"--callgrind-out-file={out}"]
        subprocess.run([*command, binary, task], check=True, stdout=subprocess.DEVNULL)
        found = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.MULTILINE)
    if not found or int(found[1]) == 0:
        sys.exit(f"callgrind counted nothing of: {task}")
    return int(found[1])


def main() -> None:
    binary, accept = sys.argv[1], "--accept" in sys.argv
    counts = counted(binary)
    if accept:
        FIGURES.write_text(json.dumps(counts, indent=2) + "\n")
    figures = json.loads(FIGURES.read_text())
    wrong = [f"{task}: has no figure" for task in counts.keys() ^ figures.keys()]
    for task in counts.keys() & figures.keys():
        for what, count in counts[task].items():
            figure = figures[task].get(what, 0)
            print(f"{task:<50} {what:<13} {count:>14,} {count / max(figure, 1) - 1:>+8.1%}")
            if count > figure * ALLOWED:
                wrong.append(f"{task}: {count:,} {what} are more than {figure:,} and 5 %")
    for less, more in zip(LONG, LONG[1:]):
        for what in counts[less]:
            ratio = counts[more][what] / counts[less][what]
            if ratio > 10 * IN_PROPORTION:
                wrong.append(f"{more}: {ratio:.1f} times the {what} of a tenth of it")
    if wrong:
        sys.exit("\n".join([*wrong, "if that is meant: make counts-accept"]))


main()
