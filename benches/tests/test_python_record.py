"""The Python worker's record where the benchmark's calls do not lead: without a session's items, and other ends."""

import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "python"))

from call import AGENT, SIP, Segment
from livekit import rtc
from record import Turn, Verdict, conversation, merged, response_time, silences

KINDS = {"agent": AGENT, "caller": SIP}


def said(identity: str, text: str, start: float, end: float) -> Segment:
    return Segment(identity, text, start, end)


def of(turns: list[Turn]) -> list[tuple[bool, str]]:
    return [(t.by_agent, t.text) for t in turns]


class Conversation(unittest.TestCase):
    streams = {
        ("agent", "1"): said("agent", "Good evening.", 1, 2),
        ("caller", "2"): said("caller", "A table", 3, 4),
        ("caller", "3"): said("caller", "for four.", 5, 6),
        ("agent", "4"): said("agent", "Gladly.", 7, 8),
        ("agent", "5"): said("agent", "At what time?", 8, 9),
        ("caller", "6"): said("caller", " ", 9, 9),
    }

    def test_pieces_of_a_caller_are_one_utterance_until_the_agent_speaks(self):
        self.assertEqual(
            of(merged(list(self.streams.values()), False, KINDS)), [(False, "A table for four.")]
        )

    def test_each_stream_of_an_agent_is_an_utterance(self):
        found = merged(list(self.streams.values()), True, KINDS)
        self.assertEqual([t.text for t in found], ["Good evening.", "Gladly.", "At what time?"])

    def test_each_side_is_taken_from_its_best_signal(self):
        items = [Turn(True, "Good evening to you.", 1, 2)]
        legacy = {("caller", "9"): said("caller", "never", 3, 4)}
        call = SimpleNamespace(items=items, streams=self.streams, legacy=legacy, kinds=KINDS)
        self.assertEqual(
            of(conversation(call)), [(True, "Good evening to you."), (False, "A table for four.")]
        )

    def test_the_older_packets_count_where_there_are_no_streams(self):
        legacy = {("caller", "9"): said("caller", "Hello.", 3, 4)}
        call = SimpleNamespace(items=[], streams={}, legacy=legacy, kinds=KINDS)
        self.assertEqual(of(conversation(call)), [(False, "Hello.")])

    def test_answers_and_silences_are_counted(self):
        turns = [
            Turn(True, "a", 1, 2),
            Turn(False, "b", 2.5, 3),
            Turn(True, "c", 4, 5),
            Turn(False, "d", 11, 12),
        ]
        self.assertEqual(response_time(turns, by_agent=True), 1.0)
        self.assertEqual(response_time(turns, by_agent=False), 3.25)
        self.assertEqual(silences(turns, 0, 13), 1)
        self.assertEqual(silences(turns, 0, 17), 2)
        self.assertEqual(silences([], 0, 4.9), 0)


class Ends(unittest.TestCase):
    def test_how_a_call_ends_follows_from_the_leave(self):
        reasons = rtc.DisconnectReason
        for connected, inbound, reason, sip, expected in (
            (True, True, reasons.CLIENT_INITIATED, "hangup", ("completed", None)),
            (True, True, reasons.CLIENT_INITIATED, "active", ("dropped", "connection_lost")),
            (True, True, reasons.CLIENT_INITIATED, "", ("completed", None)),
            (True, True, reasons.ROOM_DELETED, "active", ("completed", None)),
            (True, True, reasons.CONNECTION_TIMEOUT, "", ("dropped", "connection_lost")),
            (False, False, reasons.USER_REJECTED, "ringing", ("failed", "rejected")),
            (False, False, reasons.USER_UNAVAILABLE, "ringing", ("failed", "no_answer")),
            (False, False, reasons.CLIENT_INITIATED, "dialing", ("failed", "not_connected")),
            (False, True, reasons.CLIENT_INITIATED, "hangup", ("failed", "abandoned")),
        ):
            verdict = Verdict(agent_was_there=True, sip_status=sip, reason=reason)
            self.assertEqual(verdict.of(connected, inbound), expected, (reasons.Name(reason), sip))
        self.assertEqual(Verdict(reason=reasons.CLIENT_INITIATED).of(True, True), ("failed", "no_agent"))

    def test_what_the_agent_published_goes_first(self):
        verdict = Verdict(published=("dropped", "transferred"))
        self.assertEqual(verdict.of(True, True), ("dropped", "transferred"))
