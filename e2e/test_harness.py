"""Tests of the harness's own checks: they must find every error."""

import json

import pytest

from harness import expect
from harness.record import check_form, seconds

RECORD = {
    "call_id": "5ae28a3f-9c4b-5f43-9d5a-3b9f5d6f9b11",
    "phone_number": "+15551234567",
    "room_name": "livekit-room-name",
    "call_type": "inbound",
    "start_time": "2023-09-20T14:30:00.000Z",
    "end_time": "2023-09-20T14:35:42.123Z",
    "duration_seconds": 342.123,
    "status": "completed",
    "termination_reason": None,
    "agent_config": {
        "stt_config_key": "deepgram",
        "llm_config_key": "openai-gpt4",
        "tts_config_key": "elevenlabs",
        "business_type": "restaurant",
        "language": "english",
    },
    "metrics": {
        "total_user_utterances": 12,
        "total_agent_utterances": 15,
        "longest_user_utterance": 45,
        "longest_agent_utterance": 120,
        "average_user_response_time": 2.3,
        "average_agent_response_time": 1.5,
        "silence_count": 3,
        "interruption_count": 1,
    },
    "outcomes": {
        "completion_rate": 0.95,
        "fields_collected": ["name", "phone", "time", "party_size"],
        "final_stage": "confirmation",
        "successful": True,
        "notes": None,
    },
    "stage_timeline": [
        {"stage": "greeting", "timestamp": "2023-09-20T14:30:10.000Z"},
        {"stage": "confirmation", "timestamp": "2023-09-20T14:34:20.000Z"},
    ],
}


def changed(path: str, value) -> bytes:
    record = json.loads(json.dumps(RECORD))
    *folders, key = path.split(".")
    place = record
    for folder in folders:
        place = place[folder]
    place[key] = value
    return json.dumps(record).encode()


def test_a_record_to_the_letter_is_accepted():
    assert check_form(json.dumps(RECORD).encode()) == RECORD


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("call_id", "unique-id-for-the-call"),
        ("call_id", "7b2f8d6e-4a0f-4c6e-8a55-0d6ad3f0c111"),
        ("phone_number", None),
        ("call_type", "web"),
        ("start_time", "2023-09-20T14:30:00Z"),
        ("start_time", "2023-09-20T14:30:01.000Z"),
        ("end_time", "2023-09-20T14:35:42.123+00:00"),
        ("duration_seconds", 342),
        ("duration_seconds", 342.1231),
        ("status", "ended"),
        ("termination_reason", "Client Initiated"),
        ("agent_config.language", ""),
        ("metrics.total_user_utterances", 12.0),
        ("metrics.silence_count", -1),
        ("metrics.average_user_response_time", 0),
        ("outcomes.completion_rate", 1.5),
        ("outcomes.fields_collected", ["name", "name"]),
        ("outcomes.successful", "yes"),
        ("surplus", 1),
        ("metrics.surplus", 1),
    ],
)
def test_a_record_that_is_a_little_wrong_is_refused(path, value):
    with pytest.raises((AssertionError, ValueError)):
        check_form(changed(path, value))


def test_keys_in_another_order_are_refused():
    backwards = dict(reversed(RECORD.items()))
    with pytest.raises(AssertionError, match="keys of the record"):
        check_form(json.dumps(backwards).encode())


def test_every_difference_is_reported_at_once():
    start = seconds("2023-09-20T14:30:00.000Z")
    due = json.loads(json.dumps(RECORD)) | {
        "status": "dropped",
        "start_time": expect.Moment(start - 1, start + 1),
        "end_time": expect.Moment(start - 1, start + 1),
    }
    due["metrics"]["silence_count"] = expect.Near(0, 2)
    due["stage_timeline"] = due["stage_timeline"][:1]
    with pytest.raises(AssertionError) as raised:
        expect.compare(RECORD, due)
    differences = str(raised.value)
    for field in ("status", "end_time", "metrics.silence_count", "stage_timeline"):
        assert f"\n  {field}:" in differences
    assert "start_time" not in differences
