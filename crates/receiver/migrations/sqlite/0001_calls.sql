-- A call: what lists show, filter and sort by. Narrow, as statistics read all of it; bodies are apart.
CREATE TABLE calls (
    -- Numbers are not used again, so that the index of texts never shows another call.
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    call_id TEXT NOT NULL UNIQUE,
    received_at INTEGER NOT NULL,
    -- Retention counts from here: the earlier of start and arrival.
    kept_from INTEGER NOT NULL,
    -- Of the received bytes, after decompression.
    sha256 BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    phone_number TEXT,
    room_name TEXT,
    call_type TEXT,
    start_time INTEGER NOT NULL,
    end_time INTEGER,
    duration_seconds REAL,
    status TEXT,
    termination_reason TEXT,
    stt_config_key TEXT,
    llm_config_key TEXT,
    tts_config_key TEXT,
    business_type TEXT,
    language TEXT,
    total_user_utterances INTEGER,
    total_agent_utterances INTEGER,
    longest_user_utterance INTEGER,
    longest_agent_utterance INTEGER,
    average_user_response_time REAL,
    average_agent_response_time REAL,
    silence_count INTEGER,
    interruption_count INTEGER,
    completion_rate REAL,
    final_stage TEXT,
    successful INTEGER,
    ended_by TEXT,
    complete INTEGER,
    gaps INTEGER,
    user_seconds REAL,
    agent_seconds REAL,
    overlap_seconds REAL,
    longest_silence_seconds REAL,
    agent_response_count INTEGER,
    agent_response_p50 REAL,
    agent_response_p90 REAL,
    agent_response_p95 REAL,
    agent_response_p99 REAL,
    agent_response_max REAL,
    user_response_count INTEGER,
    user_response_p50 REAL,
    user_response_p90 REAL,
    user_response_p95 REAL,
    user_response_p99 REAL,
    user_response_max REAL,
    -- Histograms, see histogram.rs.
    agent_responses BLOB,
    user_responses BLOB
);

CREATE INDEX calls_newest ON calls (start_time DESC, call_id DESC);
CREATE INDEX calls_of_number ON calls (phone_number, start_time DESC);
CREATE INDEX calls_kept_from ON calls (kept_from);

-- The received bytes as they are, and what is searched: lower case, without NUL.
CREATE TABLE bodies (
    n INTEGER PRIMARY KEY REFERENCES calls (n) ON DELETE CASCADE,
    search_text TEXT NOT NULL,
    body BLOB NOT NULL
);

-- Live events, also of calls whose record has not come yet.
CREATE TABLE events (
    call_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    time INTEGER NOT NULL,
    event TEXT NOT NULL,
    phone_number TEXT,
    sha256 BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (call_id, sequence)
);

CREATE INDEX events_of_number ON events (phone_number);
CREATE INDEX events_received_at ON events (received_at);

-- What stays of deleted calls: sums of a day, without numbers, rooms or words. Columns that filters use have the
-- names that they have in calls; start_time is the beginning of the day in UTC.
CREATE TABLE deleted_days (
    key TEXT PRIMARY KEY,
    start_time INTEGER NOT NULL,
    call_type TEXT,
    status TEXT,
    termination_reason TEXT,
    business_type TEXT,
    final_stage TEXT,
    language TEXT,
    aggregate TEXT NOT NULL
);

-- Deleted calls do not come back when a worker sends them once more: SHA-256 of their ids.
CREATE TABLE deleted_calls (
    id BLOB PRIMARY KEY,
    deleted_at INTEGER NOT NULL
);

-- Tokens of the API: SHA-256 of each, scopes as words with blanks between.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash BLOB UNIQUE NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
