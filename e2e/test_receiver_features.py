"""What a build with more features can: recordings in a bucket, and calls as Parquet.

Both are checked by programs that are not ours: moto is the S3, pyarrow reads the file.
"""

import io
import json
import os
import subprocess
import time
import urllib.error
import uuid
from pathlib import Path

import boto3
import jwt
import pyarrow.parquet
import pytest
from moto.server import ThreadedMotoServer

from harness.receiver_process import RECORDS, ReceiverProcess

ROOT = Path(__file__).parent.parent
UPLOADS = ROOT / "crates" / "receiver" / "tests" / "uploads" / "py-1.8.9-sip"
KEY, SECRET = "labkey", "a secret of some length, as it should be"
ROOM_ID, ROOM_NAME = "RM_YUsoNDYXe39c", "call-o-sip"
"""Of the recorded uploads."""


@pytest.fixture
def bucket(monkeypatch):
    """A client, the name of an empty bucket, and the environment with which a program reaches it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    access = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name=access["AWS_REGION"],
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    # What a server keeps outlives it.
    name = f"recordings-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    yield client, name, access | {"AWS_ENDPOINT": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true"}
    server.stop()


def agent() -> str:
    """The token that an agent makes for its uploads."""
    now = int(time.time())
    grant = {"iss": KEY, "sub": "", "nbf": now, "exp": now + 21_600, "observability": {"write": True}}
    return f"Bearer {jwt.encode(grant, SECRET, 'HS256')}"


def record_of(room_id: str, room_name: str, seconds: tuple[str, str]) -> bytes:
    record = json.loads((ROOT / "docs" / "schema" / "example.json").read_text())
    record |= {
        "call_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{room_id}/0")),
        "room_name": room_name,
        "start_time": f"2026-11-26T12:{seconds[0]}Z",
        "end_time": f"2026-11-26T12:{seconds[1]}Z",
        "duration_seconds": 23,
        "stage_timeline": [],
    }
    return json.dumps(record).encode()


def with_sound(request: dict, sound: bytes) -> bytes:
    """The body of the request, with another recording in it."""
    body = (UPLOADS / request["file"]).read_bytes()
    boundary = request["content_type"].split("boundary=")[1].encode()
    begin = body.index(b"\r\n\r\n", body.index(b'name="audio"')) + 4
    return body[:begin] + sound + body[body.index(b"\r\n--" + boundary, begin) :]


def test_config_shows_the_variables_of_the_features_without_their_secrets(tmp_path):
    due = {
        "AWS_ACCESS_KEY_ID": ("key-of-somebody", "(set)"),
        "AWS_SECRET_ACCESS_KEY": ("hush", "(set)"),
        "AWS_ENDPOINT": ("https://s3.example.com/path-that-is-hush", "https://s3.example.com/…"),
        "AWS_REGION": ("eu-central-1", "eu-central-1"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://collector.example.com:4318", "http://collector.example.com:4318"),
        "OTEL_EXPORTER_OTLP_HEADERS": ("authorization=Bearer hush", "(set)"),
    }
    env = {name: value for name, (value, _) in due.items()}
    command = [os.environ["E2E_FEATURED_BIN"], "config", "--json"]
    out = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True).stdout
    rows = {row["name"]: row["value"] for row in json.loads(out)}
    assert {name: rows.get(name) for name in due} == {name: shown for name, (_, shown) in due.items()}
    assert "hush" not in out and "key-of-somebody" not in out


# The bucket gets more than some megabytes in several parts.
@pytest.mark.parametrize("size", [200_000, 12_000_000])
def test_a_recording_is_kept_in_a_bucket_and_goes_with_its_call(tmp_path, bucket, size):
    client, name, access = bucket
    sound = b"OggS" + bytes(n * 31 % 251 for n in range(size))
    settings = {
        "LIVEKIT_API_KEY": KEY,
        "LIVEKIT_API_SECRET": SECRET,
        "CALL_HISTORY_RECEIVE_RECORDINGS": f"s3://{name}/some/prefix",
    }
    with ReceiverProcess(tmp_path, access | settings, "E2E_FEATURED_BIN") as receiver:
        for request in json.loads((UPLOADS / "requests.json").read_text()):
            if "recordings" in request["path"]:
                body = with_sound(request, sound)
            else:
                body = (UPLOADS / request["file"]).read_bytes()
            headers = {
                "Authorization": agent(),
                "Content-Type": request["content_type"],
                "Content-Encoding": request.get("content_encoding", "identity"),
            }
            receiver.ask(request["path"], body, headers)
        [entry] = client.list_objects_v2(Bucket=name)["Contents"]
        assert entry["Key"].startswith("some/prefix/"), entry
        kept = client.get_object(Bucket=name, Key=entry["Key"])["Body"].read()
        assert kept == sound

        record = record_of(ROOM_ID, ROOM_NAME, ("04:28", "04:51"))
        receiver.ask("/call-history", record)
        call = f"/api/calls/{json.loads(record)['call_id']}"
        assert receiver.ask(f"{call}/recordings/0") == sound
        part = receiver.ask(f"{call}/recordings/0", headers={"Range": "bytes=1000-1999"})
        assert part == sound[1_000:2_000]
        receiver.ask(call, method="DELETE")
        assert client.list_objects_v2(Bucket=name)["KeyCount"] == 0
        with pytest.raises(urllib.error.HTTPError, match="404"):
            receiver.ask(f"{call}/recordings/0")


def test_calls_as_parquet_are_read_by_another_program(tmp_path):
    with ReceiverProcess(tmp_path, {}, "E2E_FEATURED_BIN") as receiver:
        for path in RECORDS:
            receiver.ask("/call-history", path.read_bytes())
        table = pyarrow.parquet.read_table(io.BytesIO(receiver.ask("/api/calls.parquet")))
        rows = {row["call_id"]: row for row in table.to_pylist()}
    records = {record["call_id"]: record for record in map(json.loads, map(Path.read_text, RECORDS))}
    assert len(records) > 3 and rows.keys() == records.keys()
    for call_id, record in records.items():
        row = rows[call_id]
        for column in ("phone_number", "status", "duration_seconds", "termination_reason"):
            assert row[column] == record.get(column), column
        assert row["interruption_count"] == record["metrics"]["interruption_count"]
