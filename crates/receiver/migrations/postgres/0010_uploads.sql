-- A job of an agent that uploads (docs/collector.md). Its call may come later, or never.
CREATE TABLE agent_jobs (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room_id TEXT COLLATE "C" NOT NULL,
    job_id TEXT COLLATE "C" NOT NULL,
    received_at BIGINT NOT NULL,
    room_name TEXT COLLATE "C",
    phone_number TEXT COLLATE "C",
    -- The first and the last moment that it reports, by the clock of the agent's host.
    from_time BIGINT NOT NULL,
    to_time BIGINT NOT NULL,
    -- The agent asks for redaction: nothing with words is kept.
    redacted BIGINT NOT NULL,
    -- NULL: not known yet.
    call_id TEXT COLLATE "C",
    UNIQUE (room_id, job_id)
);

CREATE INDEX agent_jobs_of_call ON agent_jobs (call_id);
CREATE INDEX agent_jobs_by_job ON agent_jobs (job_id);
CREATE INDEX agent_jobs_of_room ON agent_jobs (room_name, from_time);
CREATE INDEX agent_jobs_of_number ON agent_jobs (phone_number);
CREATE INDEX agent_jobs_received ON agent_jobs (received_at);

-- Uploads as they came, compressed, and what was read from them. Sent twice they are kept once.
CREATE TABLE agent_uploads (
    job BIGINT NOT NULL REFERENCES agent_jobs (n) ON DELETE CASCADE,
    sha256 BYTEA NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    received_at BIGINT NOT NULL,
    facts TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (job, sha256)
);

-- The sound is in a file.
CREATE TABLE agent_recordings (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job BIGINT NOT NULL REFERENCES agent_jobs (n) ON DELETE CASCADE,
    received_at BIGINT NOT NULL,
    -- The moment of its first sample, by the clock of the agent's host.
    started_at BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 BYTEA NOT NULL,
    content_type TEXT COLLATE "C" NOT NULL,
    file TEXT COLLATE "C" NOT NULL,
    UNIQUE (job, started_at)
);

CREATE INDEX agent_recordings_received ON agent_recordings (received_at);
CREATE INDEX agent_recordings_files ON agent_recordings (file);

-- Ids that calls of a room can have.
CREATE TABLE agent_rooms (
    call_id TEXT COLLATE "C" PRIMARY KEY,
    room_id TEXT COLLATE "C" NOT NULL
);

CREATE INDEX agent_rooms_of_room ON agent_rooms (room_id);

-- Jobs that were in a call, as its record says.
CREATE TABLE call_jobs (
    job_id TEXT COLLATE "C" PRIMARY KEY,
    call_id TEXT COLLATE "C" NOT NULL
);

CREATE INDEX call_jobs_of_call ON call_jobs (call_id);

-- Files whose rows are deleted. They go after that.
CREATE TABLE deleted_files (
    file TEXT COLLATE "C" PRIMARY KEY
);
