use std::path::Path;

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
fn defaults_are_those_of_the_readme() {
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
fn all_mistakes_are_reported_together() {
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
fn variables_of_a_kubernetes_service_are_not_settings() {
    let variables = [
        ("CALL_HISTORY_SERVICE_HOST", "10.0.0.1"),
        ("CALL_HISTORY_PORT", "tcp://10.0.0.1:8081"),
        ("CALL_HISTORY_PORT_8081_TCP_ADDR", "10.0.0.1"),
    ];
    assert!(read(&variables).is_ok());
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
    // Every commented setting of the two files, read as if it were set.
    let toml = std::fs::read_to_string(here.join("config/default.toml")).unwrap();
    let lines = toml.lines().filter_map(|l| l.strip_prefix("# "));
    let settings: String = lines
        .filter(|l| l.split_once(" = ").is_some_and(|(k, _)| KNOWN.contains(&&*file::setting(k))))
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
    let lines = env.lines().map(|l| l.trim_start_matches('#')).filter_map(|l| l.split_once('='));
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
fn a_worker_that_could_find_nothing_is_refused() {
    assert!(read(&[(DISCOVERY, "webhook"), (HTTP_ADDR, "off")]).is_err());
    assert!(read(&[(DISCOVERY, "webhook, reconcile"), (HTTP_ADDR, "off")]).is_ok());
    assert!(read(&[(ROOMS, ",")]).is_err());
}

#[test]
fn an_unnamed_worker_is_refused() {
    assert!(read(&[(AGENT_NAME, " ")]).is_err());
}
