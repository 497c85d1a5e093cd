"""Checks of the posted record: its exact form, and its signature.

The form is checked on the raw JSON, which shows an integer instead of a float,
a fourth decimal, a surplus key, and a key in the wrong place.
"""

import base64
import hashlib
import json
import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import jsonschema
import jwt

from .endpoint import Post
from .product import JWT_SECRET

_SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/call-history.schema.json").read_text())
_VALIDATOR = jsonschema.Draft202012Validator(
    _SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)

KEYS = {
    "": [
        "call_id",
        "phone_number",
        "room_name",
        "call_type",
        "start_time",
        "end_time",
        "duration_seconds",
        "status",
        "termination_reason",
        "agent_config",
        "metrics",
        "outcomes",
        "stage_timeline",
    ],
    "agent_config": [
        "stt_config_key",
        "llm_config_key",
        "tts_config_key",
        "business_type",
        "language",
    ],
    "metrics": [
        "total_user_utterances",
        "total_agent_utterances",
        "longest_user_utterance",
        "longest_agent_utterance",
        "average_user_response_time",
        "average_agent_response_time",
        "silence_count",
        "interruption_count",
    ],
    "outcomes": [
        "completion_rate",
        "fields_collected",
        "final_stage",
        "successful",
        "notes",
    ],
}

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def seconds(time: str) -> float:
    """Unix seconds of a time in a record."""
    return datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC).timestamp()


def _object(pairs: list[tuple[str, object]]) -> dict:
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"a key stands twice: {keys}"
    return dict(pairs)


def check_form(body: bytes) -> dict:
    """Fails unless `body` has exactly the form of a record; returns it with plain numbers."""
    record = json.loads(body.decode(), parse_float=Decimal, object_pairs_hook=_object)
    wrong: list[str] = []

    def need(true: bool, what: str) -> None:
        if not true:
            wrong.append(what)

    def text(value, what: str, *, null: bool = False) -> None:
        need((null and value is None) or (isinstance(value, str) and value != ""), what)

    def decimal(value, what: str) -> None:
        need(isinstance(value, Decimal), f"{what} is no float: {value!r}")
        if isinstance(value, Decimal):
            need(value >= 0, f"{what} is negative: {value}")
            need(value.as_tuple().exponent >= -3, f"{what} has more than 3 decimals: {value}")

    def count(value, what: str) -> None:
        need(type(value) is int and value >= 0, f"{what} is no count: {value!r}")

    def time(value, what: str) -> None:
        need(isinstance(value, str) and bool(_TIME.fullmatch(value)), f"{what}: {value!r}")

    for part, keys in KEYS.items():
        found = record[part] if part else record
        if not part and "details" in found:
            keys = [*keys, "details"]
        need(list(found) == keys, f"keys of {part or 'the record'}: {list(found)}")
    need(uuid.UUID(record["call_id"]).version == 5, f"call_id: {record['call_id']}")
    need(record["call_id"] == str(uuid.UUID(record["call_id"])), "call_id is not in lower case")
    text(record["phone_number"], "phone_number")
    text(record["room_name"], "room_name")
    need(record["call_type"] in ("inbound", "outbound"), f"call_type: {record['call_type']}")
    time(record["start_time"], "start_time")
    time(record["end_time"], "end_time")
    decimal(record["duration_seconds"], "duration_seconds")
    need(record["status"] in ("completed", "failed", "dropped"), f"status: {record['status']}")
    reason = record["termination_reason"]
    need(reason is None or bool(re.fullmatch("[a-z_]+", reason)), f"reason: {reason!r}")
    for key, value in record["agent_config"].items():
        text(value, f"agent_config.{key}: {value!r}", null=True)
    metrics, outcomes = record["metrics"], record["outcomes"]
    for key in KEYS["metrics"]:
        (decimal if key.startswith("average") else count)(metrics[key], f"metrics.{key}")
    decimal(outcomes["completion_rate"], "outcomes.completion_rate")
    need(outcomes["completion_rate"] <= 1, "completion_rate is above 1")
    fields = outcomes["fields_collected"]
    need(
        isinstance(fields, list) and all(isinstance(f, str) for f in fields),
        f"fields_collected: {fields!r}",
    )
    need(len(fields) == len(set(fields)), f"fields_collected repeats itself: {fields}")
    text(outcomes["final_stage"], "outcomes.final_stage", null=True)
    need(outcomes["successful"] in (True, False, None), "outcomes.successful")
    text(outcomes["notes"], "outcomes.notes", null=True)
    previous = ""
    for step in record["stage_timeline"]:
        need(list(step) == ["stage", "timestamp"], f"a step of stage_timeline: {step}")
        text(step["stage"], "stage_timeline.stage")
        time(step["timestamp"], "stage_timeline.timestamp")
        need(step["timestamp"] >= previous, f"stage_timeline is out of order at {step}")
        previous = step["timestamp"]
    if wrong:
        raise AssertionError("the record's form is wrong:\n  " + "\n  ".join(wrong))

    plain = json.loads(body)
    unfit = [f"{e.json_path}: {e.message}" for e in _VALIDATOR.iter_errors(plain)]
    assert not unfit, "the record does not fit the schema:\n  " + "\n  ".join(unfit)

    span = seconds(record["end_time"]) - seconds(record["start_time"])
    assert abs(float(record["duration_seconds"]) - span) < 0.0015, (
        f"duration_seconds is {record['duration_seconds']}, end - start is {span:.3f}"
    )
    return plain


def check_request(post: Post, record: dict) -> None:
    """Checks the headers and, with a foreign library, the token: its signature and its claims."""
    headers = post.headers
    assert headers["content-type"].split(";")[0] == "application/json"
    assert re.fullmatch(r"call-history/\d+\.\d+\.\d+\S*", headers["user-agent"])
    assert headers["idempotency-key"] == record["call_id"]

    scheme, _, token = headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    claims = jwt.decode(
        token,
        JWT_SECRET,
        algorithms=["HS256"],
        options={"require": ["iat", "exp", "jti"]},
        leeway=2,
    )
    assert set(claims) == {"phone_number", "timestamp", "iat", "exp", "jti", "sha256"}, claims
    assert claims["phone_number"] == record["phone_number"]
    assert claims["timestamp"] == record["end_time"]
    assert claims["exp"] == claims["iat"] + 300
    assert abs(claims["iat"] - post.t) < 5, "the token was not minted for this attempt"
    assert claims["jti"] == record["call_id"]
    digest = base64.b64encode(hashlib.sha256(post.body).digest()).decode()
    assert claims["sha256"] == digest, "the token does not cover the body"
