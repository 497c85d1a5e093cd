"""What happens in a call: drawn from a seed, so that the call can be held again.

Every call has some turns with pauses of usual lengths. Some calls also have a caller that cuts the
agent off, a noise that makes the agent pause (or stop), a long silence, or a hang-up at the last word. No
pause is close to 5 s, from which a gap counts as a silence: so close, the result would depend on how
exactly the machine keeps time.
"""

import random
from dataclasses import dataclass, field

from .. import sound
from ..call import Script

LONGEST = 31.0
"""The longest a planned call may take, in seconds."""

NOISE = 0.8
"""Seconds: enough for the agent to pause, and to go on when there were no words."""

ANSWERS_AFTER = 1.05
"""Seconds from the end of a line to the agent's answer, for a caller that cannot wait for it."""

_PAUSED_AFTER, _RESUMED_AFTER = 0.6, 3.3
"""Seconds from a noise to the agent's pause, and until the agent continues."""

_WORDS = (
    "table window evening morning garden river letter number people answer question dinner "
    "doctor ticket summer winter market coffee kitchen station paper yellow green silver "
    "always never maybe thanks please today tomorrow later early around before after again "
    "where when which could would should have take bring leave change order book call send"
).split()


@dataclass
class Turn:
    pause: float
    """Seconds from the agent's last sound to the line; into its answer if the line cuts in."""
    line: str
    reply: str
    cuts_in: bool = False
    """Spoken while the agent answers the previous line."""
    noise_after: float | None = None
    """Seconds from the beginning of the answer to a noise."""


@dataclass
class Plan:
    greeting: str
    turns: list[Turn] = field(default_factory=list)
    hangs_up_at_once: bool = False
    """The caller leaves right after its last word and does not hear the answer."""
    waits: float = 1.0
    """Seconds from the last sound to the leave, unless the caller hangs up at once."""

    def script(self, **more) -> Script:
        lines = [turn.line for turn in self.turns]
        replies = {turn.line: turn.reply for turn in self.turns}
        # Late enough for the observer to be there: who joins first is not measured here.
        return Script(lines, replies, greeting=self.greeting, greet_after=1.0, **more)

    def microphone(self, first: float = 1.0) -> list[tuple[float, int | None]]:
        """The caller's side, fixed beforehand: pairs of a pause and a line, or `None` for a noise."""
        out: list[tuple[float, int | None]] = []
        # Seconds from the caller's last sound in `out` to the end of the agent's answer.
        rest = first
        for number, turn in enumerate(self.turns):
            if turn.cuts_in:
                out.append((ANSWERS_AFTER + turn.pause, number))
            else:
                out.append((rest + turn.pause, number))
            rest = ANSWERS_AFTER + sound.seconds_for(turn.reply)
            if turn.noise_after is not None:
                out.append((ANSWERS_AFTER + turn.noise_after, None))
                spoken = turn.noise_after + _PAUSED_AFTER
                rest = _RESUMED_AFTER - NOISE + sound.seconds_for(turn.reply) - spoken
        return out

    def seconds(self) -> float:
        """About how long all of it takes."""
        speech = sum(p + (NOISE if n is None else self._line(n)) for p, n in self.microphone())
        answer = 0.0 if self.hangs_up_at_once else sound.seconds_for(self.turns[-1].reply) + 2.0
        return 2.0 + sound.seconds_for(self.greeting) + speech + answer

    def _line(self, number: int) -> float:
        return sound.seconds_for(self.turns[number].line)


def draw(seed: int, row: str, number: int) -> Plan:
    """The plan of one call; the same seed, row and number give the same plan."""
    dice = random.Random(f"{seed}/{row}/{number}")
    turns = dice.randint(3, 5)
    while True:
        plan = _draw(dice, number, turns)
        if plan.seconds() <= LONGEST:
            return plan


def _draw(dice: random.Random, number: int, count: int) -> Plan:
    used: set[str] = set()

    def say(fewest: int, most: int) -> str:
        # Short ones are as usual as long ones, and no line is said twice.
        while True:
            text = " ".join(dice.choices(_WORDS, k=dice.randint(fewest, most)))
            if text not in used:
                used.add(text)
                return text

    # The more turns, the shorter they are.
    most = {3: 12, 4: 11, 5: 9}[count]
    turns = [
        Turn(round(dice.uniform(0.5, 3.0), 2), say(1, most), say(2, most))
        for _ in range(count)
    ]
    plan = Plan(say(3, 9), turns, waits=round(dice.uniform(0.6, 2.0), 2))
    # Turns for the events that not every call has, a different turn for each.
    places = dice.sample(range(len(turns) - 1), 2)
    if number % 4 == 0:
        cut = places[0]
        turns[cut].reply = say(10, 14)
        turns[cut + 1].line = say(3, 7)
        turns[cut + 1].cuts_in = True
        turns[cut + 1].pause = round(dice.uniform(1.2, 2.0), 2)
    if number % 4 == 1:
        turns[places[0]].reply = say(9, 12)
        turns[places[0]].noise_after = round(dice.uniform(0.9, 1.4), 2)
    if number % 5 == 1:
        quiet = turns[places[1] if not turns[places[1]].cuts_in else 0]
        quiet.pause = round(dice.uniform(6.0, 9.0), 2)
    plan.hangs_up_at_once = number % 3 == 1
    return plan
