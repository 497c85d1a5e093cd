//! Settings: from the environment (and `.env`), then `config/*.toml`, then built-in defaults.
//!
//! Every setting has one name. In a file it is written in lower case and without `CALL_HISTORY_`. All
//! mistakes are reported together, before anything starts. Values are parsed from a [`Source`] and not from
//! the process, so that parsing can be tested.
//!
//! | file | its one idea |
//! |---|---|
//! | `config.rs` | the settings as the program uses them, and their ranges |
//! | `settings.rs` | the list of all settings: names and defaults |
//! | `shown.rs` | the settings as an operator sees them |
//! | `endpoint.rs` | how records are posted |
//! | `receive.rs` | the settings of `receive` |
//! | `source.rs` | where values come from, and which one wins |
//! | `file.rs` | reads one TOML file, with line numbers |
//! | `layers.rs` | the layers of discovery, and names of rooms |
//! | `profiles.rs` | business profiles |

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use reqwest::Url;
use secrecy::SecretString;
use tracing_subscriber::filter::LevelFilter;

mod endpoint;
mod file;
mod layers;
mod profiles;
#[cfg(feature = "receiver")]
mod receive;
mod settings;
mod shown;
mod source;

pub(crate) use endpoint::DeliverySettings;
pub(crate) use layers::{Layers, RoomNames};
#[cfg(feature = "receiver")]
pub(crate) use receive::ReceiveSettings;
pub(crate) use shown::show;
pub(crate) use source::{DotEnv, Source};

use call::{
    profile::Profiles,
    roles::{Identities, Patterns},
};
use settings::*;
use store::BacklogLimit;

/// The values stand in every record.
const MAX_METADATA_KEYS: usize = 32;

/// Exit status for a wrong configuration (`EX_CONFIG` of sysexits).
pub(crate) const EXIT_CONFIG: u8 = 78;

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) livekit: LiveKit,
    pub(crate) endpoint: Url,
    pub(crate) jwt_secret: Option<SecretString>,
    /// `None`: no live events.
    pub(crate) events_endpoint: Option<Url>,
    pub(crate) delivery: DeliverySettings,
    pub(crate) agent_name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) layers: Layers,
    pub(crate) rooms: RoomNames,
    pub(crate) max_calls: usize,
    /// Bytes; `None`: the container's limit.
    pub(crate) max_memory: Option<u64>,
    pub(crate) silence_threshold: Duration,
    pub(crate) end_grace: Duration,
    pub(crate) drain_timeout: Duration,
    /// `None`: no health page.
    pub(crate) http_addr: Option<SocketAddr>,
    /// `None`: readable on a terminal, else JSON.
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) log_level: LogLevel,
    pub(crate) details: bool,
    pub(crate) transcript: bool,
    pub(crate) identities: Identities,
    pub(crate) require_agent: bool,
    pub(crate) metadata_keys: Vec<String>,
    pub(crate) keep_journals: bool,
    pub(crate) keep_sent: Duration,
    pub(crate) max_backlog: BacklogLimit,
    pub(crate) profiles: Profiles,
}

#[derive(Clone, Debug)]
pub(crate) struct LiveKit {
    /// `ws://` or `wss://`, without a trailing slash.
    pub(crate) url: String,
    pub(crate) api_key: String,
    pub(crate) api_secret: SecretString,
}

impl LiveKit {
    /// The URL for logs, without user, password and query.
    pub(crate) fn loggable_url(&self) -> String {
        self.url.parse().map_or_else(|_| String::new(), |url| loggable(&url))
    }

    /// The same server for HTTP requests.
    pub(crate) fn http_url(&self) -> String {
        // `ws` and `wss` become `http` and `https`.
        self.url.replacen("ws", "http", 1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Json,
    Pretty,
}

/// From which level on our own lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogLevel(LevelFilter);

impl Default for LogLevel {
    fn default() -> Self {
        Self(LevelFilter::INFO)
    }
}

impl FromStr for LogLevel {
    type Err = String;

    /// Takes the names of tracing and those of Python.
    fn from_str(text: &str) -> Result<Self, String> {
        let level = match &*text.trim().to_ascii_lowercase() {
            "trace" => LevelFilter::TRACE,
            "debug" => LevelFilter::DEBUG,
            "info" => LevelFilter::INFO,
            "warn" | "warning" => LevelFilter::WARN,
            "error" | "critical" | "fatal" => LevelFilter::ERROR,
            "off" => LevelFilter::OFF,
            _ => return Err("must be trace, debug, info, warn, error or off".into()),
        };
        Ok(Self(level))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All mistakes in the configuration.
#[derive(Debug)]
pub(crate) struct ConfigErrors(Vec<String>);

#[cfg(feature = "receiver")]
impl ConfigErrors {
    /// Adds those about other settings: both readings see the same files, and the key and the secret.
    fn merge(&mut self, others: Self) {
        let about = |e: &str| e.split([' ', ':']).next().unwrap_or_default().to_owned();
        for e in others.0 {
            if !self.0.iter().any(|known| about(known) == about(&e)) {
                self.0.push(e);
            }
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        writeln!(
            f,
            "{n} setting{} wrong; nothing was started:",
            if n == 1 { " is" } else { "s are" }
        )?;
        for e in &self.0 {
            writeln!(f, "  {e}")?;
        }
        f.write_str("See .env.example and config/default.toml for all settings.")
    }
}

/// Reads values from a source and collects all errors.
struct SettingsReader {
    source: Source,
    errors: Vec<String>,
}

impl SettingsReader {
    fn optional(&mut self, name: &str) -> Option<String> {
        self.source.get(name).map(|found| found.value.to_owned())
    }

    fn required(&mut self, name: &str, what: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.errors.push(format!("{name} is missing: {what}"));
            String::new()
        })
    }

    fn wrong(&mut self, name: &str, what: impl fmt::Display) {
        let place = self.source.get(name).map_or("no place", |found| found.place);
        self.errors.push(format!("{name} (from {place}) {what}"));
    }

    /// 0 if it is set nowhere and has no default.
    fn number<T: FromStr + Default>(
        &mut self,
        name: &str,
        ok: impl Fn(&T) -> bool,
        what: &str,
    ) -> T {
        let Some(text) = self.optional(name) else { return T::default() };
        match text.trim().parse::<T>() {
            Ok(n) if ok(&n) => n,
            _ => {
                self.wrong(name, format!("must be {what}"));
                let default = find(name).and_then(|s| s.default?.parse().ok());
                default.unwrap_or_default()
            }
        }
    }

    /// Reads the files that `_FILE` twins name.
    fn read_files(&mut self) {
        for name in SETTINGS.iter().filter(|s| s.in_file).map(|s| s.name) {
            let twin = format!("{name}_FILE");
            let Some((path, place)) = self.source.values.remove(&twin) else { continue };
            if self.source.values.contains_key(name) {
                self.errors.push(format!("{name} and {twin} are both set: which one is right?"));
                continue;
            }
            match std::fs::read_to_string(&path) {
                Ok(text) if text.trim().is_empty() => {
                    self.errors.push(format!("{twin} (from {place}) names an empty file"));
                }
                Ok(text) => {
                    let text = text.trim_end_matches(['\r', '\n']).to_owned();
                    let place = format!("the file that {twin} names ({place})");
                    self.source.values.insert(name.to_owned(), (text, place));
                }
                Err(e) => self.errors.push(format!("{twin} (from {place}) cannot be read: {e}")),
            }
        }
    }

    fn log_format(&mut self) -> Option<LogFormat> {
        match self.optional(LOG_FORMAT).as_deref() {
            None => None,
            Some("json") => Some(LogFormat::Json),
            Some("pretty") => Some(LogFormat::Pretty),
            Some(_) => {
                self.wrong(LOG_FORMAT, "must be json or pretty");
                None
            }
        }
    }

    fn log_level(&mut self) -> LogLevel {
        match self.optional(LOG_LEVEL).unwrap_or_default().parse() {
            Ok(level) => level,
            Err(e) => {
                self.wrong(LOG_LEVEL, e);
                LogLevel::default()
            }
        }
    }

    fn switch(&mut self, name: &str) -> bool {
        match self.optional(name).as_deref().map(str::trim) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.wrong(name, "must be true or false");
                false
            }
        }
    }

    fn seconds(&mut self, name: &str, most: f64) -> Duration {
        let ok = |s: &f64| (0.0..=most).contains(s);
        let what = format!("a number of seconds from 0 to {most}");
        Duration::from_secs_f64(self.number(name, ok, &what))
    }

    fn identities(&mut self, name: &str) -> Patterns {
        let text = self.optional(name).unwrap_or_default();
        Patterns::parse(&text).unwrap_or_else(|everything| {
            self.wrong(name, format!("has the pattern {everything}, which every identity matches"));
            Patterns::default()
        })
    }

    fn metadata_keys(&mut self) -> Vec<String> {
        let text = self.optional(METADATA_KEYS).unwrap_or_default();
        let mut keys: Vec<String> = vec![];
        for key in text.split(',').map(str::trim).filter(|k| !k.is_empty()) {
            if !keys.iter().any(|k| k == key) {
                keys.push(key.to_owned());
            }
        }
        if keys.len() > MAX_METADATA_KEYS {
            self.wrong(METADATA_KEYS, format!("must name at most {MAX_METADATA_KEYS} keys"));
        }
        keys
    }

    fn url(&mut self, name: &str, schemes: &[&str]) -> Option<Url> {
        let text = self.optional(name)?;
        match text.trim().parse::<Url>() {
            Ok(u) if schemes.contains(&u.scheme()) && u.has_host() => Some(u),
            _ => {
                self.wrong(name, format!("must be a URL with {}://", schemes.join(":// or ")));
                None
            }
        }
    }
}

impl Config {
    /// The log level alone.
    ///
    /// # Errors
    /// If it or its place is wrong.
    pub(crate) fn log_level(source: Source) -> Result<LogLevel, String> {
        if let Some(e) = source.errors.first() {
            return Err(e.clone());
        }
        let found = source.get(LOG_LEVEL).map_or("", |found| found.value);
        found.parse().map_err(|e| format!("{LOG_LEVEL} {e}"))
    }

    /// # Errors
    /// All missing, wrong and unknown settings together.
    pub(crate) fn read(source: Source) -> Result<Self, ConfigErrors> {
        let errors = source.errors.clone();
        let mut t = SettingsReader { source, errors };
        t.read_files();
        t.required(LIVEKIT_URL, "the URL of your LiveKit server, like ws://localhost:7880");
        let livekit_url = t.url(LIVEKIT_URL, &["ws", "wss", "http", "https"]);
        let api_key = t.required(LIVEKIT_API_KEY, "an API key of your LiveKit server");
        let api_secret = t.required(LIVEKIT_API_SECRET, "the secret of that API key").into();
        t.required(ENDPOINT, "the URL that records are posted to");
        let endpoint = t.url(ENDPOINT, &["http", "https"]);
        let agent_name = t.optional(AGENT_NAME).unwrap_or_default();
        if agent_name.trim().is_empty() {
            // An unnamed worker would take jobs from unnamed voice agents.
            t.wrong(AGENT_NAME, "must not be blank");
        } else if agent_name.trim() != agent_name {
            t.wrong(
                AGENT_NAME,
                "must not begin or end with a space: LiveKit would treat it as a different name",
            );
        }
        if t.source.voice_agent.as_ref() == Some(&agent_name) {
            t.wrong(
                AGENT_NAME,
                "is also LIVEKIT_AGENT_NAME, the name of a voice agent: the worker would take its jobs",
            );
        }
        let http_addr = t.source.http_addr().unwrap_or_else(|e| {
            t.errors.push(e);
            None
        });
        let (log_format, log_level) = (t.log_format(), t.log_level());
        let max_calls =
            t.number(MAX_CALLS, |n| (1..=100_000).contains(n), "a whole number from 1 to 100000");
        let megabytes = t.number(
            MAX_MEMORY_MB,
            |n: &u64| (1..=1_000_000).contains(n),
            "a whole number from 1 to 1000000",
        );
        let max_memory = (megabytes > 0).then_some(1_000_000 * megabytes);
        let layers = t.optional(DISCOVERY).unwrap_or_default().parse();
        let layers = layers.unwrap_or_else(|e: String| {
            t.wrong(DISCOVERY, e);
            Layers::default()
        });
        let rooms = RoomNames::parse(&t.optional(ROOMS).unwrap_or_default());
        let rooms = rooms.unwrap_or_else(|| {
            t.wrong(ROOMS, "must name at least one room, like * or call-*");
            RoomNames::default()
        });
        let Layers { dispatch, reconcile, webhook, participant } = layers;
        if webhook && http_addr.is_none() && !(dispatch || reconcile || participant) {
            t.wrong(DISCOVERY, "names only webhook, and CALL_HISTORY_HTTP_ADDR is off");
        }
        let silence_threshold = t.seconds(SILENCE_THRESHOLD, 3600.0);
        if silence_threshold.is_zero() {
            t.wrong(SILENCE_THRESHOLD, "must be more than 0");
        }
        let end_grace = t.seconds(END_GRACE, 3600.0);
        let drain_timeout = t.seconds(DRAIN_TIMEOUT, 86_400.0);
        let data_dir = t.source.data_dir();
        let jwt_secret = t.optional(JWT_SECRET).map(SecretString::from);
        let delivery = t.delivery(endpoint.as_ref(), jwt_secret.is_some());
        let events_endpoint = t.url(EVENTS_ENDPOINT, &["http", "https"]);
        let named = events_endpoint.as_ref();
        if named.is_some_and(|u| !u.username().is_empty() || u.password().is_some()) {
            t.wrong(
                EVENTS_ENDPOINT,
                "must not have a user and password: events use JWT_SECRET and the endpoint's headers",
            );
        }
        let (details, transcript) = (t.switch(DETAILS), t.switch(TRANSCRIPT));
        let identities = Identities {
            agents: t.identities(AGENT_IDENTITIES),
            listeners: t.identities(LISTENER_IDENTITIES),
        };
        let require_agent = t.switch(REQUIRE_AGENT);
        let metadata_keys = t.metadata_keys();
        let keep_journals = t.switch(KEEP_JOURNALS);
        let hours = t.number(
            KEEP_SENT,
            |h| (0.0..=8_760.0).contains(h),
            "a number of hours from 0 to 8760",
        );
        let keep_sent = Duration::from_secs_f64(hours * 3600.0);
        let positive = "a whole number from 1";
        let max_backlog = BacklogLimit {
            records: t.number(MAX_BACKLOG, |n| *n > 0, positive),
            bytes: 1_000_000
                * t.number(MAX_BACKLOG_MB, |n: &u64| (1..=1_000_000).contains(n), positive),
        };
        let profiles = std::mem::take(&mut t.source.profiles);
        match (livekit_url, endpoint) {
            (Some(url), Some(endpoint)) if t.errors.is_empty() => Ok(Self {
                livekit: LiveKit { url: websocket_url(&url), api_key, api_secret },
                endpoint,
                jwt_secret,
                events_endpoint,
                delivery,
                agent_name,
                data_dir,
                layers,
                rooms,
                max_calls,
                max_memory,
                silence_threshold,
                end_grace,
                drain_timeout,
                http_addr,
                log_format,
                log_level,
                details,
                transcript,
                identities,
                require_agent,
                metadata_keys,
                keep_journals,
                keep_sent,
                max_backlog,
                profiles,
            }),
            _ => Err(ConfigErrors(t.errors)),
        }
    }
}

fn websocket_url(url: &Url) -> String {
    let text = url.as_str().trim_end_matches('/');
    // `http` and `https` become `ws` and `wss`.
    if url.scheme().starts_with("http") { text.replacen("http", "ws", 1) } else { text.into() }
}

/// A URL for logs: only scheme, host and port. The paths of hooks are secrets too.
pub(crate) fn loggable(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or(""))
}

#[cfg(test)]
mod tests;
