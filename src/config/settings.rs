//! The list of all settings: names, defaults, and how each is shown.

use std::borrow::Cow;

use super::loggable;

/// The beginning of the names of all settings that are not LiveKit's.
pub(super) const PREFIX: &str = "CALL_HISTORY_";

/// How `call-history config` shows a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Whole,
    /// Only scheme, host and port: the rest of a URL may be a secret.
    Host,
    /// Only that it is set.
    Hidden,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// As one would write it; `None`: there is none.
    pub(super) default: Option<&'static str>,
    /// The name that LiveKit's own programs have for it. It counts only where the setting itself is set nowhere.
    pub(super) alias: Option<&'static str>,
    pub(super) shown: Shown,
    /// Secret or long: its twin with `_FILE` at its end names a file that holds the value.
    pub(super) in_file: bool,
}

impl Setting {
    pub(super) const fn new(name: &'static str, default: Option<&'static str>) -> Self {
        Self { name, default, alias: None, shown: Shown::Whole, in_file: false }
    }

    const fn or(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    pub(super) const fn shown(mut self, shown: Shown) -> Self {
        self.shown = shown;
        self
    }

    const fn in_file(mut self) -> Self {
        self.in_file = true;
        self
    }

    /// A value of this setting without its secrets.
    pub(super) fn without_secrets<'a>(&self, value: &'a str) -> Cow<'a, str> {
        match self.shown {
            Shown::Whole => value.into(),
            Shown::Host => value.trim().parse::<reqwest::Url>().map_or("(no URL)".into(), |u| {
                let more = u.path() != "/" || u.query().is_some();
                format!("{}{}", loggable(&u), if more { "/…" } else { "" }).into()
            }),
            Shown::Hidden => "(set)".into(),
        }
    }
}

/// URL of the LiveKit server, `ws(s)://` or `http(s)://`.
pub(super) const LIVEKIT_URL: &str = "LIVEKIT_URL";
/// Key and secret of the LiveKit server; the worker signs its own tokens with them.
pub(super) const LIVEKIT_API_KEY: &str = "LIVEKIT_API_KEY";
pub(super) const LIVEKIT_API_SECRET: &str = "LIVEKIT_API_SECRET";
/// Signs the requests to the endpoint; unsigned if unset.
pub(super) const JWT_SECRET: &str = "JWT_SECRET";
/// Where records are posted.
pub(super) const ENDPOINT: &str = "CALL_HISTORY_ENDPOINT";
/// Where live events of calls are posted; nowhere if unset.
pub(super) const EVENTS_ENDPOINT: &str = "CALL_HISTORY_EVENTS_ENDPOINT";
/// Seconds for one attempt to deliver a record.
pub(super) const ENDPOINT_TIMEOUT: &str = "CALL_HISTORY_ENDPOINT_TIMEOUT";
/// Headers that the endpoint or its gateway asks for: `Name: value`, one a line.
pub(super) const ENDPOINT_HEADERS: &str = "CALL_HISTORY_ENDPOINT_HEADERS";
/// PEM: certificates that are trusted at the endpoint, besides the system's.
pub(super) const ENDPOINT_CA: &str = "CALL_HISTORY_ENDPOINT_CA";
/// PEM: our certificate for the endpoint, and its key.
pub(super) const ENDPOINT_CERT: &str = "CALL_HISTORY_ENDPOINT_CERT";
pub(super) const ENDPOINT_KEY: &str = "CALL_HISTORY_ENDPOINT_KEY";
/// Sends large bodies compressed.
pub(super) const ENDPOINT_GZIP: &str = "CALL_HISTORY_ENDPOINT_GZIP";
/// Kilobytes of the largest body that the endpoint takes.
pub(super) const MAX_BODY_KB: &str = "CALL_HISTORY_MAX_BODY_KB";
/// The name under which agents are dispatched.
pub(super) const AGENT_NAME: &str = "CALL_HISTORY_AGENT_NAME";
/// Journals and outbox.
pub(super) const DATA_DIR: &str = "CALL_HISTORY_DATA_DIR";
/// How rooms are found.
pub(super) const DISCOVERY: &str = "CALL_HISTORY_DISCOVERY";
/// Which rooms are looked for, by name.
pub(super) const ROOMS: &str = "CALL_HISTORY_ROOMS";
/// Megabytes of memory; near this limit the worker reports FULL.
pub(super) const MAX_MEMORY_MB: &str = "CALL_HISTORY_MAX_MEMORY_MB";
/// Calls observed at the same time; at this number the worker reports FULL.
pub(super) const MAX_CALLS: &str = "CALL_HISTORY_MAX_CALLS";
/// Seconds in which neither side speaks that count as a silence.
pub(super) const SILENCE_THRESHOLD: &str = "CALL_HISTORY_SILENCE_THRESHOLD";
/// Seconds in which a caller may come back before the call is over.
pub(super) const END_GRACE: &str = "CALL_HISTORY_END_GRACE";
/// Seconds for which running calls may go on after SIGTERM.
pub(super) const DRAIN_TIMEOUT: &str = "CALL_HISTORY_DRAIN_TIMEOUT";
/// Address of the HTTP port, or `off`.
pub(super) const HTTP_ADDR: &str = "CALL_HISTORY_HTTP_ADDR";
/// Adds `details` to every record.
pub(super) const DETAILS: &str = "CALL_HISTORY_DETAILS";
/// Adds the transcript to the details.
pub(super) const TRANSCRIPT: &str = "CALL_HISTORY_TRANSCRIPT";
/// Identities of agents that nothing else shows as such.
pub(super) const AGENT_IDENTITIES: &str = "CALL_HISTORY_AGENT_IDENTITIES";
/// Identities of participants that only listen.
pub(super) const LISTENER_IDENTITIES: &str = "CALL_HISTORY_LISTENER_IDENTITIES";
/// A room without any agent gives no record.
pub(super) const REQUIRE_AGENT: &str = "CALL_HISTORY_REQUIRE_AGENT";
/// Keys of metadata that the details pass on.
pub(super) const METADATA_KEYS: &str = "CALL_HISTORY_METADATA_KEYS";
/// Keeps the journals of ended calls.
pub(super) const KEEP_JOURNALS: &str = "CALL_HISTORY_KEEP_JOURNALS";
/// Hours that delivered records are kept.
pub(super) const KEEP_SENT: &str = "CALL_HISTORY_KEEP_SENT";
/// Number of undelivered records at which the worker warns.
pub(super) const MAX_BACKLOG: &str = "CALL_HISTORY_MAX_BACKLOG";
/// Megabytes of undelivered records at which the worker warns.
pub(super) const MAX_BACKLOG_MB: &str = "CALL_HISTORY_MAX_BACKLOG_MB";
/// Where `receive` listens.
pub(super) const RECEIVE_ADDR: &str = "CALL_HISTORY_RECEIVE_ADDR";
/// The folder of its SQLite database.
pub(super) const RECEIVE_DATA_DIR: &str = "CALL_HISTORY_RECEIVE_DATA_DIR";
/// Its Postgres in place of that.
pub(super) const RECEIVE_DB: &str = "CALL_HISTORY_RECEIVE_DB";
/// Days after which it deletes calls.
pub(super) const RECEIVE_RETENTION_DAYS: &str = "CALL_HISTORY_RECEIVE_RETENTION_DAYS";
/// Requests a minute that one reader may make.
pub(super) const RECEIVE_RATE: &str = "CALL_HISTORY_RECEIVE_RATE";
/// Wrong tokens a minute from one address.
pub(super) const RECEIVE_FAILED_RATE: &str = "CALL_HISTORY_RECEIVE_FAILED_RATE";
/// Anybody may look at its pages, with numbers masked.
pub(super) const RECEIVE_DEMO: &str = "CALL_HISTORY_RECEIVE_DEMO";
/// Where it keeps recordings of agents: a folder or a bucket.
pub(super) const RECEIVE_RECORDINGS: &str = "CALL_HISTORY_RECEIVE_RECORDINGS";
/// Days after which it deletes recordings of agents.
pub(super) const RECEIVE_RECORDINGS_DAYS: &str = "CALL_HISTORY_RECEIVE_RECORDINGS_DAYS";
/// `json` or `pretty`.
pub(super) const LOG_FORMAT: &str = "CALL_HISTORY_LOG_FORMAT";
/// From which level on our own lines are logged.
pub(super) const LOG_LEVEL: &str = "CALL_HISTORY_LOG_LEVEL";

/// All settings, in the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(LIVEKIT_URL, None).shown(Shown::Host),
    Setting::new(LIVEKIT_API_KEY, None).in_file(),
    Setting::new(LIVEKIT_API_SECRET, None).shown(Shown::Hidden).in_file(),
    Setting::new(ENDPOINT, None).shown(Shown::Host).in_file(),
    Setting::new(JWT_SECRET, None).shown(Shown::Hidden).in_file(),
    Setting::new(ENDPOINT_TIMEOUT, Some("30")),
    Setting::new(ENDPOINT_HEADERS, None).shown(Shown::Hidden).in_file(),
    Setting::new(ENDPOINT_CA, None).shown(Shown::Hidden).in_file(),
    Setting::new(ENDPOINT_CERT, None).shown(Shown::Hidden).in_file(),
    Setting::new(ENDPOINT_KEY, None).shown(Shown::Hidden).in_file(),
    Setting::new(ENDPOINT_GZIP, Some("false")),
    Setting::new(EVENTS_ENDPOINT, None).shown(Shown::Host).in_file(),
    Setting::new(MAX_BODY_KB, None),
    Setting::new(DATA_DIR, Some("data")),
    Setting::new(KEEP_SENT, Some("24")),
    Setting::new(MAX_BACKLOG, Some("100000")),
    Setting::new(MAX_BACKLOG_MB, Some("1000")),
    Setting::new(DETAILS, Some("false")),
    Setting::new(TRANSCRIPT, Some("false")),
    Setting::new(METADATA_KEYS, None),
    Setting::new(AGENT_NAME, Some("call-history")),
    Setting::new(DISCOVERY, Some("dispatch,reconcile,webhook")),
    Setting::new(ROOMS, Some("*")),
    Setting::new(AGENT_IDENTITIES, None),
    Setting::new(LISTENER_IDENTITIES, None),
    Setting::new(REQUIRE_AGENT, Some("false")),
    Setting::new(MAX_CALLS, Some("1000")),
    Setting::new(MAX_MEMORY_MB, None),
    Setting::new(SILENCE_THRESHOLD, Some("5")),
    Setting::new(END_GRACE, Some("10")),
    Setting::new(KEEP_JOURNALS, Some("false")),
    Setting::new(DRAIN_TIMEOUT, Some("600")),
    Setting::new(HTTP_ADDR, Some("0.0.0.0:8081")),
    Setting::new(RECEIVE_ADDR, Some("127.0.0.1:8082")),
    Setting::new(RECEIVE_DATA_DIR, Some("data/receiver")),
    Setting::new(RECEIVE_DB, None).shown(Shown::Host).in_file(),
    Setting::new(RECEIVE_RETENTION_DAYS, None),
    Setting::new(RECEIVE_RATE, Some("600")),
    Setting::new(RECEIVE_FAILED_RATE, Some("30")),
    Setting::new(RECEIVE_DEMO, Some("false")),
    Setting::new(RECEIVE_RECORDINGS, None),
    Setting::new(RECEIVE_RECORDINGS_DAYS, None),
    Setting::new(LOG_FORMAT, None),
    Setting::new(LOG_LEVEL, Some("info")).or("LIVEKIT_LOG_LEVEL"),
];

/// The setting of that name, alias or `_FILE` twin.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name || s.alias == Some(name)).or_else(|| twin_of(name))
}

/// The setting whose `_FILE` twin has that name.
pub(super) fn twin_of(name: &str) -> Option<&'static Setting> {
    let of = name.strip_suffix("_FILE")?;
    SETTINGS.iter().find(|s| s.in_file && s.name == of)
}
