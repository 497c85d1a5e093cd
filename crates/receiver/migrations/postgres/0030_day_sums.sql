-- Days of UTC whose sums are kept, see days.rs. A day is their beginning in milliseconds since 1970.
CREATE TABLE summed_days (
    day BIGINT PRIMARY KEY
);

-- Sums of the calls of a day. Columns that filters use have the names that they have in calls; start_time is the day.
CREATE TABLE day_sums (
    start_time BIGINT NOT NULL REFERENCES summed_days (day) ON DELETE CASCADE,
    call_type TEXT COLLATE "C",
    status TEXT COLLATE "C",
    termination_reason TEXT COLLATE "C",
    business_type TEXT COLLATE "C",
    final_stage TEXT COLLATE "C",
    language TEXT COLLATE "C",
    calls BIGINT NOT NULL,
    sums TEXT COLLATE "C" NOT NULL,
    agent_responses BYTEA NOT NULL,
    user_responses BYTEA NOT NULL
);

CREATE INDEX day_sums_of_day ON day_sums (start_time);

-- A call that comes or goes makes the sums of its day void.
CREATE FUNCTION void_day_sums() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    start BIGINT;
BEGIN
    IF TG_OP = 'INSERT' THEN
        start := NEW.start_time;
    ELSE
        start := OLD.start_time;
    END IF;
    DELETE FROM summed_days WHERE day = start - (start % 86400000 + 86400000) % 86400000;
    RETURN NULL;
END
$$;

CREATE TRIGGER calls_come_and_go AFTER INSERT OR DELETE ON calls
    FOR EACH ROW EXECUTE FUNCTION void_day_sums();
