//! `GET /metrics`: what it counts, that it is well-formed, and that docs/metrics.md has all of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result};
use lab::endpoint::Answer;
use livekit::DisconnectReason;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{wait::eventually, *};

/// All metrics as text, in Prometheus's own format.
async fn scrape(worker: &mut Worker) -> Result<String> {
    let addr = worker.health().await?;
    let answer = reqwest::get(format!("http://{addr}/metrics")).await?;
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Ok(answer.text().await?)
}

/// The value of one series, 0 if it is not there.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|v| v.trim().parse().ok()).unwrap_or(0.0)
}

/// Waits until a series has this value.
async fn becomes(worker: &mut Worker, series: &str, due: f64) -> Result<()> {
    let mut last = String::new();
    let found = eventually(series, POSTED, async || {
        last = scrape(worker).await?;
        Ok((value(&last, series) == due).then_some(()))
    });
    found.await.with_context(|| format!("{series} is not {due}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_counted_from_its_beginning_to_the_delivery_of_its_record() -> Result<()> {
    let mut s =
        Scene::at(Venue::from_env().await?, &[("CALL_HISTORY_MAX_MEMORY_MB", "512")]).await?;
    let idle = scrape(&mut s.worker).await?;
    assert_eq!(value(&idle, "call_history_ready"), 1.0);
    assert_eq!(value(&idle, "call_history_draining"), 0.0);
    assert_eq!(value(&idle, "call_history_memory_limit_bytes"), 512e6);
    assert!(value(&idle, "call_history_memory_bytes") > 1e6, "{idle}");
    assert!(value(&idle, "call_history_open_files") > 5.0);
    let version = concat!("call_history_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
    assert_eq!(value(&idle, version), 1.0);

    s.endpoint.answers([Answer::Status(500), Answer::Status(500)]);
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("good morning", WORD).await?;
    becomes(&mut s.worker, "call_history_calls_active", 1.0).await?;
    let during = scrape(&mut s.worker).await?;
    assert_eq!(value(&during, "call_history_calls_started_total{found_by=\"dispatch\"}"), 1.0);
    let joins = "call_history_joins_total{found_by=\"dispatch\",outcome=\"joined\"}";
    assert_eq!(value(&during, joins), 1.0);
    assert_eq!(value(&during, "call_history_join_seconds_count{found_by=\"dispatch\"}"), 1.0);
    assert!(value(&during, "call_history_journal_write_seconds_count") >= 1.0);
    let node = during.lines().find(|l| l.starts_with("lk_agents_active_job_count{nodename="));
    assert!(node.is_some_and(|l| l.ends_with(" 1") || l.ends_with(" 1.0")), "{node:?}");
    assert!(during.contains("lk_agents_worker_load{nodename="));

    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    let ended = "call_history_calls_ended_total{status=\"completed\",reason=\"none\"}";
    becomes(&mut s.worker, ended, 1.0).await?;
    s.worker.logs_nth("delivered", 1, POSTED).await?;
    becomes(&mut s.worker, "call_history_delivery_seconds_count", 1.0).await?;
    let after = scrape(&mut s.worker).await?;
    for (series, due) in [
        ("call_history_calls_active", 0.0),
        ("call_history_delivery_attempts_total{outcome=\"delivered\"}", 1.0),
        ("call_history_delivery_attempts_total{outcome=\"failed\"}", 2.0),
        ("call_history_delivery_attempt_seconds_count", 3.0),
        ("call_history_seal_seconds_count", 1.0),
        ("call_history_outbox_records{folder=\"pending\"}", 0.0),
        ("call_history_outbox_oldest_seconds", 0.0),
        ("call_history_calls_evidence_total{side=\"agent\",signal=\"feed\"}", 1.0),
    ] {
        assert_eq!(value(&after, series), due, "{series}: {after}");
    }
    assert!(value(&after, "call_history_delivery_seconds_sum") > 0.0);
    assert!(!after.contains(&s.room), "a label that grows with calls: {after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_away_shows_in_the_backlog_and_the_warning() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers(std::iter::repeat_n(Answer::With(503, "retry-after", "3600".into()), 100));
    let caller = s.web("alice").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    becomes(&mut s.worker, "call_history_warning{topic=\"endpoint\"}", 1.0).await?;
    let away = scrape(&mut s.worker).await?;
    assert_eq!(value(&away, "call_history_outbox_records{folder=\"pending\"}"), 1.0);
    assert!(value(&away, "call_history_outbox_pending_bytes") > 100.0);
    assert!(value(&away, "call_history_outbox_oldest_seconds") > 0.0);
    // What was refused for good is counted too, and a new worker counts what it finds.
    s.endpoint.is_well();
    s.endpoint.answers([Answer::Status(422)]);
    assert_eq!(outbox::outbox(&s, &["retry", "--all"]).await?.0, 0);
    becomes(&mut s.worker, "call_history_outbox_records{folder=\"dead\"}", 1.0).await?;
    becomes(&mut s.worker, "call_history_delivery_attempts_total{outcome=\"refused\"}", 1.0)
        .await?;
    s.worker.stops().await?;
    s.start_again().await?;
    becomes(&mut s.worker, "call_history_outbox_records{folder=\"dead\"}", 1.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_are_well_formed_and_all_in_the_documents() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    let addr = s.worker.health().await?;
    let get = reqwest::Client::new().get(format!("http://{addr}/metrics"));
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = get.header("accept", accept).send().await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.headers()["content-type"], kind);
    assert!(open.text().await?.ends_with("# EOF\n"));

    let text = scrape(&mut s.worker).await?;
    let (code, said) = promtool(&text).await?;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = promtool("call_history_x{ 1\n").await?;
    assert_ne!(code, Some(0), "the check finds nothing: {said}");

    // Each metric with its type: what the program has, and what the document has.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/metrics.md"))?;
    let rows = document.lines().filter_map(|l| l.strip_prefix("| `"));
    let rows: BTreeMap<&str, (&str, BTreeSet<&str>)> = rows
        .filter_map(|row| {
            let (name, rest) = row.split_once('`')?;
            let (kind, labels) = (rest.split('|').nth(1)?, rest.split('|').nth(2)?);
            Some((name, (kind.trim(), labels.split('`').skip(1).step_by(2).collect())))
        })
        .collect();
    let documented: BTreeSet<String> =
        rows.iter().map(|(name, (kind, _))| format!("{name} {kind}")).collect();
    // The same of the labels of each series.
    let mut series = 0;
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).context("no name")?;
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let (_, documented) = rows.get(name).or_else(|| rows.get(bare?)).context("no row")?;
        let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
        let labels = labels.split("=\"").filter_map(|l| l.rsplit(['{', ',', '"']).next());
        let labels: BTreeSet<&str> = labels.filter(|l| !l.is_empty() && *l != "le").collect();
        assert_eq!(&labels, documented, "{line}");
        series += 1;
    }
    assert!(series > 60, "{text}");
    let types = text.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    let shown: BTreeSet<String> = types.map(str::to_owned).collect();
    assert!(shown.len() > 20, "{text}");
    // Without a limit, and before the first of their events.
    let optional = [
        "call_history_memory_limit_bytes gauge",
        "call_history_messages_ignored_total counter",
        "call_history_warning gauge",
    ];
    let missing: Vec<_> = shown.difference(&documented).collect();
    let gone: Vec<_> =
        documented.difference(&shown).filter(|n| !optional.contains(&n.as_str())).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not documented: {missing:?}; gone: {gone:?}");
    Ok(())
}

/// Alert rules and dashboard use only metrics that there are. Each alert fires where it should.
#[tokio::test]
async fn alerts_and_dashboard_fit_the_metrics() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = root.join("deploy/prometheus/alerts.yaml");
    promtool_takes("check", &rules).await?;
    promtool_takes("test", &root.join("deploy/prometheus/alerts.test.yaml")).await?;
    let documented = std::fs::read_to_string(root.join("docs/metrics.md"))?;
    let known = |name: &str| documented.contains(&format!("| `{name}` |"));
    let dashboard = std::fs::read_to_string(root.join("deploy/prometheus/dashboard.json"))?;
    let panels: Value = serde_json::from_str(&dashboard)?;
    let targets = panels["panels"].as_array().into_iter().flatten();
    let mut queries: Vec<String> = targets
        .flat_map(|p| p["targets"].as_array().into_iter().flatten())
        .filter_map(|t| t["expr"].as_str().map(str::to_owned))
        .collect();
    assert!(queries.len() > 15);
    // Promtool reads no dashboard, but rules with the same queries.
    let record = |query: &String| serde_json::json!({"record": "of:dashboard", "expr": query});
    let rules_of = queries.iter().map(record).collect::<Vec<_>>();
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules_of}]});
    let of_dashboard = tempfile::NamedTempFile::new()?;
    std::fs::write(of_dashboard.path(), groups.to_string())?;
    promtool_takes("check", of_dashboard.path()).await?;
    queries.push(std::fs::read_to_string(&rules)?);
    let mut used = BTreeSet::new();
    for query in &queries {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        used.extend(
            words.filter(|w| w.starts_with("call_history_") || w.starts_with("lk_agents_")),
        );
    }
    for name in used {
        let histogram = name.trim_end_matches("_bucket");
        assert!(known(name) || known(histogram), "{name} is not a metric");
    }
    Ok(())
}

/// Prometheus's own tool reads these rules, or tests of rules, without a fault.
async fn promtool_takes(how: &str, file: &Path) -> Result<()> {
    let out = Command::new("promtool").args([how, "rules"]).arg(file).output().await;
    let out = out.context("promtool is needed: apt-get install prometheus")?;
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success(), "{}: {said}", file.display());
    Ok(())
}

/// Checks a text as Prometheus's own tool does. LiveKit's two names are left out, which its rules dislike.
async fn promtool(text: &str) -> Result<(Option<i32>, String)> {
    let ours: Vec<&str> = text.lines().filter(|l| !l.contains("lk_agents")).collect();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("promtool is needed: apt-get install prometheus")?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all((ours.join("\n") + "\n").as_bytes()).await?;
    drop(input);
    let out = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await??;
    let said = [out.stdout, out.stderr].concat();
    Ok((out.status.code(), String::from_utf8_lossy(&said).into_owned()))
}
