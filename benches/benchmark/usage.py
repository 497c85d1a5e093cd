"""What a process and all its children use, as the kernel says in /proc."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    at: float
    rss_mb: float
    """Resident memory; pages that processes share count once for each of them."""
    pss_mb: float
    """Resident memory; a shared page counts in parts, so that the sum over processes is true."""
    cpu: float
    """Seconds of CPU since the start, of processes and threads that are there now."""
    processes: int
    threads: int

    def cpu_percent(self, earlier: "Usage") -> float:
        """Per cent of one core since an earlier look."""
        return max(0.0, 100 * (self.cpu - earlier.cpu) / (self.at - earlier.at))


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(PROC):
        if entry.isdigit() and (stat := text(PROC / entry / "stat")):
            # The name in brackets may hold brackets and spaces.
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, new = [], [root]
    while new:
        found += new
        new = [child for pid in new for child in children.get(pid, [])]
    return found


def usage(root: int) -> Usage:
    rss = pss = cpu = 0.0
    processes = threads = 0
    at = time.monotonic()
    for pid in tree(root):
        # Reading the memory takes a while, and CPU goes on: CPU first.
        spent, running = cpu_of(pid)
        memory = text(PROC / str(pid) / "smaps_rollup")
        if not memory:
            continue  # it has just ended
        fields = dict(line.split(":", 1) for line in memory.splitlines()[1:])
        rss += int(fields["Rss"].split()[0])
        pss += int(fields["Pss"].split()[0])
        cpu += spent
        processes += 1
        threads += running
    if not processes:
        raise RuntimeError("the worker is gone")
    return Usage(at, rss / 1024, pss / 1024, cpu, processes, threads)


def cpu_of(pid: int) -> tuple[float, int]:
    """Seconds of CPU, and the number of threads. The scheduler counts nanoseconds; `stat` has hundredths of a
    second, too coarse for a worker that needs two thousandths."""
    spent = threads = 0
    try:
        tasks = os.listdir(PROC / str(pid) / "task")
    except OSError:
        return 0.0, 0
    for task in tasks:
        if found := text(PROC / str(pid) / "task" / task / "schedstat"):
            spent += int(found.split()[0])
            threads += 1
    return spent / 1e9, threads


def machine_busy() -> tuple[float, float]:
    """Seconds that all cores together were busy, and that passed, since the machine's start."""
    times = [int(n) for n in text(PROC / "stat").splitlines()[0].split()[1:9]]
    idle = times[3] + times[4]
    return (sum(times) - idle) / 100, sum(times) / 100


def memory_available_mb() -> float:
    line = next(line for line in text(PROC / "meminfo").splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) / 1024


def text(path: Path) -> str:
    """Empty if the process is gone, or of another user."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
