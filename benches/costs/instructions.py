"""Which task the instructions belong to (callgrind)."""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

POLL = re.compile(r"^tokio::runtime::(task|blocking|scheduler|park|coop)")
"""Functions of the runtime that run a task."""
NOT_A_TASK = re.compile(r"^<?(tokio::|core::(?!pin::Pin)|std|alloc|__|mem)")
TASKS = {
    "LiveKit's SDK": r"^<?livekit",
    "`crates/libwebrtc` with str0m": r"^<?libwebrtc",
    # It runs in the worker's task tracker, or in a box: it has no name of its own.
    "the observation": r"^<(tokio_util::task::task_tracker::TrackedFuture|core::pin::Pin)",
}
SDK, FORMATTING = re.compile(r"^<?livekit"), re.compile(r"\bfmt\b")


def wrapper(out: Path) -> str:
    return f"valgrind --tool=callgrind --quiet --callgrind-out-file={out}"


def control(pid: int, what: str) -> None:
    subprocess.run(["callgrind_control", what, str(pid)], stdout=subprocess.DEVNULL, check=True)


@dataclass
class Profile:
    total: int
    calls: dict[tuple[str, str], int]
    """Instructions of each call from one function into another, with all that this one calls."""


def read(out: Path) -> Profile:
    """Reads callgrind's format: a name stands where its number is first used, and the line after `calls=` is
    what this call cost."""
    names: dict[str, str] = {}
    calls: Counter[tuple[str, str]] = Counter()
    total, caller, callee, is_call = 0, "", "", False
    for line in out.read_text().splitlines():
        if of := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", line):
            # A recursive call has a number behind its name.
            name = names[of[2]] = re.sub(r"'\d+$", "", of[3] or names[of[2]])
            caller, callee = (name, callee) if of[1] == "fn" else (caller, name)
        elif line.startswith("calls="):
            is_call = True
        elif is_call:
            calls[caller, callee] += int(line.split()[1])
            is_call = False
        elif of := re.match(r"(?:summary|totals): (\d+)", line):
            total = int(of[1])
    return Profile(total, calls)


def task(name: str) -> str:
    return next((task for task, functions in TASKS.items() if re.search(functions, name)), "runtime, looking for rooms")


def by_task(profile: Profile) -> Counter[str]:
    """What no task ran counts for the runtime, as looking for rooms does."""
    parts = Counter(dict.fromkeys(TASKS, 0))
    for (caller, callee), n in profile.calls.items():
        if POLL.search(caller) and not NOT_A_TASK.search(callee):
            parts[task(callee)] += n
    parts["runtime, looking for rooms"] = profile.total - sum(parts[name] for name in TASKS)
    return parts


def formatting(profile: Profile) -> int:
    """What the SDK spends on texts."""
    calls = profile.calls.items()
    return sum(n for (a, b), n in calls if SDK.search(a) and FORMATTING.search(b) and not FORMATTING.search(a))


def table(profile: Profile, calls: int, seconds: float) -> str:
    rows = by_task(profile).most_common()
    rows.insert(1 + [name for name, _ in rows].index("LiveKit's SDK"), ("of it: texts of events", formatting(profile)))
    each = profile.total / calls / seconds / 1e6
    head = [f"{each:.1f} million instructions a second for each call", "", "| task | part |", "| --- | ---: |"]
    return "\n".join([*head, *(f"| {name} | {n / profile.total:.0%} |" for name, n in rows)])
