"""Checks after all scenarios: the logs of the product, and everything that was posted."""

import re

import pytest

pytestmark = pytest.mark.last


def calls_were_held(lab) -> None:
    """Fails in a run without other scenarios, in which there would be nothing to check."""
    assert lab.rooms and lab.numbers and lab.said, "no scenario left anything behind"


async def test_no_call_is_reported_twice(lab):
    calls_were_held(lab)
    for room, calls in lab.rooms.items():
        ids = [
            post.headers["idempotency-key"] for post in lab.endpoint.of(room) if post.status == 200
        ]
        assert len(ids) == len(set(ids)), f"a call in {room} was reported twice: {ids}"
        assert len(ids) <= calls, f"{room} held {calls} calls, reported were {len(ids)}"


async def test_no_phone_number_stands_in_the_logs(lab):
    """The last two digits are allowed; with more of them one could tell callers apart."""
    calls_were_held(lab)
    for product in lab.products:
        for number in lab.numbers:
            pattern = re.compile(rf"{number[-7:]}|\D{number[-4:]}\D")
            found = [raw for raw in product.child.lines if pattern.search(_without_ids(raw))]
            assert not found, f"{number} is in the log:\n" + "\n".join(found[:5])


async def test_no_words_of_a_call_stand_in_the_logs(lab):
    calls_were_held(lab)
    for product in lab.products:
        text = "\n".join(product.child.lines).lower()
        for sentence in lab.said:
            words = sentence.lower().split()
            for start in range(max(1, len(words) - 2)):
                part = " ".join(words[start : start + 3])
                assert len(words) < 3 or part not in text, f"{part!r} is in the log"


async def test_no_error_is_logged_that_no_scenario_expects(lab):
    calls_were_held(lab)
    for product in lab.products:
        errors = product.unexpected_errors()
        assert not errors, "\n".join(errors[:10])


async def test_every_log_line_is_json(lab):
    calls_were_held(lab)
    for product in lab.products:
        other = [line.raw for line in product.lines if not line.level]
        assert not other, "\n".join(other[:10])


def _without_ids(raw: str) -> str:
    """The line without times and call ids, which may hold the same four digits by chance."""
    raw = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z?", "", raw)
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", raw)
