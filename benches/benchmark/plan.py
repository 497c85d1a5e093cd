"""How much is measured. The short plan is for trials: its figures are coarse."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    name: str
    sizes: tuple[int, ...]
    """Calls that are on at once."""
    starts: int
    """Starts of each worker, besides those of the other measurements."""
    settle: float
    """Seconds of rest before a measurement."""
    idle: float
    quiet: float
    talking: float
    """Seconds over which CPU is measured."""
    after: float
    after_most: float
    """Seconds from the last call's end to the measurement of what is left; after the most calls longer, as an allocator
    may take its time."""
    probes: int
    """Calls that begin and end one after the other while the others are on."""
    scripted: int
    """Calls of which the record is compared with the truth."""
    away: float
    """Seconds without an endpoint."""


FULL = Plan(
    "full",
    (1, 10, 50),
    starts=4,
    settle=4,
    idle=8,
    quiet=10,
    talking=20,
    after=8,
    after_most=60,
    probes=6,
    scripted=9,
    away=60,
)
SHORT = Plan(
    "short",
    (1, 5),
    starts=1,
    settle=2,
    idle=3,
    quiet=3,
    talking=5,
    after=3,
    after_most=6,
    probes=2,
    scripted=3,
    away=8,
)
