//! Settings: from the environment (and `.env`), then `config/*.toml`, then built-in defaults.
//!
//! Every setting has one name; in a file it is written in lower case without `CALL_HISTORY_`.
//! All mistakes are found and told together, before anything starts. Parsing reads from a
//! [`Source`], not from the process, so that it can be tested.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use reqwest::Url;

mod file;
mod layers;
mod profiles;

pub(crate) use layers::{Layers, RoomNames};

use crate::{call::profile::Profiles, delivery::Cap};

/// URL of the LiveKit server, `ws(s)://` or `http(s)://`.
const LIVEKIT_URL: &str = "LIVEKIT_URL";
/// Key and secret of the LiveKit server; the worker signs its own tokens with them.
const LIVEKIT_API_KEY: &str = "LIVEKIT_API_KEY";
const LIVEKIT_API_SECRET: &str = "LIVEKIT_API_SECRET";
/// Signs the requests to the endpoint; unsigned if unset.
const JWT_SECRET: &str = "JWT_SECRET";
/// Where records are posted.
const ENDPOINT: &str = "CALL_HISTORY_ENDPOINT";
/// The name under which agents are dispatched.
const AGENT_NAME: &str = "CALL_HISTORY_AGENT_NAME";
/// Journals and outbox.
const DATA_DIR: &str = "CALL_HISTORY_DATA_DIR";
/// How rooms are found.
const DISCOVERY: &str = "CALL_HISTORY_DISCOVERY";
/// Which rooms are looked for, by name.
const ROOMS: &str = "CALL_HISTORY_ROOMS";
/// Megabytes of memory; near it the worker says FULL.
const MAX_MEMORY_MB: &str = "CALL_HISTORY_MAX_MEMORY_MB";
/// Calls observed at the same time; above it the worker says FULL.
const MAX_CALLS: &str = "CALL_HISTORY_MAX_CALLS";
/// Seconds of quiet on both sides that count as a silence.
const SILENCE_THRESHOLD: &str = "CALL_HISTORY_SILENCE_THRESHOLD";
/// Seconds that a caller has to come back before the call is over.
const END_GRACE: &str = "CALL_HISTORY_END_GRACE";
/// Seconds that running calls have after SIGTERM.
const DRAIN_TIMEOUT: &str = "CALL_HISTORY_DRAIN_TIMEOUT";
/// Address of the health page, or `off`.
const HTTP_ADDR: &str = "CALL_HISTORY_HTTP_ADDR";
/// Adds `details` to every record.
const DETAILS: &str = "CALL_HISTORY_DETAILS";
/// Adds the transcript to the details.
const TRANSCRIPT: &str = "CALL_HISTORY_TRANSCRIPT";
/// Keeps the journals of ended calls.
const KEEP_JOURNALS: &str = "CALL_HISTORY_KEEP_JOURNALS";
/// Hours that delivered records are kept.
const KEEP_SENT: &str = "CALL_HISTORY_KEEP_SENT";
/// Undelivered records from which on the worker warns.
const MAX_BACKLOG: &str = "CALL_HISTORY_MAX_BACKLOG";
/// Megabytes of undelivered records from which on the worker warns.
const MAX_BACKLOG_MB: &str = "CALL_HISTORY_MAX_BACKLOG_MB";
/// `json` or `pretty`.
const LOG_FORMAT: &str = "CALL_HISTORY_LOG_FORMAT";

const PREFIX: &str = "CALL_HISTORY_";
const KNOWN: &[&str] = &[
    LIVEKIT_URL,
    LIVEKIT_API_KEY,
    LIVEKIT_API_SECRET,
    JWT_SECRET,
    ENDPOINT,
    AGENT_NAME,
    DATA_DIR,
    DISCOVERY,
    ROOMS,
    MAX_CALLS,
    MAX_MEMORY_MB,
    SILENCE_THRESHOLD,
    END_GRACE,
    DRAIN_TIMEOUT,
    HTTP_ADDR,
    LOG_FORMAT,
    DETAILS,
    TRANSCRIPT,
    KEEP_JOURNALS,
    KEEP_SENT,
    MAX_BACKLOG,
    MAX_BACKLOG_MB,
];

/// Exit status for a wrong configuration (`EX_CONFIG` of sysexits).
pub(crate) const EXIT_CONFIG: u8 = 78;

/// A text that must not be seen: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) livekit: LiveKit,
    pub(crate) endpoint: Url,
    pub(crate) jwt_secret: Option<Secret>,
    pub(crate) agent_name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) layers: Layers,
    pub(crate) rooms: RoomNames,
    pub(crate) max_calls: usize,
    /// Bytes; `None`: what the container is given.
    pub(crate) max_memory: Option<u64>,
    pub(crate) silence_threshold: Duration,
    pub(crate) end_grace: Duration,
    pub(crate) drain_timeout: Duration,
    /// `None`: no health page.
    pub(crate) http_addr: Option<SocketAddr>,
    /// `None`: readable on a terminal, else JSON.
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) details: bool,
    pub(crate) transcript: bool,
    pub(crate) keep_journals: bool,
    pub(crate) keep_sent: Duration,
    pub(crate) max_backlog: Cap,
    pub(crate) profiles: Profiles,
}

#[derive(Clone, Debug)]
pub(crate) struct LiveKit {
    /// `ws://` or `wss://`, without a trailing slash.
    pub(crate) url: String,
    pub(crate) api_key: String,
    pub(crate) api_secret: Secret,
}

impl LiveKit {
    /// As it may be logged.
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

/// Everything that is wrong with the configuration.
#[derive(Debug)]
pub(crate) struct ConfigErrors(Vec<String>);

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

/// Where values come from: name → value, and where it was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    values: BTreeMap<String, (String, String)>,
    profiles: Profiles,
    errors: Vec<String>,
}

impl Source {
    /// The process's environment over the files in `config/`.
    pub(crate) fn from_process() -> Self {
        let mut source = Self::default();
        for name in ["default.toml", "local.toml"] {
            source.file(&Path::new("config").join(name));
        }
        source.profiles = profiles::read(Path::new("config/profiles"), &mut source.errors);
        // A variable that is not Unicode cannot be one of ours.
        let vars = std::env::vars_os();
        let vars = vars.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        source.environment(vars);
        source
    }

    /// The data folder alone: for commands that need nothing else.
    pub(crate) fn data_dir(&self) -> PathBuf {
        let told = self.values.get(DATA_DIR).map(|(v, _)| v.as_str());
        PathBuf::from(told.unwrap_or("data"))
    }

    /// Later calls win over earlier ones. An empty value is none.
    fn environment(&mut self, vars: impl Iterator<Item = (String, String)>) {
        for (name, value) in vars {
            if KNOWN.contains(&name.as_str()) {
                if !value.is_empty() {
                    self.values.insert(name, (value, "the environment".into()));
                }
            } else if name.starts_with(PREFIX) && !of_a_service(&name) {
                self.errors.push(format!("{name}: unknown setting{}", did_you_mean(&name)));
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => return self.errors.push(format!("{}: {e}", path.display())),
        };
        match file::read(&text) {
            Err(e) => self.errors.push(format!("{}: {e}", path.display())),
            Ok(entries) => {
                for e in entries {
                    let place = format!("{}:{}", path.display(), e.line);
                    let name = file::setting(&e.key);
                    if KNOWN.contains(&name.as_str()) {
                        self.values.insert(name, (e.value, place));
                    } else {
                        let hint = did_you_mean(&name);
                        self.errors.push(format!("{place}: unknown setting {}{hint}", e.key));
                    }
                }
            }
        }
    }
}

/// What Kubernetes tells of a Service named `call-history`, in everybody's environment.
fn of_a_service(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

fn did_you_mean(name: &str) -> String {
    let close = KNOWN.iter().map(|k| (strsim::damerau_levenshtein(name, k), k)).min();
    match close {
        Some((distance, known)) if distance <= name.len() / 3 => {
            format!(" (did you mean {known}?)")
        }
        _ => String::new(),
    }
}

/// Takes values out of a source and collects what is wrong.
struct Taker {
    source: Source,
    errors: Vec<String>,
}

impl Taker {
    fn optional(&mut self, name: &str) -> Option<String> {
        self.source.values.get(name).map(|(v, _)| v.clone())
    }

    fn required(&mut self, name: &str, what: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.errors.push(format!("{name} is missing: {what}"));
            String::new()
        })
    }

    fn wrong(&mut self, name: &str, what: impl fmt::Display) {
        let place = self.source.values.get(name).map_or("the default", |(_, p)| p);
        self.errors.push(format!("{name} (from {place}) {what}"));
    }

    fn number<T: FromStr>(
        &mut self,
        name: &str,
        default: T,
        ok: impl Fn(&T) -> bool,
        what: &str,
    ) -> T {
        let Some(text) = self.optional(name) else { return default };
        match text.trim().parse::<T>() {
            Ok(n) if ok(&n) => n,
            _ => {
                self.wrong(name, format!("must be {what}"));
                default
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

    fn seconds(&mut self, name: &str, default: f64, most: f64) -> Duration {
        let ok = |s: &f64| (0.0..=most).contains(s);
        let what = format!("a number of seconds from 0 to {most}");
        Duration::from_secs_f64(self.number(name, default, ok, &what))
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
    /// # Errors
    /// All that is missing, wrong or unknown, together.
    pub(crate) fn read(source: Source) -> Result<Self, ConfigErrors> {
        let errors = source.errors.clone();
        let mut t = Taker { source, errors };
        t.required(LIVEKIT_URL, "the URL of your LiveKit server, like ws://localhost:7880");
        let livekit_url = t.url(LIVEKIT_URL, &["ws", "wss", "http", "https"]);
        let api_key = t.required(LIVEKIT_API_KEY, "an API key of your LiveKit server");
        let api_secret = Secret(t.required(LIVEKIT_API_SECRET, "the secret of that API key"));
        t.required(ENDPOINT, "the URL that records are posted to");
        let endpoint = t.url(ENDPOINT, &["http", "https"]);
        let agent_name = t.optional(AGENT_NAME).unwrap_or_else(|| "call-history".into());
        if agent_name.trim().is_empty() {
            // An unnamed worker would take jobs from unnamed voice agents.
            t.wrong(AGENT_NAME, "must not be blank");
        }
        let http_addr = match t.optional(HTTP_ADDR).as_deref() {
            Some("off") => None,
            text => {
                let text = text.unwrap_or("0.0.0.0:8081");
                let addr = text.parse().ok();
                if addr.is_none() {
                    t.wrong(HTTP_ADDR, "must be an address like 0.0.0.0:8081, or off");
                }
                addr
            }
        };
        let log_format = match t.optional(LOG_FORMAT).as_deref() {
            None => None,
            Some("json") => Some(LogFormat::Json),
            Some("pretty") => Some(LogFormat::Pretty),
            Some(_) => {
                t.wrong(LOG_FORMAT, "must be json or pretty");
                None
            }
        };
        let max_calls = t.number(
            MAX_CALLS,
            1000,
            |n| (1..=100_000).contains(n),
            "a whole number from 1 to 100000",
        );
        let megabytes = t.number(
            MAX_MEMORY_MB,
            0,
            |n| (1..=1_000_000).contains(n),
            "a whole number from 1 to 1000000",
        );
        let max_memory = (megabytes > 0).then_some(1_000_000 * megabytes);
        let layers =
            t.optional(DISCOVERY).map_or_else(|| Ok(Layers::default()), |text| text.parse());
        let layers = layers.unwrap_or_else(|e: String| {
            t.wrong(DISCOVERY, e);
            Layers::default()
        });
        let rooms =
            t.optional(ROOMS).map_or_else(RoomNames::default, |text| RoomNames::parse(&text));
        let silence_threshold = t.seconds(SILENCE_THRESHOLD, 5.0, 3600.0);
        if silence_threshold.is_zero() {
            t.wrong(SILENCE_THRESHOLD, "must be more than 0");
        }
        let end_grace = t.seconds(END_GRACE, 10.0, 3600.0);
        let drain_timeout = t.seconds(DRAIN_TIMEOUT, 600.0, 86_400.0);
        let data_dir = t.source.data_dir();
        let jwt_secret = t.optional(JWT_SECRET).map(Secret);
        let (details, transcript) = (t.switch(DETAILS), t.switch(TRANSCRIPT));
        let keep_journals = t.switch(KEEP_JOURNALS);
        let hours = t.number(
            KEEP_SENT,
            24.0,
            |h| (0.0..=8_760.0).contains(h),
            "a number of hours from 0 to 8760",
        );
        let keep_sent = Duration::from_secs_f64(hours * 3600.0);
        let positive = "a whole number from 1";
        let max_backlog = Cap {
            records: t.number(MAX_BACKLOG, 100_000, |n| *n > 0, positive),
            bytes: 1_000_000
                * t.number(MAX_BACKLOG_MB, 1_000, |n| (1..=1_000_000).contains(n), positive),
        };
        let profiles = std::mem::take(&mut t.source.profiles);
        match (livekit_url, endpoint) {
            (Some(url), Some(endpoint)) if t.errors.is_empty() => Ok(Self {
                livekit: LiveKit { url: websocket_url(&url), api_key, api_secret },
                endpoint,
                jwt_secret,
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
                details,
                transcript,
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

/// A URL as it may be logged: without user, password and query.
pub(crate) fn loggable(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or(""), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        (LIVEKIT_URL, "http://localhost:7880/"),
        (LIVEKIT_API_KEY, "devkey"),
        (LIVEKIT_API_SECRET, "secret"),
        (ENDPOINT, "https://user:pw@example.com/calls?key=1"),
    ];

    fn read(extra: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let mut s = Source::default();
        let vars = GOOD.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        s.environment(vars);
        Config::read(s).map_err(|e| e.0)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let c = read(&[]).unwrap();
        assert_eq!(c.livekit.url, "ws://localhost:7880");
        assert_eq!(c.livekit.http_url(), "http://localhost:7880");
        assert_eq!(c.agent_name, "call-history");
        assert_eq!(c.max_calls, 1000);
        assert_eq!(c.silence_threshold, Duration::from_secs(5));
        assert_eq!(c.end_grace, Duration::from_secs(10));
        assert_eq!(c.drain_timeout, Duration::from_secs(600));
        assert_eq!(c.http_addr, "0.0.0.0:8081".parse().ok());
        assert!(c.jwt_secret.is_none() && c.log_format.is_none());
        assert_eq!(loggable(&c.endpoint), "https://example.com/calls");
    }

    #[test]
    fn all_mistakes_are_told_together() {
        let mut s = Source::default();
        s.environment(
            [
                (LIVEKIT_URL, "localhost"),
                (ENDPOINT, "ftp://x"),
                (MAX_CALLS, "0"),
                (MAX_MEMORY_MB, "lots"),
                (DISCOVERY, "dispatch, telepathy"),
                (SILENCE_THRESHOLD, "-1"),
                (HTTP_ADDR, "nowhere"),
                (LOG_FORMAT, "xml"),
                ("CALL_HISTORY_END_GRACES", "3"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into_iter(),
        );
        let e = Config::read(s).unwrap_err();
        let all = e.to_string();
        for name in [
            LIVEKIT_URL,
            LIVEKIT_API_KEY,
            LIVEKIT_API_SECRET,
            ENDPOINT,
            MAX_CALLS,
            MAX_MEMORY_MB,
            "telepathy",
            SILENCE_THRESHOLD,
            HTTP_ADDR,
            LOG_FORMAT,
            "did you mean CALL_HISTORY_END_GRACE?",
        ] {
            assert!(all.contains(name), "{name} not in {all}");
        }
        assert_eq!(e.0.len(), 11, "{all}");
    }

    #[test]
    fn the_environment_wins_over_files_and_files_name_their_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local.toml");
        std::fs::write(&path, "# comment\nend_grace = 4\nmax_calls = 7\nmax_cals = 8\n").unwrap();
        let mut s = Source::default();
        s.file(&path);
        let vars = GOOD.iter().chain(&[(END_GRACE, "6")]);
        s.environment(vars.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let e = Config::read(s.clone()).unwrap_err().to_string();
        assert!(e.contains("local.toml:4: unknown setting max_cals (did you mean"), "{e}");
        s.errors.clear();
        let c = Config::read(s).unwrap();
        assert_eq!((c.end_grace, c.max_calls), (Duration::from_secs(6), 7));
    }

    #[test]
    fn a_kubernetes_service_of_our_name_is_no_setting() {
        let tells = [
            ("CALL_HISTORY_SERVICE_HOST", "10.0.0.1"),
            ("CALL_HISTORY_PORT", "tcp://10.0.0.1:8081"),
            ("CALL_HISTORY_PORT_8081_TCP_ADDR", "10.0.0.1"),
        ];
        assert!(read(&tells).is_ok());
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let c = read(&[(JWT_SECRET, "hush-hush")]).unwrap();
        let text = format!("{c:?}");
        assert!(!text.contains("hush-hush") && !text.contains("\"secret\""), "{text}");
    }

    #[test]
    fn the_documented_defaults_are_the_real_ones() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let debug = |s: Source| format!("{:?}", Config::read(s).unwrap());
        let built_in = {
            let mut s = Source::default();
            let vars = GOOD.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            s.environment(vars.chain([(LOG_FORMAT.to_owned(), "json".to_owned())]));
            s
        };
        // Every commented setting of the two files, taken at its word.
        let toml = std::fs::read_to_string(here.join("config/default.toml")).unwrap();
        let lines = toml.lines().filter_map(|l| l.strip_prefix("# "));
        let settings: String = lines
            .filter(|l| {
                l.split_once(" = ").is_some_and(|(k, _)| KNOWN.contains(&&*file::setting(k)))
            })
            .map(|l| format!("{l}\n"))
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("all.toml");
        std::fs::write(&path, &settings).unwrap();
        let mut s = Source::default();
        s.file(&path);
        assert_eq!(s.values.len(), KNOWN.len(), "a setting is not in config/default.toml");
        s.values.remove(JWT_SECRET);
        s.values.remove(MAX_MEMORY_MB);
        s.environment(GOOD.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        assert_eq!(debug(s), debug(built_in.clone()));

        let env = std::fs::read_to_string(here.join(".env.example")).unwrap();
        let lines =
            env.lines().map(|l| l.trim_start_matches('#')).filter_map(|l| l.split_once('='));
        let vars: Vec<(String, String)> = lines
            .filter(|(k, _)| KNOWN.contains(k))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        assert_eq!(vars.len(), KNOWN.len(), "a setting is not in .env.example");
        let mut s = Source::default();
        s.environment(vars.into_iter());
        s.values.remove(MAX_MEMORY_MB);
        s.environment(GOOD.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        assert_eq!(debug(s), debug(built_in));
    }

    #[test]
    fn an_unnamed_worker_is_refused() {
        assert!(read(&[(AGENT_NAME, " ")]).is_err());
    }
}
