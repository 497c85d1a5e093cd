//! `call-history config`, and the log level that is read again.

use anyhow::Result;
use tokio::process::Command;

use super::*;

const SECRETS: [(&str, &str); 6] = [
    ("LIVEKIT_API_SECRET", "hush-one"),
    ("JWT_SECRET", "hush-two"),
    ("CALL_HISTORY_ENDPOINT", "https://hooks.example.com/hush-three?key=hush-four"),
    ("CALL_HISTORY_EVENTS_ENDPOINT", "https://hooks.example.com/hush-nine"),
    ("CALL_HISTORY_RECEIVE_DB", "postgres://somebody:hush-ten@db.example.com/calls"),
    ("HTTPS_PROXY", "http://somebody:hush-five@proxy.example.com:3128"),
];

/// Runs `call-history config` in a folder with these files.
async fn config(
    files: &[(&str, &str)],
    env: &[(&str, &str)],
    args: &[&str],
) -> Result<(Option<i32>, String, String)> {
    let dir = tempfile::tempdir()?;
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
        std::fs::write(path, content)?;
    }
    let mut command = Command::new(binary());
    command.arg("config").args(args).env_clear().envs(env.iter().copied());
    let out = command.current_dir(dir.path()).output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((out.status.code(), text(out.stdout), text(out.stderr)))
}

#[tokio::test]
async fn config_prints_every_setting_its_place_and_no_secret() -> Result<()> {
    let files = [
        ("config/default.toml", "max_calls = 7\nend_grace = 3\n"),
        ("config/local.toml", "end_grace = 4\n"),
        (".env", "LIVEKIT_API_KEY=from-the-file\nCALL_HISTORY_MAX_CALLS=8\nRUST_LOG=debug\n"),
        ("headers", "X-Key: hush-six\n"),
    ];
    let mut env = vec![
        ("LIVEKIT_URL", "wss://user:hush-seven@livekit.example.com/?a=hush-eight"),
        ("LIVEKIT_API_KEY", "from-the-environment"),
        ("CALL_HISTORY_ENDPOINT_HEADERS_FILE", "headers"),
        ("LIVEKIT_AGENT_NAME", "a-voice-agent"),
    ];
    env.extend(SECRETS.iter().copied().filter(|(name, _)| *name != "JWT_SECRET"));
    let (code, out, err) = config(&files, &env, &["--json"]).await?;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let rows: Vec<Value> = serde_json::from_str(&out)?;
    let row = |name: &str| {
        let row = rows.iter().find(|r| r["name"] == name);
        let row = row.unwrap_or_else(|| panic!("{name} is not in {out}"));
        (row["value"].as_str().unwrap_or("-"), row["from"].as_str().unwrap_or("-"))
    };
    for (name, value, from) in [
        ("LIVEKIT_URL", "wss://livekit.example.com/…", "the environment"),
        ("LIVEKIT_API_KEY", "from-the-environment", "the environment"),
        ("LIVEKIT_API_SECRET", "(set)", "the environment"),
        ("JWT_SECRET", "-", "-"),
        ("CALL_HISTORY_ENDPOINT", "https://hooks.example.com/…", "the environment"),
        ("CALL_HISTORY_AGENT_NAME", "call-history", "the default"),
        ("CALL_HISTORY_END_GRACE", "4", "config/local.toml:1"),
        ("CALL_HISTORY_MAX_CALLS", "8", ".env"),
        ("CALL_HISTORY_SILENCE_THRESHOLD", "5", "the default"),
        ("RUST_LOG", "debug", ".env"),
        ("HTTPS_PROXY", "http://proxy.example.com:3128", "the environment"),
    ] {
        assert_eq!(row(name), (value, from), "{name}");
    }
    let (value, from) = row("CALL_HISTORY_ENDPOINT_HEADERS");
    assert!(value == "(set)" && from.contains("CALL_HISTORY_ENDPOINT_HEADERS_FILE"), "{from}");
    let (code, table, _) = config(&files, &env, &[]).await?;
    assert_eq!(code, Some(0));
    for name in rows.iter().filter_map(|r| r["name"].as_str()) {
        assert!(table.contains(name), "{name} is not in the table");
    }
    for text in [out, table] {
        assert!(!text.contains("hush"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn config_check_names_all_mistakes_and_starts_nothing() -> Result<()> {
    let good = [("LIVEKIT_URL", "ws://localhost:7880"), ("LIVEKIT_API_KEY", "k")];
    let mut env: Vec<(&str, &str)> = good.into_iter().chain(SECRETS).collect();
    let (code, out, err) = config(&[], &env, &["--check"]).await?;
    assert_eq!((code, out.trim(), err.as_str()), (Some(0), "all settings are right", ""));
    env.extend([("CALL_HISTORY_MAX_CALLS", "few"), ("CALL_HISTORY_LOG_LEVEL", "loud")]);
    env.extend([("CALL_HISTORY_ENDPOINT_TIMEUOT", "3"), ("CALL_HISTORY_RECEIVE_RATE", "-1")]);
    for args in [&["--check"][..], &[], &["--json"]] {
        let (code, _, err) = config(&[], &env, args).await?;
        assert_eq!(code, Some(78), "{args:?}: {err}");
        for named in
            ["4 settings are wrong", "MAX_CALLS", "LOG_LEVEL", "ENDPOINT_TIMEOUT?", "RECEIVE_RATE"]
        {
            assert!(err.contains(named), "{named} is not in {err}");
        }
        assert!(!err.contains("hush"), "{err}");
    }
    Ok(())
}

/// Waits until the worker logs a line of this level.
async fn logs_at(worker: &Worker, level: &str) -> Result<()> {
    wait::eventually(level, POSTED, async || {
        Ok(worker.log().iter().any(|l| l["level"] == level).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_is_read_again_without_a_restart() -> Result<()> {
    let venue = Venue::from_env().await?;
    let endpoint = Endpoint::start().await?;
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let mut setup = Setup::new(binary(), &venue, &endpoint, &unique("w"));
    setup.files = vec![("config/local.toml".into(), "log_level = \"info\"\n".into())];
    setup.data = Some(data);
    let mut worker = Worker::registered(setup).await?;
    let file = worker.folder().join("config/local.toml");
    std::fs::write(&file, "log_level = \"loud\"\n")?;
    worker.signal(1).await?;
    let line = worker.logs("the log level is not changed").await?;
    assert!(line["error"].to_string().contains("CALL_HISTORY_LOG_LEVEL must be"), "{line}");
    assert!(worker.log().iter().all(|l| l["level"] != "DEBUG"));
    std::fs::write(&file, "log_level = \"debug\"\n")?;
    worker.signal(1).await?;
    let line = worker.logs("the log level was read again").await?;
    assert_eq!((&line["before"], &line["level"]), (&"info".into(), &"debug".into()));
    // The worker still works, and now says more.
    let ticket = Ticket { room: unique("room"), identity: "alice".into(), ..Default::default() };
    let ticket = Ticket { kind: "standard", agents: vec![], ..ticket };
    let _alice = Person::join(&venue, &ticket).await?;
    logs_at(&worker, "DEBUG").await?;
    // The call of that room may be observed by now.
    worker.stops_now().await
}
