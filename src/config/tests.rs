use std::path::Path;

use super::{source::ENVIRONMENT, *};

const GOOD: &[(&str, &str)] = &[
    (LIVEKIT_URL, "http://localhost:7880/"),
    (LIVEKIT_API_KEY, "devkey"),
    (LIVEKIT_API_SECRET, "secret"),
    (ENDPOINT, "https://user:pw@example.com/calls?key=1"),
];

fn read(extra: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let mut s = Source::default();
    let vars = GOOD.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    s.environment(vars, ENVIRONMENT);
    Config::read(s).map_err(|e| e.0)
}

#[test]
fn settings_have_defaults() {
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
    assert_eq!(loggable(&c.endpoint), "https://example.com");
    assert_eq!(c.delivery.timeout, Duration::from_secs(30));
    assert!(c.delivery.headers.is_empty() && !c.delivery.gzip && c.delivery.max_body.is_none());
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
        ENVIRONMENT,
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
    s.environment(vars.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), ENVIRONMENT);
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
    let endpoint = (ENDPOINT, "https://example.com/hooks/hush-hush");
    let headers = (ENDPOINT_HEADERS, "X-Api-Key: hush-hush");
    let c = read(&[endpoint, headers, (JWT_SECRET, "hush-hush")]).unwrap();
    let text = format!("{:?}", (&c.jwt_secret, &c.delivery, &c.livekit));
    assert!(!text.contains("hush-hush") && !text.contains("\"secret\""), "{text}");
}

/// Settings without a default: the files show an example.
const EXAMPLES: &[&str] = &[
    JWT_SECRET,
    ENDPOINT_HEADERS,
    ENDPOINT_CA,
    ENDPOINT_CERT,
    ENDPOINT_KEY,
    EVENTS_ENDPOINT,
    MAX_BODY_KB,
    METADATA_KEYS,
    AGENT_IDENTITIES,
    LISTENER_IDENTITIES,
    MAX_MEMORY_MB,
    RECEIVE_DB,
    RECEIVE_RETENTION_DAYS,
    RECEIVE_RECORDINGS,
    RECEIVE_RECORDINGS_DAYS,
];

/// All that is read from a source, as text.
fn all_read(source: Source) -> String {
    #[cfg(feature = "receiver")]
    let received = format!("{:?}", ReceiveSettings::read(source.clone()).unwrap());
    #[cfg(not(feature = "receiver"))]
    let received = "";
    format!("{:?} {received}", Config::read(source).unwrap())
}

/// The commented settings of a file, as if they were set: each setting once, or its `_FILE` twin.
fn documented(lines: impl Iterator<Item = (String, String)>, place: &str) -> String {
    let mut s = Source::default();
    for (k, v) in lines {
        if let Some(setting) = find(&k) {
            s.values.insert(setting.name.into(), (v, place.into()));
        }
    }
    assert_eq!(s.values.len(), SETTINGS.len(), "a setting is not in {place}");
    s.values.retain(|k, _| !EXAMPLES.contains(&k.as_str()));
    s.environment(GOOD.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), ENVIRONMENT);
    all_read(s)
}

#[test]
fn the_documented_defaults_are_the_real_ones() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built_in = {
        let mut s = Source::default();
        let vars = GOOD.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        s.environment(vars.chain([(LOG_FORMAT.to_owned(), "json".to_owned())]), ENVIRONMENT);
        all_read(s)
    };
    let toml = std::fs::read_to_string(here.join("config/default.toml")).unwrap();
    let lines = toml.lines().filter_map(|l| l.strip_prefix("# ")?.split_once(" = "));
    let lines = lines.map(|(k, v)| (file::setting(k), v.trim_matches('"').to_owned()));
    assert_eq!(documented(lines, "config/default.toml"), built_in);

    let page = std::fs::read_to_string(here.join("docs/settings.md")).unwrap();
    for setting in SETTINGS {
        assert!(page.contains(&format!("`{}`", setting.name)), "{} is not in it", setting.name);
    }

    let env = std::fs::read_to_string(here.join(".env.example")).unwrap();
    let lines = env.lines().map(|l| l.trim_start_matches('#')).filter_map(|l| l.split_once('='));
    let lines = lines.map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(documented(lines, ".env.example"), built_in);
}

#[test]
fn a_worker_that_could_find_nothing_is_refused() {
    assert!(read(&[(DISCOVERY, "webhook"), (HTTP_ADDR, "off")]).is_err());
    assert!(read(&[(DISCOVERY, "webhook, reconcile"), (HTTP_ADDR, "off")]).is_ok());
    assert!(read(&[(ROOMS, ",")]).is_err());
}

#[test]
fn an_unnamed_worker_is_refused() {
    for name in [" ", "recorder ", " recorder"] {
        assert!(read(&[(AGENT_NAME, name)]).is_err(), "{name:?}");
    }
}

#[test]
fn what_gateways_ask_for() {
    let lines = "X-Api-Key: a key\n\n cf-access-client-id : id:1 ";
    let c =
        read(&[(ENDPOINT_HEADERS, lines), (ENDPOINT_TIMEOUT, "60"), (MAX_BODY_KB, "100")]).unwrap();
    assert_eq!(c.delivery.headers["x-api-key"], "a key");
    assert_eq!(c.delivery.headers["cf-access-client-id"], "id:1");
    assert_eq!((c.delivery.timeout, c.delivery.max_body), (Duration::from_secs(60), Some(100_000)));

    let one = |extra: &[(&str, &str)]| read(extra).unwrap_err().join("\n");
    let no_user = (ENDPOINT, "https://example.com/");
    for wrong in ["X-Secret hush-hush", "Authorization Bearer hush:hush", "X-Key: hush\u{7f}hush"] {
        let said = one(&[(ENDPOINT_HEADERS, wrong)]);
        assert!(said.contains("line 1") && !said.contains("hush"), "{said}");
    }
    assert!(one(&[(ENDPOINT_HEADERS, "Content-Type: text/xml")]).contains("content-type"));
    let twice = [(ENDPOINT_HEADERS, "Authorization: Bearer x"), (JWT_SECRET, "s"), no_user];
    assert!(one(&twice).contains("JWT_SECRET"));
    assert!(read(&[(ENDPOINT_HEADERS, "Authorization: Bearer x"), no_user]).is_ok());
    assert!(one(&[(JWT_SECRET, "s")]).contains("user and password"));
    let only_password = (ENDPOINT, "https://:pw@example.com/");
    assert!(one(&[(JWT_SECRET, "s"), only_password]).contains("user and password"));
    let both = one(&[(ENDPOINT_HEADERS, "Authorization: Bearer x"), only_password]);
    assert!(both.contains("user and password"), "{both}");
    assert!(one(&[(ENDPOINT_CA, "no PEM")]).contains(ENDPOINT_CA));
    assert!(one(&[(ENDPOINT_CERT, "no PEM"), (ENDPOINT_KEY, "no PEM")]).contains(ENDPOINT_KEY));
    assert!(one(&[(ENDPOINT_CERT, "no PEM")]).contains("too"));
    assert!(one(&[(ENDPOINT_TIMEOUT, "0")]).contains(ENDPOINT_TIMEOUT));
    assert!(one(&[(MAX_BODY_KB, "0")]).contains(MAX_BODY_KB));
}

#[test]
fn names_that_livekit_has_for_a_setting_are_understood() {
    let level = |extra: &[(&str, &str)]| read(extra).map(|c| c.log_level.to_string());
    for (text, meant) in
        [("DEBUG", "debug"), ("warning", "warn"), ("CRITICAL", "error"), ("off", "off")]
    {
        assert_eq!(level(&[("LIVEKIT_LOG_LEVEL", text)]).unwrap(), meant);
    }
    assert_eq!(level(&[("LIVEKIT_LOG_LEVEL", "debug"), (LOG_LEVEL, "warn")]).unwrap(), "warn");
    let wrong = level(&[("LIVEKIT_LOG_LEVEL", "loud")]).unwrap_err().join("");
    assert!(wrong.contains(LOG_LEVEL) && wrong.contains("must be trace"), "{wrong}");
    assert!(wrong.contains("as LIVEKIT_LOG_LEVEL"), "{wrong}");
}

/// A voice agent's environment may be shared with the worker. Its name would be the worst to take.
#[test]
fn the_name_of_a_voice_agent_is_never_taken() {
    let vars = |extra: &[(&str, &str)]| {
        let mut s = Source { voice_agent: Some("waiter".into()), ..Source::default() };
        let vars = GOOD.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        s.environment(vars, ENVIRONMENT);
        Config::read(s)
    };
    assert_eq!(vars(&[]).unwrap().agent_name, "call-history");
    let same = vars(&[(AGENT_NAME, "waiter")]).unwrap_err().to_string();
    assert!(same.contains("LIVEKIT_AGENT_NAME"), "{same}");
}

#[test]
fn secrets_come_from_files_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, "hush-hush\n").unwrap();
    let twin = format!("{JWT_SECRET}_FILE");
    let shown = path.to_str().unwrap();
    let no_user = (ENDPOINT, "https://example.com/");
    let c = read(&[(&*twin, shown), no_user]).unwrap();
    assert_eq!(secrecy::ExposeSecret::expose_secret(&c.jwt_secret.unwrap()), "hush-hush");
    let both = read(&[(&*twin, shown), (JWT_SECRET, "x"), no_user]).unwrap_err();
    assert!(both[0].contains("both set"), "{both:?}");
    let missing = read(&[(&*twin, "/nowhere"), no_user]).unwrap_err();
    assert!(missing[0].contains(&twin), "{missing:?}");
    std::fs::write(&path, "\n").unwrap();
    let empty = read(&[(&*twin, shown), no_user]).unwrap_err();
    assert!(empty[0].contains("empty file"), "{empty:?}");
    // The environment wins over a file, whichever of the two names each has.
    std::fs::write(&path, "from-the-file").unwrap();
    let toml = dir.path().join("local.toml");
    for (in_toml, in_environment) in [
        ("jwt_secret = \"dev\"".to_owned(), (twin.clone(), shown.to_owned())),
        (format!("jwt_secret_file = \"{shown}\""), (JWT_SECRET.into(), "from-the-file".into())),
    ] {
        std::fs::write(&toml, &in_toml).unwrap();
        let mut s = Source::default();
        s.file(&toml);
        let good = GOOD.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let own = [(ENDPOINT.to_owned(), "https://example.com/".to_owned()), in_environment];
        s.environment(good.chain(own), ENVIRONMENT);
        let c = Config::read(s).unwrap();
        let secret = c.jwt_secret.unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(&secret), "from-the-file", "{in_toml}");
    }
    // Only secrets and long texts have twins.
    assert!(read(&[("CALL_HISTORY_ROOMS_FILE", "/nowhere"), no_user]).is_err());
}

#[cfg(feature = "receiver")]
#[test]
fn the_receiver_starts_without_any_setting() {
    let read = |vars: &[(&str, &str)]| {
        let mut s = Source::default();
        s.environment(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), ENVIRONMENT);
        ReceiveSettings::read(s).map_err(|e| e.0)
    };
    let r = read(&[]).unwrap();
    assert_eq!(r.addr, "127.0.0.1:8082".parse().unwrap());
    assert_eq!((r.data_dir.to_str(), r.retention_days), (Some("data/receiver"), None));
    assert!(r.db.is_none() && r.jwt_secret.is_none() && !r.demo && r.livekit.is_none());
    assert_eq!((r.rate, r.failed_rate), (600, 30));
    assert!(read(&[(RECEIVE_DEMO, "true")]).unwrap().demo);
    let secret = "postgres://user:hush-hush@db/calls";
    let r = read(&[(RECEIVE_DB, secret), (RECEIVE_RETENTION_DAYS, "90")]).unwrap();
    assert_eq!(r.retention_days, Some(90));
    assert!(!format!("{r:?}").contains("hush-hush"));
    let r = read(&[(LIVEKIT_API_KEY, "key"), (LIVEKIT_API_SECRET, "hush-hush")]).unwrap();
    assert!(r.livekit.is_some() && !format!("{r:?}").contains("hush-hush"));
    let wrong = read(&[
        (LIVEKIT_API_SECRET, "hush-hush"),
        (RECEIVE_RECORDINGS_DAYS, "-1"),
        (RECEIVE_RECORDINGS, "ftp://somewhere"),
        (RECEIVE_ADDR, "everywhere"),
        (RECEIVE_DB, "mysql://hush-hush@db"),
        (RECEIVE_RETENTION_DAYS, "0"),
        (RECEIVE_RATE, "-1"),
        (LOG_LEVEL, "loud"),
    ])
    .unwrap_err();
    assert_eq!(wrong.len(), 8, "{wrong:?}");
    assert!(!wrong.join("").contains("hush-hush"));
}
