"""Compares what core, journal, outbox and observer cost with the figures of counts.json: instructions by callgrind, and
allocations.

counts.py BENCH TESTS           fails if a count is not within 5 % of its figure, or a long call costs more than its length
counts.py BENCH TESTS --long    also counts the longest call, which takes a minute or two
counts.py BENCH TESTS --accept  writes the figures anew, all of them

BENCH is the bench `counts`, and TESTS are the unit tests of the worker: the observer can only be reached from there.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FIGURES = Path(__file__).with_name("counts.json")
ALLOWED = 0.05
# Journals have a thread: how often it must be woken depends on the machine.
ALLOWED_BESIDE_A_THREAD = 0.3
# A record over ten times as many segments costs ten times as much; sorting takes a little more.
LONG = [
    ("record of 1,000 segments", "record of 10,000 segments", 10),
    ("record of 10,000 segments", "record of 20,000 segments", 2),
    ("record of 20,000 segments", "record of 100,000 segments", 5),
]
LONGEST = LONG[-1][1]
IN_PROPORTION = 1.15


ATTEMPTS = 3
# A debug build, unlike the others.
OBSERVER = "events of a call of twenty turns from packets to facts (debug)"
OBSERVER_TEST = ["--exact", "observer::room::counted::events_of_a_call", "--ignored", "--nocapture"]
# What is counted. None of these functions calls another: a second one would end the count of the first. Of the bench, and
# of the observer, it is `counted_part`; of the SDK what takes a data packet or a signal, down to the event that our
# code gets; and of libwebrtc what takes a packet out of its data channel.
PARTS = [
    "*counted_part*",
    "libwebrtc::core::channels::*::channel_data",
    "libwebrtc::data_channel::Dc::deliver",
    "livekit::rtc_engine::rtc_session::SessionInner::on_rtc_event::{{closure}}",
    "livekit::rtc_engine::rtc_session::SessionInner::on_signal_event::{{closure}}",
    "livekit::rtc_engine::EngineInner::on_session_event::{{closure}}",
    "livekit::room::RoomSession::on_engine_event::{{closure}}",
    "livekit::room::incoming_data_stream_task::{{closure}}",
    "livekit_data_stream::incoming::manager::Manager::run::{{closure}}",
]


def counted(bench: str, tests: str, long: bool) -> dict[str, dict[str, int]]:
    allocations = json.loads(output([bench]))
    if not long:
        del allocations[LONGEST]
    counts = {}
    for task, made in allocations.items():
        counts[task] = {"instructions": instructions([bench, task])}
        if made is not None:
            counts[task]["allocations"] = made
    made = re.search(r"^allocations: (\d+)", output([tests, *OBSERVER_TEST]), re.MULTILINE)
    if not made:
        sys.exit("the test of the observer was not run")
    counts[OBSERVER] = {"instructions": instructions([tests, *OBSERVER_TEST], PARTS), "allocations": int(made[1])}
    return counts


def output(command: list[str]) -> str:
    """The observer's test joins a room, which may take too long on a busy machine: it has three attempts."""
    for _ in range(ATTEMPTS - 1):
        tried = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if tried.returncode == 0:
            return tried.stdout
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def instructions(task: list[str], parts: list[str] = []) -> int:
    """`parts`: those that must have been met. One that has another name by now would be missing without a word."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        toggles = [f"--toggle-collect={part}" for part in PARTS]
        output(["valgrind", "--tool=callgrind", "--quiet", *toggles, f"--callgrind-out-file={out}", *task])
        text = out.read_text()
        found = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
        lost = [part for part in parts if not re.search(".*".join(map(re.escape, part.split("*"))), text)]
    if not found or int(found[1]) == 0:
        sys.exit(f"callgrind counted nothing of: {' '.join(task)}")
    if lost:
        sys.exit(f"never called: {', '.join(lost)}")
    return int(found[1])


def compiler() -> list[str]:
    """Another compiler, or another processor, has other counts."""
    lines = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return [line for line in lines.splitlines() if line.startswith(("host:", "release:"))]


def compared(counts: dict, figures: dict, comparable: bool) -> list[str]:
    wrong = []
    if not comparable:
        print("the figures were made with another compiler: only proportions count")
    for task in sorted(counts.keys() | figures.keys()):
        count_of, figure_of = counts.get(task, {}), figures.get(task, {})
        for what in sorted(count_of.keys() | figure_of.keys()):
            count, figure = count_of.get(what, 0), figure_of.get(what, 0)
            differs = count / figure - 1 if figure else float("inf")
            print(f"{task:<50} {what:<13} {count:>14,} {differs:>+8.1%}")
            # Much less is wrong too: perhaps the work is not done any more.
            allowed = ALLOWED if "allocations" in figure_of else ALLOWED_BESIDE_A_THREAD
            if comparable and abs(differs) > allowed:
                wrong.append(f"{task}: {count:,} {what}, and the figure is {figure:,}")
    return wrong


def main() -> None:
    bench, tests, accept = sys.argv[1], sys.argv[2], "--accept" in sys.argv
    long = accept or "--long" in sys.argv
    counts, made_by = counted(bench, tests, long), compiler()
    if accept:
        FIGURES.write_text(json.dumps({"compiler": made_by, "counts": counts}, indent=2) + "\n")
    kept = json.loads(FIGURES.read_text())
    if not long:
        del kept["counts"][LONGEST]
    wrong = compared(counts, kept["counts"], kept["compiler"] == made_by)
    for less, more, times in LONG if long else LONG[:-1]:
        for what in counts[less]:
            ratio = counts[more][what] / counts[less][what]
            if ratio > times * IN_PROPORTION:
                wrong.append(f"{more}: {ratio:.1f} times the {what} of {less}")
    if wrong:
        sys.exit("\n".join([*wrong, "if that is meant: make counts-accept"]))


main()
