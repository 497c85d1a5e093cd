-- A job of an agent that uploads (docs/collector.md). Its call may come later, or never.
CREATE TABLE agent_jobs (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id TEXT NOT NULL,
    job_id TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    room_name TEXT,
    phone_number TEXT,
    -- The first and the last moment that it reports, by the clock of the agent's host.
    from_time INTEGER NOT NULL,
    to_time INTEGER NOT NULL,
    -- The agent asks for redaction: nothing with words is kept.
    redacted INTEGER NOT NULL,
    -- NULL: not known yet.
    call_id TEXT,
    UNIQUE (room_id, job_id)
);

CREATE INDEX agent_jobs_of_call ON agent_jobs (call_id);
CREATE INDEX agent_jobs_by_job ON agent_jobs (job_id);
CREATE INDEX agent_jobs_of_room ON agent_jobs (room_name, from_time);
CREATE INDEX agent_jobs_of_number ON agent_jobs (phone_number);
CREATE INDEX agent_jobs_received ON agent_jobs (received_at);

-- Uploads as they came, compressed, and what was read from them. Sent twice they are kept once.
CREATE TABLE agent_uploads (
    job INTEGER NOT NULL REFERENCES agent_jobs (n) ON DELETE CASCADE,
    sha256 BLOB NOT NULL,
    kind TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    facts TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (job, sha256)
);

-- The sound is in a file.
CREATE TABLE agent_recordings (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL REFERENCES agent_jobs (n) ON DELETE CASCADE,
    received_at INTEGER NOT NULL,
    -- The moment of its first sample, by the clock of the agent's host.
    started_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    content_type TEXT NOT NULL,
    file TEXT NOT NULL,
    UNIQUE (job, started_at)
);

CREATE INDEX agent_recordings_received ON agent_recordings (received_at);
CREATE INDEX agent_recordings_files ON agent_recordings (file);

-- Ids that calls of a room can have.
CREATE TABLE agent_rooms (
    call_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL
);

CREATE INDEX agent_rooms_of_room ON agent_rooms (room_id);

-- Jobs that were in a call, as its record says.
CREATE TABLE call_jobs (
    job_id TEXT PRIMARY KEY,
    call_id TEXT NOT NULL
);

CREATE INDEX call_jobs_of_call ON call_jobs (call_id);

-- Files whose rows are deleted. They go after that.
CREATE TABLE deleted_files (
    file TEXT PRIMARY KEY
);
