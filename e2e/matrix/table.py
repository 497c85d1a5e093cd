"""The table of docs/frameworks.md, between two marks."""

import re
from pathlib import Path

from harness import expect

from .held import BOT_OFF, OFF, Result

BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"

_HEAD = f"""\
One call with each, held by `make matrix`: a greeting, an answer that the caller cuts off, another answer, a silence,
a goodbye. *Speech* and *words* are what `details.evidence` says of caller / agent. *Numbers* are exact if the six
counts, the phone number and the status are, and start, end and both mean response times are within their tolerance.
"Second call": the first one did not follow its script. The last columns are the errors of the means, against what the
caller said and heard, on a shared machine. Up to {expect.UNFED} s are allowed where the meter shows the caller's speech,
{BOT_OFF} s with a Pipecat bot, else {OFF["feed"]} s.

| framework | version | speech | words | numbers | caller's response time | agent's response time |
|---|---|---|---|---|---|---|
"""


def table(results: list[Result]) -> str:
    return _HEAD + "".join(_row(result) for result in results)


def _row(result: Result) -> str:
    def off(side: str) -> str:
        return f"{result.off[side]:+.2f} s".replace("-", "−") if side in result.off else "–"

    # Paths and addresses of this machine do not belong in the document.
    wrong = re.sub(r"\S*/\S*", "…", "; ".join(result.wrong))
    cells = [
        result.version.framework,
        result.version.number,
        result.seen("speech") or "–",
        result.seen("words") or "–",
        f"**{wrong}**" if wrong else "exact" + (", second call" if result.again else ""),
        off("user"),
        off("agent"),
    ]
    return f"| {' | '.join(cells)} |\n"


def write(path: Path, results: list[Result]) -> None:
    """Replaces what stands between the marks."""
    text = path.read_text()
    between = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
    assert between.search(text), f"{path} has no lines {BEGIN} and {END}"
    path.write_text(between.sub(lambda _: table(results), text))
