-- Days of UTC whose sums are kept, see days.rs. A day is their beginning in milliseconds since 1970.
CREATE TABLE summed_days (
    day INTEGER PRIMARY KEY
);

-- Sums of the calls of a day. Columns that filters use have the names that they have in calls; start_time is the day.
CREATE TABLE day_sums (
    start_time INTEGER NOT NULL REFERENCES summed_days (day) ON DELETE CASCADE,
    call_type TEXT,
    status TEXT,
    termination_reason TEXT,
    business_type TEXT,
    final_stage TEXT,
    language TEXT,
    calls INTEGER NOT NULL,
    sums TEXT NOT NULL,
    agent_responses BLOB NOT NULL,
    user_responses BLOB NOT NULL
);

CREATE INDEX day_sums_of_day ON day_sums (start_time);

-- A call that comes or goes makes the sums of its day void.
CREATE TRIGGER calls_inserted AFTER INSERT ON calls BEGIN
    DELETE FROM summed_days WHERE day = new.start_time - (new.start_time % 86400000 + 86400000) % 86400000;
END;

CREATE TRIGGER calls_deleted AFTER DELETE ON calls BEGIN
    DELETE FROM summed_days WHERE day = old.start_time - (old.start_time % 86400000 + 86400000) % 86400000;
END;
