//! The settings of `call-history receive`. It needs none of them.

use std::{net::SocketAddr, path::PathBuf};

use receiver::collector::Recordings;
use secrecy::SecretString;

use super::{
    ConfigErrors, LogFormat, LogLevel, SettingsReader, Source,
    settings::{
        JWT_SECRET, LIVEKIT_API_KEY, LIVEKIT_API_SECRET, RECEIVE_ADDR, RECEIVE_DATA_DIR,
        RECEIVE_DB, RECEIVE_DEMO, RECEIVE_FAILED_RATE, RECEIVE_RATE, RECEIVE_RECORDINGS,
        RECEIVE_RECORDINGS_DAYS, RECEIVE_RETENTION_DAYS,
    },
};

#[derive(Clone, Debug)]
pub(crate) struct ReceiveSettings {
    pub(crate) addr: SocketAddr,
    /// The folder of the SQLite database, unless `db` is set.
    pub(crate) data_dir: PathBuf,
    /// A `postgres://` URL, which may hold a password.
    pub(crate) db: Option<SecretString>,
    /// `None`: calls are kept for ever.
    pub(crate) retention_days: Option<u32>,
    /// Requests a minute that one reader may make; 0: no limit.
    pub(crate) rate: u32,
    /// Wrong tokens a minute from one address; 0: no limit.
    pub(crate) failed_rate: u32,
    /// Anybody may look at the pages.
    pub(crate) demo: bool,
    pub(crate) recordings: Recordings,
    /// `None`: recordings are kept as long as their calls.
    pub(crate) recordings_days: Option<u32>,
    /// Key and secret of the LiveKit server whose agents may upload; `None`: nothing is taken from agents.
    pub(crate) livekit: Option<(String, SecretString)>,
    /// Posts must be signed with it.
    pub(crate) jwt_secret: Option<SecretString>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) log_level: LogLevel,
}

impl ReceiveSettings {
    /// # Errors
    /// All wrong and unknown settings together.
    pub(crate) fn read(source: Source) -> Result<Self, ConfigErrors> {
        let errors = source.errors.clone();
        let mut t = SettingsReader { source, errors };
        t.read_files();
        let addr = t.optional(RECEIVE_ADDR).unwrap_or_default().trim().parse();
        let addr = addr.unwrap_or_else(|_| {
            t.wrong(RECEIVE_ADDR, "must be an address like 127.0.0.1:8082");
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        // The URL is parsed to check it, and passed on as it is: Postgres has parameters of its own.
        t.url(RECEIVE_DB, &["postgres", "postgresql"]);
        let mut days = |name| {
            let is_good = |n: &u32| (1..=36_500).contains(n);
            let days = t.number(name, is_good, "a whole number of days from 1 to 36500");
            (days > 0).then_some(days)
        };
        let (retention_days, recordings_days) =
            (days(RECEIVE_RETENTION_DAYS), days(RECEIVE_RECORDINGS_DAYS));
        let livekit = match (t.optional(LIVEKIT_API_KEY), t.optional(LIVEKIT_API_SECRET)) {
            (Some(key), Some(secret)) => Some((key, SecretString::from(secret))),
            (None, None) => None,
            (Some(_), None) => {
                t.wrong(LIVEKIT_API_SECRET, "is missing: LIVEKIT_API_KEY is set");
                None
            }
            (None, Some(_)) => {
                t.wrong(LIVEKIT_API_KEY, "is missing: LIVEKIT_API_SECRET is set");
                None
            }
        };
        let data_dir = PathBuf::from(t.optional(RECEIVE_DATA_DIR).unwrap_or_default());
        let beside = || Recordings::Folder(data_dir.join("recordings"));
        let recordings = match t.optional(RECEIVE_RECORDINGS).map(|to| Recordings::parse(to.trim()))
        {
            None => beside(),
            Some(Ok(recordings)) => recordings,
            Some(Err(e)) => {
                t.wrong(RECEIVE_RECORDINGS, e);
                beside()
            }
        };
        let rate = "a whole number of requests a minute up to 1000000; 0 for no limit";
        let most = |n: &u32| *n <= 1_000_000;
        let (requests, failed) =
            (t.number(RECEIVE_RATE, most, rate), t.number(RECEIVE_FAILED_RATE, most, rate));
        let read = Self {
            addr,
            data_dir,
            recordings,
            db: t.optional(RECEIVE_DB).map(|url| SecretString::from(url.trim().to_owned())),
            retention_days,
            recordings_days,
            livekit,
            rate: requests,
            failed_rate: failed,
            demo: t.switch(RECEIVE_DEMO),
            jwt_secret: t.optional(JWT_SECRET).map(SecretString::from),
            log_format: t.log_format(),
            log_level: t.log_level(),
        };
        if t.errors.is_empty() { Ok(read) } else { Err(ConfigErrors(t.errors)) }
    }
}
