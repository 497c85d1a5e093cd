//! The commands that the documents show, run as they stand there.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Stdio,
};

use anyhow::{bail, ensure};
use lab::{endpoint::Answer, secrets, signal};
use livekit::DisconnectReason;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{documents::pages, wait::eventually, *};

/// Code of a page: the lines of its blocks, and what stands between backticks elsewhere.
fn code(text: &str) -> Vec<&str> {
    let mut all = vec![];
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block || line.starts_with("    ") {
            all.push(line.trim());
        } else {
            all.extend(line.split('`').skip(1).step_by(2));
        }
    }
    all
}

/// A command's words, without a comment, a redirection, or words that explain it. What is said about its options is not read.
fn words<'a>(code: &'a str, program: &str) -> Option<Vec<&'a str>> {
    let rest = code.strip_prefix(program).filter(|rest| rest.starts_with(' '))?;
    let end = ["  ", " #", " >", " |", " &"].iter().filter_map(|mark| rest.find(mark)).min();
    Some(rest[..end.unwrap_or(rest.len())].split_whitespace().collect())
}

/// Each command of ours in the documents, and what it is here. A word in capitals stands for something: see [`Names`].
const COMMANDS: &[(&str, Is)] = &[
    ("", Is::Run("registered worker")),
    ("connect --room NAME", Is::Run("joined")),
    ("receive", Is::Run("receiver started")),
    ("connect", Is::Named),
    ("outbox retry", Is::Named),
    ("replay", Is::Named),
    ("replay --explain", Is::Named),
    ("completions bash", Is::Ended("complete")),
    ("config", Is::Ended("CALL_HISTORY_ENDPOINT")),
    ("config --check", Is::Ended("")),
    ("doctor", Is::Ended("agent_name")),
    ("doctor --send-sample", Is::Ended("took the record")),
    ("man", Is::Ended(".TH")),
    ("outbox dead", Is::Ended("answered 422")),
    ("outbox export", Is::Ended("\"room_name\":\"waiting\"")),
    ("outbox list", Is::Ended("waiting")),
    ("outbox purge --sent --older-than 1h", Is::Ended("deleted")),
    ("outbox show CALL_ID", Is::Ended("answered 422")),
    ("outbox retry CALL_ID", Is::Ended("will be tried")),
    ("outbox retry --all", Is::Ended("will be tried")),
    ("probe", Is::Ended("")),
    ("receive password", Is::Ended("password")),
    ("receive token dashboard --scopes read", Is::Ended("chr_")),
    ("replay NAME.jsonl", Is::Ended("\"call_id\"")),
    ("replay --explain JOURNAL", Is::Ended("in room caller-cuts")),
    ("schema", Is::Ended("\"$schema\"")),
];

enum Is {
    /// The beginning of a longer command, which the documents have too.
    Named,
    /// Ends by itself with status 0, and has printed this.
    Ended(&'static str),
    /// Runs until it is stopped, or its room ends, and logs this.
    Run(&'static str),
}

/// A program of ours in a folder, with these variables and no others.
fn program(name: &str, args: &[&str], folder: &Path, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary().with_file_name(name));
    command.args(args).env_clear().envs(env.iter().copied()).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What a program prints until it ends with status 0. `typed`: its standard input.
async fn printed(mut command: Command, typed: &str) -> Result<String> {
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("no input")?;
    // A program that does not read it may have ended.
    let _ = stdin.write_all(typed.as_bytes()).await;
    drop(stdin);
    let out = timeout(POSTED, child.wait_with_output()).await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, faults) = (text(&out.stdout), text(&out.stderr));
    ensure!(out.status.success(), "it ended with {}:\n{said}{faults}", out.status);
    Ok(said)
}

/// A program of ours that runs, and the lines of its log since then with a phone number, a spoken word or a secret.
struct Running(Child, JoinHandle<Vec<String>>);

impl Running {
    /// Waits until it has logged `line`, which is returned whole.
    async fn until(mut command: Command, line: &str) -> Result<(Self, String)> {
        let mut child = command.stderr(Stdio::inherit()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut before = String::new();
        let logged = timeout(POSTED, async {
            while let Some(next) = lines.next_line().await? {
                if next.contains(line) {
                    return anyhow::Ok(next);
                }
                before.push_str(&next);
                before.push('\n');
            }
            bail!("it ended without {line:?}")
        });
        let logged = match logged.await.context("it does not come") {
            Ok(Ok(logged)) => logged,
            Ok(Err(e)) | Err(e) => return Err(e.context(before)),
        };
        // Read to the end, so that it never waits.
        let leaks = tokio::spawn(async move {
            let mut leaks: Vec<String> = before.lines().filter_map(leak).collect();
            while let Ok(Some(line)) = lines.next_line().await {
                leaks.extend(leak(&line));
            }
            leaks
        });
        Ok((Self(child, leaks), logged))
    }

    /// Has it end, if it has not, with status 0.
    async fn stops(mut self) -> Result<()> {
        if let Some(pid) = self.0.id() {
            signal::send(pid, signal::TERM)?;
        }
        let status = timeout(POSTED, self.0.wait()).await??;
        ensure!(status.success(), "it ended with {status}");
        let leaks = self.1.await?;
        ensure!(
            leaks.is_empty(),
            "a phone number, a spoken word or a secret is logged: {leaks:#?}"
        );
        Ok(())
    }
}

fn leak(line: &str) -> Option<String> {
    secrets::in_line(line).map(|secret| format!("{secret:?} in {line}"))
}

/// The README's first call on one's own server, in a folder with nothing but `.env`: receiver, worker, `make call`,
/// and the record in the receiver's API.
#[cfg(feature = "receiver")]
#[tokio::test(flavor = "multi_thread")]
async fn a_first_call_comes_out_as_the_readme_says() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venue = Venue::dev(lab::server::quick()).await?;
    secrets::keep(&venue.api_secret);
    let folder = tempfile::tempdir()?;
    let example = std::fs::read_to_string(root.join(".env.example"))?;
    // What the README asks for, and ports that nobody else has.
    let fill_in = |receiver: &str| -> Result<()> {
        let mut text = example.clone();
        for (asked, filled_in) in [
            ("LIVEKIT_URL=ws://127.0.0.1:7880", format!("LIVEKIT_URL={}", venue.url)),
            ("LIVEKIT_API_KEY=devkey", format!("LIVEKIT_API_KEY={}", venue.api_key)),
            ("LIVEKIT_API_SECRET=secret", format!("LIVEKIT_API_SECRET={}", venue.api_secret)),
            ("http://127.0.0.1:8082/", format!("http://{receiver}/")),
            (
                "#CALL_HISTORY_HTTP_ADDR=0.0.0.0:8081",
                "CALL_HISTORY_HTTP_ADDR=127.0.0.1:0".to_owned(),
            ),
            (
                "#CALL_HISTORY_RECEIVE_ADDR=127.0.0.1:8082",
                format!("CALL_HISTORY_RECEIVE_ADDR={receiver}"),
            ),
        ] {
            assert!(text.contains(asked), "{asked} is not in .env.example");
            text = text.replace(asked, &filled_in);
        }
        Ok(std::fs::write(folder.path().join(".env"), text)?)
    };
    fill_in("127.0.0.1:0")?;
    let ours = |args: &[&str]| program("call-history", args, folder.path(), &[]);
    let (receiver, line) = Running::until(ours(&["receive"]), "receiver started").await?;
    let at = line.split("127.0.0.1:").nth(1).context("no address")?;
    let port: String = at.chars().take_while(char::is_ascii_digit).collect();
    let receiver_addr = format!("127.0.0.1:{port}");
    fill_in(&receiver_addr)?;
    let (worker, _) = Running::until(ours(&[]), "registered worker").await?;
    printed(program("call", &[], folder.path(), &[]), "").await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let get = async |path: String| -> Result<Value> {
        let answer = client.get(format!("http://{receiver_addr}{path}")).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    };
    let listed = eventually("the call in the list", POSTED, async || {
        Ok(get("/api/calls".into()).await?["calls"][0]["call_id"].as_str().map(str::to_owned))
    });
    let call = get(format!("/api/calls/{}", listed.await?)).await?;
    assert_eq!(call["status"], "completed", "{call}");
    let metrics = &call["metrics"];
    assert_eq!(metrics["total_agent_utterances"], 2, "{call}");
    assert_eq!(metrics["total_user_utterances"], 1, "{call}");
    worker.stops().await?;
    receiver.stops().await
}

/// What the words in capitals stand for.
struct Names {
    call_id: String,
    journal: String,
    room: String,
}

impl Names {
    fn filled_in(&self, command: &str) -> Vec<String> {
        let fill_in = |word: &str| match word {
            "CALL_ID" => self.call_id.clone(),
            "JOURNAL" | "NAME.jsonl" => self.journal.clone(),
            "NAME" => self.room.clone(),
            word => word.to_owned(),
        };
        command.split_whitespace().map(fill_in).collect()
    }
}

/// Commands of ours in the documents, each with a page that has it. `A|B` is two.
fn documented() -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for page in pages()? {
        let text = std::fs::read_to_string(&page)?;
        for code in code(&text) {
            // A path before it is that of a build.
            let code =
                code.trim_start_matches("target/release/").trim_start_matches("target/debug/");
            let Some(words) = words(code, "call-history") else { continue };
            let words = words.join(" ");
            let command = match words.split_once('|') {
                Some((before, other)) => {
                    all.insert(before.to_owned(), page.display().to_string());
                    let kept = before.rsplit_once(' ').map_or("", |(kept, _)| kept);
                    format!("{kept} {other}")
                }
                None => words,
            };
            all.insert(command, page.display().to_string());
        }
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_ours_in_the_documents_does_what_it_is_for() -> Result<()> {
    let documented = documented()?;
    let known: BTreeSet<&str> = COMMANDS.iter().map(|(command, _)| *command).collect();
    let unknown: Vec<_> = documented.iter().filter(|(c, _)| !known.contains(c.as_str())).collect();
    assert!(unknown.is_empty(), "nobody runs these: {unknown:#?}");
    let mut s = Scene::breakable().await?;
    // A record that the endpoint refuses: there is something to list, to show and to try again.
    s.endpoint.answers([Answer::Status(422)]);
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let refused = "refused: the endpoint will not take this record; it is kept in dead/";
    let call_id = s.worker.logs(refused).await?["call_id"].as_str().context("no id")?.to_owned();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let journal = root.join("tests/journals/caller-cuts-the-agent-off.jsonl");
    let room = unique("connected");
    let names = Names { call_id, journal: journal.display().to_string(), room: room.clone() };
    let http_addr = s.worker.health().await?;
    let own = tempfile::tempdir()?;
    let of_worker = s.data.path().join("data");
    // And one that waits, which the worker does not know of yet.
    wait::put_waiting(&of_worker, 1, None)?;
    for (command, is) in COMMANDS {
        assert!(documented.contains_key(*command), "{command:?} is in no document");
        let args = names.filled_in(command);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // Those that run have a folder and ports of their own, the others the running worker's.
        let (data, http_addr) = match is {
            Is::Run(_) => (own.path().as_os_str(), "127.0.0.1:0"),
            _ => (of_worker.as_os_str(), http_addr.as_str()),
        };
        let env = [
            ("LIVEKIT_URL", s.venue.url.as_str()),
            ("LIVEKIT_API_KEY", &s.venue.api_key),
            ("LIVEKIT_API_SECRET", &s.venue.api_secret),
            ("CALL_HISTORY_ENDPOINT", &s.endpoint.url),
            ("CALL_HISTORY_AGENT_NAME", &s.name),
            ("CALL_HISTORY_DATA_DIR", data.to_str().context("a path")?),
            ("CALL_HISTORY_HTTP_ADDR", http_addr),
            ("CALL_HISTORY_RECEIVE_ADDR", "127.0.0.1:0"),
            // So few that any machine has the files and the memory for them.
            ("CALL_HISTORY_MAX_CALLS", "10"),
        ];
        let run = program("call-history", &args, own.path(), &env);
        let began = Instant::now();
        let failed = || format!("call-history {command}");
        match is {
            Is::Named => {
                let longer = format!("{command} ");
                assert!(known.iter().any(|k| k.starts_with(&longer)), "{command} is all there is");
            }
            Is::Ended(expected) => {
                let mut said = printed(run, "a password of the page\n").await;
                // These have limits of their own, which a machine that stands still passes.
                while said.is_err()
                    && (command.starts_with("doctor") || *command == "probe")
                    && began.elapsed() < POSTED
                {
                    said = printed(program("call-history", &args, own.path(), &env), "").await;
                }
                let said = said.with_context(failed)?;
                assert!(said.contains(expected), "{command}: {expected:?} is not in\n{said}");
            }
            Is::Run(line) => {
                // A room to connect to.
                let caller = match command.starts_with("connect") {
                    true => Some(Person::phone(&s.venue, &room, "", "active", true, &[]).await?),
                    false => None,
                };
                let (run, _) = Running::until(run, line).await.with_context(failed)?;
                if let Some(caller) = caller {
                    caller.hangs_up().await?;
                }
                run.stops().await.with_context(failed)?;
            }
        }
    }
    Ok(())
}

#[test]
fn every_target_of_make_in_the_documents_exists() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = std::fs::read_to_string(root.join("Makefile"))?;
    let mut targets = BTreeSet::new();
    for page in pages()? {
        let text = std::fs::read_to_string(page)?;
        targets.extend(
            code(&text).into_iter().filter_map(|c| words(c, "make")).flatten().map(str::to_owned),
        );
    }
    // The others are settings, such as SHORT=1.
    targets.retain(|t| t.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    assert!(targets.len() > 10, "{targets:?}");
    targets.retain(|t| !makefile.contains(&format!("\n{t}:")));
    assert!(targets.is_empty(), "{targets:?}");
    Ok(())
}

/// Each `cargo test` and `pytest` of the documents with a part of a name runs at least one test.
#[test]
fn every_name_of_a_test_in_the_documents_has_tests() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    let mut folders = vec![root.join("src"), root.join("tests/it"), root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                sources.push_str(&std::fs::read_to_string(path)?);
            }
        }
    }
    for entry in std::fs::read_dir(root.join("e2e"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "py") {
            sources.push_str(&std::fs::read_to_string(path)?.replace("def ", "fn "));
        }
    }
    let mut names = BTreeSet::new();
    for page in pages()? {
        let text = std::fs::read_to_string(page)?;
        let pytest = code(&text).into_iter().filter_map(|c| words(c, "../.venv/bin/pytest"));
        names.extend(pytest.filter_map(|w| w.last().map(|name| (*name).to_owned())));
        for words in code(&text).into_iter().filter_map(|c| words(c, "cargo test")) {
            // What follows a flag with a value is that value.
            let after_value = words.len() >= 2
                && ["-p", "--test", "--manifest-path"].contains(&words[words.len() - 2]);
            names.extend(
                words
                    .last()
                    .filter(|w| !w.starts_with('-') && !after_value)
                    .map(|w| (*w).to_owned()),
            );
        }
    }
    assert!(names.len() >= 4, "{names:?}");
    names.retain(|name| {
        let module = name.strip_suffix("::").map(|module| format!("mod {module};"));
        let functions =
            sources.split("fn ").skip(1).map(|f| f.split(['(', '<']).next().unwrap_or(f));
        let found = module.is_some_and(|m| sources.contains(&m))
            || functions.into_iter().any(|f| f.contains(name.as_str()));
        !found && !sources.contains(&format!("mod {name}"))
    });
    assert!(names.is_empty(), "no test has these in its name: {names:?}");
    Ok(())
}
