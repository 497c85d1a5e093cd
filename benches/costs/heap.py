"""What the heap holds, by the code that asked for it (heaptrack)."""

import re
import subprocess
from collections import Counter
from pathlib import Path

PRELOAD = "/usr/lib/heaptrack/libheaptrack_preload.so"
INTERPRET = "/usr/lib/heaptrack/libexec/heaptrack_interpret"

SDK = "LiveKit's SDK: everything else"
CHANNELS = "LiveKit's SDK: channels"
OWNERS = {
    "the core": r"(^|[<& ])call::",
    "the observer and its journal": r"\b(call_history|store|delivery)::",
    "`crates/libwebrtc`": r"\blibwebrtc::",
    "str0m with ICE, DTLS and SCTP": r"\b(str0m\w*|dimpl|sctp\w*|is)::",
    SDK: r"\b(livekit\w*|tokio_tungstenite|tungstenite)::",
    "TLS and HTTP": r"\b(rustls\w*|hyper\w*|reqwest|h2|aws_lc\w*)::",
}
"""In the order of the rows: the owner is the crate of the innermost frame that belongs to one of them."""
CHANNEL = re.compile(r"tokio::sync::(mpsc|broadcast)")


def wrapper(raw: Path) -> str:
    """What runs before the program, to write the heap's history to this file."""
    return f"env LD_PRELOAD={PRELOAD} DUMP_HEAPTRACK_OUTPUT={raw}"


def held(raw: Path) -> Counter[str]:
    """Bytes that were not given back, by stack: frames from the outermost to the innermost."""
    data, stacks = raw.with_suffix(".data"), raw.with_suffix(".stacks")
    with raw.open("rb") as source, data.open("wb") as target:
        subprocess.run([INTERPRET], stdin=source, stdout=target, stderr=subprocess.DEVNULL, check=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True}
    of = ["-f", data, "-p0", "-a0", "-T0", "--flamegraph-cost-type", "leaked"]
    subprocess.run(["heaptrack_print", *of, "-F", stacks], **quiet)
    return total(stacks.read_text())


def total(stacks: str) -> Counter[str]:
    """A stack may have several lines: the addresses behind its names differ."""
    held: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, n = line.rsplit(" ", 1)
        held[stack] += int(n)
    return held


def owner(stack: str) -> str:
    frames = stack.split(";")
    for frame in reversed(frames):
        for name, crates in OWNERS.items():
            if re.search(crates, frame):
                return CHANNELS if name == SDK and CHANNEL.search(stack) else name
    return "else"


def by_owner(stacks: Counter[str]) -> Counter[str]:
    owners: Counter[str] = Counter()
    for stack, n in stacks.items():
        owners[owner(stack)] += n
    return owners


def table(for_each_call: dict[str, float]) -> str:
    rows = [f"| {name} | {n / 1000:.0f} |" for name, n in sorted(for_each_call.items(), key=lambda row: -row[1])]
    together = sum(for_each_call.values())
    return "\n".join(["| for each call | kB |", "| --- | ---: |", *rows, f"| sum | {together / 1000:.0f} |"])
