//! What an operator meets first: help, wrong settings, a server that is not there.

use std::time::Duration;

use anyhow::Result;
use lab::worker::Worker;
use tokio::process::Command;

use super::*;

async fn run(args: &[&str], env: &[(&str, &str)]) -> Result<(Option<i32>, String, String)> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(binary());
    command.args(args).env_clear().envs(env.iter().copied()).current_dir(dir.path());
    let out = command.kill_on_drop(true).output().await?;
    assert!(
        !dir.path().join("data").exists() || out.status.code() != Some(78),
        "something started"
    );
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((out.status.code(), text(out.stdout), text(out.stderr)))
}

#[tokio::test]
async fn help_and_version_need_no_settings() -> Result<()> {
    let (code, out, _) = run(&["--version"], &[]).await?;
    assert_eq!((code, out.trim()), (Some(0), concat!("call-history ", env!("CARGO_PKG_VERSION"))));
    let (code, out, _) = run(&["--help"], &[]).await?;
    assert_eq!(code, Some(0));
    for word in [
        "start",
        "connect",
        "replay",
        "outbox",
        "schema",
        "doctor",
        "config",
        "probe",
        "completions",
        "man",
        "LIVEKIT_URL",
        "CALL_HISTORY_ENDPOINT",
        "78",
    ] {
        assert!(out.contains(word), "{word} is not in the help");
    }
    Ok(())
}

#[tokio::test]
async fn shells_take_the_completions_and_the_manual_names_every_command() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = run(&["completions", shell], &[]).await?;
        assert_eq!(code, Some(0));
        for word in ["doctor", "outbox", "send-sample"] {
            assert!(script.contains(word), "{word} is not completed in {shell}");
        }
        if shell == "bash" {
            // What the shell itself offers.
            for (words, offered) in
                [("doc", "doctor"), ("outbox r", "retry"), ("connect --ro", "--room")]
            {
                let asked = format!(
                    "{script}\nset -- {words}; COMP_WORDS=(call-history \"$@\") COMP_CWORD=$#\n\
                     _call__history call-history \"${{!#}}\" x; echo \"${{COMPREPLY[@]}}\""
                );
                let out = Command::new("bash").args(["-c", &asked]).output().await?;
                assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), offered, "{words}");
            }
        }
    }
    let (code, page, _) = run(&["man"], &[]).await?;
    assert_eq!(code, Some(0));
    let (_, help, _) = run(&["--help"], &[]).await?;
    let commands = help.split("Commands:").nth(1).expect("a list of commands").lines();
    let commands: Vec<&str> =
        commands.filter_map(|l| l.strip_prefix("  ")?.split(' ').next()).collect();
    let commands = commands.iter().filter(|c| c.starts_with(char::is_alphabetic) && **c != "help");
    for name in commands {
        let section = format!(".SH \"{}\"", name.to_uppercase());
        assert!(page.contains(&section), "{name} is not in the manual");
    }
    for below in ["OUTBOX EXPORT", "RECEIVE TOKEN"] {
        assert!(page.contains(&format!(".SH \"{below}\"")), "{below} is not in the manual");
    }
    Ok(())
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_with_what_to_do() -> Result<()> {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let env = [
        ("LIVEKIT_URL", "ws://127.0.0.1:1"),
        ("LIVEKIT_API_KEY", "k"),
        ("LIVEKIT_API_SECRET", "a-secret-of-32-characters-for-hs256"),
        ("CALL_HISTORY_ENDPOINT", "http://127.0.0.1:1/"),
        ("CALL_HISTORY_HTTP_ADDR", &other.local_addr()?.to_string()),
    ];
    let (code, out, err) = run(&[], &env).await?;
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(out.contains("set CALL_HISTORY_HTTP_ADDR to another one or to off"), "{out}{err}");
    assert!(out.contains("stop the program that has this address"), "{out}{err}");
    Ok(())
}

#[tokio::test]
async fn missing_and_wrong_settings_are_all_named_at_once() -> Result<()> {
    let env = [("CALL_HISTORY_MAX_CALLS", "many"), ("CALL_HISTORY_ENDPONT", "http://x")];
    let (code, out, err) = run(&[], &env).await?;
    assert_eq!((code, out.as_str()), (Some(78), ""), "{err}");
    for name in [
        "LIVEKIT_URL is missing",
        "LIVEKIT_API_KEY is missing",
        "LIVEKIT_API_SECRET is missing",
        "CALL_HISTORY_ENDPOINT is missing",
        "CALL_HISTORY_MAX_CALLS",
        "did you mean CALL_HISTORY_ENDPOINT?",
    ] {
        assert!(err.contains(name), "{name} is not named in: {err}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_are_read_from_dot_env_and_config_files() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("config"))?;
    std::fs::write(dir.path().join("config/local.toml"), "max_calls = \"few\"\n")?;
    std::fs::write(dir.path().join(".env"), "CALL_HISTORY_ENDPOINT=nonsense\n")?;
    let out = Command::new(binary()).env_clear().current_dir(dir.path()).output().await?;
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(err.contains("config/local.toml:1"), "{err}");
    assert!(err.contains("CALL_HISTORY_ENDPOINT") && !err.contains("ENDPOINT is missing"), "{err}");
    Ok(())
}

#[tokio::test]
async fn the_dot_env_of_a_folder_above_is_not_read() -> Result<()> {
    let above = tempfile::tempdir()?;
    let here = above.path().join("here");
    std::fs::create_dir(&here)?;
    std::fs::write(above.path().join(".env"), "CALL_HISTORY_ENDPOINT=nonsense\n")?;
    let start = || Command::new(binary()).env_clear().current_dir(&here).output();
    let out = start().await?;
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(78));
    assert!(err.contains("CALL_HISTORY_ENDPOINT is missing"), "{err}");
    // A `.env` in the working directory is read, or an error says why it cannot be.
    for (content, wrong) in [("CALL_HISTORY_ENDPOINT=nonsense\n", "must be a URL"), ("=\n", ".env")]
    {
        std::fs::write(here.join(".env"), content)?;
        let out = start().await?;
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(78));
        assert!(err.contains(wrong), "{err}");
    }
    // A wrong line may hold a secret.
    let line = "# a comment\nCALL_HISTORY_ENDPOINT_HEADERS=X-Api-Key: hush-hush\n";
    std::fs::write(here.join(".env"), line)?;
    let err = String::from_utf8_lossy(&start().await?.stderr).into_owned();
    assert!(err.contains(".env is not right: line 2") && !err.contains("hush"), "{err}");
    std::fs::remove_file(here.join(".env"))?;
    std::fs::create_dir(here.join(".env"))?;
    let out = start().await?;
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(78));
    assert!(err.contains(".env is not right"), "a folder of that name: {err}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_secret_is_logged_clearly_and_retried_slowly() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let endpoint = Endpoint::start().await?;
    let setup = Setup::new(binary(), &venue, &endpoint, "w").with("LIVEKIT_API_SECRET", "wrong");
    let mut worker = Worker::start(setup)?;
    let line = worker
        .logs("LiveKit refused the API key or secret; set LIVEKIT_API_KEY and LIVEKIT_API_SECRET to a pair the server knows")
        .await?;
    assert_eq!(line["level"], "ERROR");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let errors = worker.log().iter().filter(|l| l["level"] == "ERROR").count();
    assert_eq!(errors, 1, "{:#?}", worker.log());
    worker.stops().await
}

#[tokio::test]
async fn an_unreachable_server_is_retried_and_health_says_so() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let endpoint = Endpoint::start().await?;
    let setup =
        Setup::new(binary(), &venue, &endpoint, "w").with("LIVEKIT_URL", "ws://127.0.0.1:1");
    let mut worker = Worker::start(setup)?;
    let addr = worker.health().await?;
    let get = async |path: &str| reqwest::get(format!("http://{addr}{path}")).await;
    assert_eq!(get("/").await?.status(), 200, "a short absence is no illness");
    let line = worker
        .logs("not registered with LiveKit, will be tried again; calls that are on go on")
        .await?;
    assert!(line["error"].to_string().contains("check host and port in LIVEKIT_URL"), "{line}");
    let unwell = async {
        while get("/").await?.status() != 503 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(POSTED, unwell).await??;
    let info: Value = get("/worker").await?.json().await?;
    assert_eq!(info["registered"], false);
    worker.stops().await
}

#[tokio::test]
async fn the_worker_page_describes_the_worker() -> Result<()> {
    let mut s = Scene::new().await?;
    let addr = s.worker.health().await?;
    let _caller = s.web("alice").await?;
    let info: Value = reqwest::get(format!("http://{addr}/worker")).await?.json().await?;
    assert_eq!(info["agent_name"], s.name.as_str());
    assert_eq!(info["worker_type"], "JT_ROOM");
    assert_eq!(info["active_jobs"], 1);
    assert_eq!(info["registered"], true);
    wait::is_page(&mut s.worker, "OK").await?;
    Ok(())
}

#[tokio::test]
async fn connect_observes_one_room_and_ends_with_it() -> Result<()> {
    let venue = Venue::from_env().await?;
    let mut endpoint = Endpoint::start().await?;
    let room = unique("room");
    let setup = || Setup::new(binary(), &venue, &endpoint, "w");
    let args = ["connect", "--room", &room];

    let mut worker = Worker::start(Setup { args: &args, ..setup() })?;
    assert_eq!(worker.ends(POSTED).await?.code(), Some(1), "a room that is not there is not made");
    worker.logs("there is no such room; start the call first").await?;
    assert!(venue.rooms().list_rooms(vec![room.clone()]).await?.is_empty());

    let caller = Person::phone(&venue, &room, "+15550123499", "active", true, &[]).await?;
    let agent = VoiceAgent::join(&venue, &room, true).await?;
    let mut worker = Worker::start(Setup { args: &args, ..setup() })?;
    worker.logs("joined").await?;
    caller.hangs_up().await?;
    drop(agent);
    let posts = endpoint.wait(&room, 1, POSTED).await?;
    assert_eq!(posts[0].record()?["phone_number"], "+15550123499");
    venue.rooms().delete_room(&room).await.ok();
    assert!(worker.ends(Duration::from_secs(60)).await?.success());
    Ok(())
}
