-- The password of the page: no row, or one. hash is Argon2id, as a PHC string. session_key signs the cookies of those
-- who gave the password; each new password has a new key, so that older cookies are void.
CREATE TABLE password (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    hash TEXT COLLATE "C" NOT NULL,
    session_key BYTEA NOT NULL,
    set_at BIGINT NOT NULL
);
