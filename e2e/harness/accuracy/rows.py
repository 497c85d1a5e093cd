"""The rows of the measurement: kinds of agents, each with kinds of callers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of agent."""

    title: str
    runs: str
    """What is in the call, see `Call`: "python", "node" or "bot"."""
    speech_to_speech: bool = False
    transcribes: bool = True
    """Whether anything transcribes the caller's words."""
    resumes: bool = True
    """After a noise, the agent goes on. Others stop for good with the first sound of the caller."""
    aims: str = ""
    """The group of the kind in the table of aims; "" for those that the aims were set for."""


KINDS = {
    "python": Kind("Python", "python"),
    "node": Kind("Node", "node"),
    "s2s": Kind(
        "Speech-to-speech", "python", speech_to_speech=True, resumes=False, aims="speech-to-speech"
    ),
    "s2sonly": Kind(
        "Speech-to-speech, caller not transcribed",
        "python",
        speech_to_speech=True,
        transcribes=False,
        resumes=False,
        aims="speech-to-speech, caller not transcribed",
    ),
    "bot": Kind("Bot with the grant", "bot", resumes=False, aims="bot with the grant"),
}

CALLERS = {"phone": "phone-like", "web": "web", "browser": "browser"}

ROWS = {
    f"{kind}-{caller}": (kind, caller)
    for kind, callers in {
        "python": CALLERS,
        "node": CALLERS,
        "s2s": ("phone", "web"),
        "s2sonly": ("phone", "web"),
        "bot": ("phone", "web"),
    }.items()
    for caller in callers
}
"""What is measured: the kind of agent and the kind of caller."""


def kind_of(row: str) -> Kind:
    return KINDS[ROWS[row][0]]
