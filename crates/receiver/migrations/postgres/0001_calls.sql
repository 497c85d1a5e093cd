-- A call: what lists show, filter and sort by. Narrow, as statistics read all of it; bodies are apart.
CREATE TABLE calls (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    call_id TEXT COLLATE "C" NOT NULL UNIQUE,
    received_at BIGINT NOT NULL,
    -- Retention counts from here: the earlier of start and arrival.
    kept_from BIGINT NOT NULL,
    -- Of the received bytes, after decompression.
    sha256 BYTEA NOT NULL,
    bytes BIGINT NOT NULL,
    phone_number TEXT COLLATE "C",
    room_name TEXT COLLATE "C",
    call_type TEXT COLLATE "C",
    start_time BIGINT NOT NULL,
    end_time BIGINT,
    duration_seconds DOUBLE PRECISION,
    status TEXT COLLATE "C",
    termination_reason TEXT COLLATE "C",
    stt_config_key TEXT COLLATE "C",
    llm_config_key TEXT COLLATE "C",
    tts_config_key TEXT COLLATE "C",
    business_type TEXT COLLATE "C",
    language TEXT COLLATE "C",
    total_user_utterances BIGINT,
    total_agent_utterances BIGINT,
    longest_user_utterance BIGINT,
    longest_agent_utterance BIGINT,
    average_user_response_time DOUBLE PRECISION,
    average_agent_response_time DOUBLE PRECISION,
    silence_count BIGINT,
    interruption_count BIGINT,
    completion_rate DOUBLE PRECISION,
    final_stage TEXT COLLATE "C",
    successful BIGINT,
    ended_by TEXT COLLATE "C",
    complete BIGINT,
    gaps BIGINT,
    user_seconds DOUBLE PRECISION,
    agent_seconds DOUBLE PRECISION,
    overlap_seconds DOUBLE PRECISION,
    longest_silence_seconds DOUBLE PRECISION,
    agent_response_count BIGINT,
    agent_response_p50 DOUBLE PRECISION,
    agent_response_p90 DOUBLE PRECISION,
    agent_response_p95 DOUBLE PRECISION,
    agent_response_p99 DOUBLE PRECISION,
    agent_response_max DOUBLE PRECISION,
    user_response_count BIGINT,
    user_response_p50 DOUBLE PRECISION,
    user_response_p90 DOUBLE PRECISION,
    user_response_p95 DOUBLE PRECISION,
    user_response_p99 DOUBLE PRECISION,
    user_response_max DOUBLE PRECISION,
    -- Histograms, see histogram.rs.
    agent_responses BYTEA,
    user_responses BYTEA
);

CREATE INDEX calls_newest ON calls (start_time DESC, call_id DESC);
CREATE INDEX calls_of_number ON calls (phone_number, start_time DESC);
CREATE INDEX calls_kept_from ON calls (kept_from);

-- The received bytes as they are, and what is searched: lower case, without NUL.
CREATE TABLE bodies (
    n BIGINT PRIMARY KEY REFERENCES calls (n) ON DELETE CASCADE,
    search_text TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL
);

-- Live events, also of calls whose record has not come yet.
CREATE TABLE events (
    call_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    time BIGINT NOT NULL,
    event TEXT COLLATE "C" NOT NULL,
    phone_number TEXT COLLATE "C",
    sha256 BYTEA NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (call_id, sequence)
);

CREATE INDEX events_of_number ON events (phone_number);
CREATE INDEX events_received_at ON events (received_at);

-- What stays of deleted calls: sums of a day, without numbers, rooms or words. Columns that filters use have the
-- names that they have in calls; start_time is the beginning of the day in UTC.
CREATE TABLE deleted_days (
    key TEXT COLLATE "C" PRIMARY KEY,
    start_time BIGINT NOT NULL,
    call_type TEXT COLLATE "C",
    status TEXT COLLATE "C",
    termination_reason TEXT COLLATE "C",
    business_type TEXT COLLATE "C",
    final_stage TEXT COLLATE "C",
    language TEXT COLLATE "C",
    aggregate TEXT COLLATE "C" NOT NULL
);

-- Deleted calls do not come back when a worker sends them once more: SHA-256 of their ids.
CREATE TABLE deleted_calls (
    id BYTEA PRIMARY KEY,
    deleted_at BIGINT NOT NULL
);

-- Tokens of the API: SHA-256 of each, scopes as words with blanks between.
CREATE TABLE tokens (
    id TEXT COLLATE "C" PRIMARY KEY,
    hash BYTEA UNIQUE NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    scopes TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);
