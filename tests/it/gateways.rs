//! Endpoints as people have them: slow, behind a gateway with keys and limits, with certificates of their
//! own.

use anyhow::Result;
use lab::{
    endpoint::Answer,
    gateway::{Authority, Identity, TlsFront, self_signed},
    worker::JWT_SECRET,
};

use super::*;

/// With which a record has bulk.
const FULL: [(&str, &str); 2] =
    [("CALL_HISTORY_DETAILS", "true"), ("CALL_HISTORY_TRANSCRIPT", "true")];
/// No retry of a test waits longer.
const RETRIED: Duration = Duration::from_secs(90);

/// A call in which `lines` lines are spoken.
async fn talk(s: &mut Scene, lines: usize) -> Result<()> {
    let caller = s.phone("+15550123460").await?;
    let mut agent = s.agent().await?;
    for n in 0..lines {
        let text = format!("line {n} {}", "of many words ".repeat(40));
        agent.hears(&caller.identity, &text, Duration::ZERO).await?;
    }
    agent.says("thank you", WORD).await?;
    caller.hangs_up().await
}

/// The error of the next delivery that failed.
async fn error(worker: &mut Worker) -> Result<String> {
    let line = worker.logs_nth("not delivered, will be tried again", 1, RETRIED).await?;
    Ok(line["error"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_twelve_seconds_is_waited_for_and_holds_up_no_other_record()
-> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers([Answer::After(Duration::from_secs(12))]);
    s.phone("+15550123460").await?.hangs_up().await?;
    s.worker.logs_nth("call ended", 1, POSTED).await?;
    let second = unique("second");
    let caller = s.web_in(&second, "bob").await?;
    s.worker.logs_nth("joined", 2, POSTED).await?;
    caller.leaves(livekit::DisconnectReason::ClientInitiated).await?;
    s.endpoint.wait(&second, 1, POSTED).await?;
    let slow = s.posts(1).await?;
    s.worker.logs_nth("delivered", 2, POSTED).await?;
    assert_eq!((slow.len(), s.endpoint.posts().len()), (1, 2), "each record was sent once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_ends_after_the_time_of_the_setting() -> Result<()> {
    let timeout = [("CALL_HISTORY_ENDPOINT_TIMEOUT", "1")];
    let mut s = Scene::at(Venue::from_env().await?, &timeout).await?;
    s.endpoint.answers([Answer::After(Duration::from_secs(20))]);
    s.phone("+15550123460").await?.hangs_up().await?;
    assert!(error(&mut s.worker).await?.contains("timed out"));
    s.worker.logs("delivered").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_gateway_are_sent_with_the_signature() -> Result<()> {
    let headers = "X-Api-Key: hush hush\nCF-Access-Client-Id: id.access";
    let env = [("CALL_HISTORY_ENDPOINT_HEADERS", headers)];
    let mut s = Scene::at(Venue::from_env().await?, &env).await?;
    s.phone("+15550123460").await?.hangs_up().await?;
    let post = s.posts(1).await?.remove(0);
    assert_eq!(post.header("x-api-key"), "hush hush");
    assert_eq!(post.header("cf-access-client-id"), "id.access");
    assert_eq!(post.headers.get_all("authorization").iter().count(), 1);
    post.check_signature(JWT_SECRET)?;
    assert!(!format!("{:?}", s.worker.log()).contains("hush"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_where_a_redirect_points_and_shows_no_secret_of_the_path() -> Result<()> {
    let endpoint = Endpoint::start().await?;
    let url = format!("http://{}/hooks/hush-hush", endpoint.addr);
    let env = [("CALL_HISTORY_ENDPOINT", url.as_str())];
    let mut s = Scene::with_endpoint(Venue::from_env().await?, endpoint, &env, &[]).await?;
    let to = "https://new.example.com/v2/hooks/hush-hush?token=hush-hush";
    // The endpoint has no such path of its own: it answers by this.
    s.endpoint.elsewhere(Answer::With(308, "location", to.into()));
    s.phone("+15550123460").await?.hangs_up().await?;
    let said = error(&mut s.worker).await?;
    assert!(said.contains("308") && said.contains("https://new.example.com/v2/…/…"), "{said}");
    assert!(said.contains("CALL_HISTORY_ENDPOINT"), "{said}");
    let health = s.worker.health().await?;
    let page = reqwest_text(&format!("http://{health}/")).await?;
    let log = format!("{:?}{page}", s.worker.log());
    assert!(!log.contains("hush-hush"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_that_differs_by_little_is_named_as_what_it_is() -> Result<()> {
    let endpoint = Endpoint::start().await?;
    let url = format!("http://{}/hooks", endpoint.addr);
    let env = [("CALL_HISTORY_ENDPOINT", url.as_str())];
    let mut s = Scene::with_endpoint(Venue::from_env().await?, endpoint, &env, &[]).await?;
    let https = url.replace("http:", "https:");
    for (to, due) in [
        (format!("{url}/"), "with a slash at its end"),
        ("/hooks/".into(), "with a slash at its end"),
        (url.clone(), "the very address"),
        (https, "begin with https://"),
    ] {
        s.endpoint.elsewhere(Answer::With(308, "location", to.clone()));
        s.phone("+15550123461").await?.hangs_up().await?;
        let said = |l: &serde_json::Value| l["error"].as_str().is_some_and(|e| e.contains(due));
        let log = async || Ok(s.worker.log().iter().any(said).then_some(()));
        wait::eventually(&to, Duration::from_secs(60), log).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_be_connected_to_is_named_at_the_start() -> Result<()> {
    let env = [
        ("CALL_HISTORY_ENDPOINT", "http://127.0.0.1:1/calls"),
        ("CALL_HISTORY_DISCOVERY", "dispatch"),
    ];
    let mut s = Scene::at(Venue::from_env().await?, &env).await?;
    let line = s
        .worker
        .logs("the endpoint cannot be connected to; records will wait until it can")
        .await?;
    assert!(line["error"].as_str().unwrap_or("").contains("nothing listens there"), "{line}");
    let line = s.worker.logs("how calls are found").await?;
    assert_eq!(line["layers"], "dispatch");
    s.worker
        .logs(
            "rooms are not looked for: CALL_HISTORY_DISCOVERY lacks reconcile, so calls that no other layer reports \
             are not seen",
        )
        .await?;
    Ok(())
}

async fn reqwest_text(url: &str) -> Result<String> {
    Ok(reqwest::get(url).await?.text().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_is_sent_once_more_without_its_bulk() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &FULL).await?;
    s.endpoint.answers([Answer::Status(413)]);
    talk(&mut s, 3).await?;
    let posts = s.posts(2).await?;
    let (whole, small) = (posts[0].record()?, posts[1].record()?);
    assert!(whole["details"].get("reduced").is_none());
    assert_eq!(small["details"]["reduced"], true);
    assert_eq!(small["details"]["transcript"], serde_json::json!([]));
    assert_eq!(small["metrics"], whole["metrics"]);
    for key in ["call_id", "start_time", "end_time", "outcomes", "stage_timeline"] {
        assert_eq!(small[key], whole[key]);
    }
    posts[1].check_signature(JWT_SECRET)?;
    s.worker.logs("delivered").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_too_large_in_any_case_is_a_dead_letter() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &FULL).await?;
    s.endpoint.answers([Answer::Status(413), Answer::Status(413)]);
    talk(&mut s, 1).await?;
    s.posts(2).await?;
    let dead = s.worker.data.join("dead");
    let deadline = tokio::time::Instant::now() + POSTED;
    while std::fs::read_dir(&dead).map_or(0, Iterator::count) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", s.worker.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(s.endpoint.posts().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_cuts_the_transcript_in_its_middle_and_no_number() -> Result<()> {
    let mut env = FULL.to_vec();
    env.push(("CALL_HISTORY_MAX_BODY_KB", "40"));
    let mut s = Scene::at(Venue::from_env().await?, &env).await?;
    talk(&mut s, 60).await?;
    let post = s.posts(1).await?.remove(0);
    post.check_signature(JWT_SECRET)?;
    let size = post.body.len();
    assert!((35_000..=40_000).contains(&size), "{size}");
    let r = post.record()?;
    assert_eq!(r["details"]["reduced"], true);
    assert_eq!(r["metrics"]["total_user_utterances"], 60);
    let lines = r["details"]["transcript"].as_array().unwrap();
    assert!(lines[0]["text"].as_str().unwrap().starts_with("line 0 "), "{lines:?}");
    assert_eq!(lines.last().unwrap()["text"], "thank you");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_goes_compressed_and_whole_where_it_fits_so() -> Result<()> {
    let mut env = FULL.to_vec();
    env.extend([("CALL_HISTORY_MAX_BODY_KB", "40"), ("CALL_HISTORY_ENDPOINT_GZIP", "true")]);
    let mut s = Scene::at(Venue::from_env().await?, &env).await?;
    talk(&mut s, 60).await?;
    let post = s.posts(1).await?.remove(0);
    assert_eq!(post.header("content-encoding"), "gzip");
    post.check_signature(JWT_SECRET)?;
    let r = post.record()?;
    assert!(post.body.len() < 40_000 && r.to_string().len() > 40_000);
    assert!(r["details"].get("reduced").is_none());
    assert_eq!(r["details"]["transcript"].as_array().unwrap().len(), 61);
    Ok(())
}

/// A scene whose endpoint is behind TLS with this identity.
async fn behind_tls(
    identity: &Identity,
    clients: Option<&Authority>,
    env: &[(&str, &str)],
) -> Result<(Scene, TlsFront)> {
    let endpoint = Endpoint::start().await?;
    let front = TlsFront::start(identity, clients, endpoint.addr).await?;
    let url = format!("https://localhost:{}/calls", front.addr.port());
    let mut all = vec![("CALL_HISTORY_ENDPOINT", url.as_str())];
    all.extend_from_slice(env);
    let scene = Scene::with_endpoint(Venue::from_env().await?, endpoint, &all, &[]).await?;
    Ok((scene, front))
}

async fn arrives(identity: &Identity, env: &[(&str, &str)]) -> Result<()> {
    let (mut s, _front) = behind_tls(identity, None, env).await?;
    s.phone("+15550123460").await?.hangs_up().await?;
    s.worker.logs_nth("delivered", 1, POSTED).await?;
    assert_eq!(s.posts(1).await?.len(), 1);
    Ok(())
}

/// What the log says of an endpoint that is not trusted.
async fn refused(identity: &Identity, clients: Option<&Authority>, ca: &str) -> Result<String> {
    let env = [("CALL_HISTORY_ENDPOINT_CA", ca)];
    let (mut s, _front) = behind_tls(identity, clients, &env).await?;
    s.phone("+15550123460").await?.hangs_up().await?;
    let said = error(&mut s.worker).await?;
    assert!(s.endpoint.posts().is_empty());
    Ok(said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_and_a_self_signed_certificate_are_trusted_by_a_setting() -> Result<()>
{
    let authority = Authority::new()?;
    let issued = authority.issues("localhost")?;
    arrives(&issued, &[("CALL_HISTORY_ENDPOINT_CA", &authority.pem())]).await?;
    let own = self_signed("localhost")?;
    arrives(&own, &[("CALL_HISTORY_ENDPOINT_CA", &own.cert)]).await?;
    // From the system's store, which SSL_CERT_FILE replaces.
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("trusted.pem");
    std::fs::write(&file, &own.cert)?;
    arrives(&own, &[("SSL_CERT_FILE", file.to_str().unwrap())]).await?;
    arrives(&own, &[("CALL_HISTORY_ENDPOINT_CA_FILE", file.to_str().unwrap())]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_to_who_asks_for_one() -> Result<()> {
    let authority = Authority::new()?;
    let (server, client) = (authority.issues("localhost")?, authority.issues("worker")?);
    let env = [
        ("CALL_HISTORY_ENDPOINT_CA", authority.pem()),
        ("CALL_HISTORY_ENDPOINT_CERT", client.cert),
        ("CALL_HISTORY_ENDPOINT_KEY", client.key),
    ];
    let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let (mut s, _front) = behind_tls(&server, Some(&authority), &env).await?;
    s.phone("+15550123460").await?.hangs_up().await?;
    assert_eq!(s.posts(1).await?.len(), 1);

    let said = refused(&server, Some(&authority), &authority.pem()).await?;
    assert!(said.contains("CALL_HISTORY_ENDPOINT_CERT"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_error_of_tls_names_what_mends_it() -> Result<()> {
    let (authority, other) = (Authority::new()?, Authority::new()?);
    let pem = other.pem();
    let said = refused(&authority.issues("localhost")?, None, &pem).await?;
    assert!(said.contains("not trusted") && said.contains("CALL_HISTORY_ENDPOINT_CA"), "{said}");
    let said = refused(&self_signed("localhost")?, None, &pem).await?;
    assert!(said.contains("CALL_HISTORY_ENDPOINT_CA"), "{said}");
    let said = refused(&authority.issues("elsewhere.example.com")?, None, &authority.pem()).await?;
    assert!(said.contains("another name"), "{said}");
    let said = refused(&authority.issues_expired("localhost")?, None, &authority.pem()).await?;
    assert!(said.contains("renew it"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_endpoint_under_https_is_recognized() -> Result<()> {
    let endpoint = Endpoint::start().await?;
    let url = format!("https://{}/calls", endpoint.addr);
    let env = [("CALL_HISTORY_ENDPOINT", url.as_str())];
    let mut s = Scene::with_endpoint(Venue::from_env().await?, endpoint, &env, &[]).await?;
    s.phone("+15550123460").await?.hangs_up().await?;
    let said = error(&mut s.worker).await?;
    assert!(said.contains("does not speak TLS"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_sent_is_named_at_the_start() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (own, other) = (self_signed("a")?, self_signed("b")?);
    let start = async |env: &[(&str, &str)]| -> Result<String> {
        let out = tokio::process::Command::new(binary())
            .env_clear()
            .envs([("LIVEKIT_URL", "ws://localhost:1"), ("LIVEKIT_API_KEY", "k")])
            .envs([("LIVEKIT_API_SECRET", "s"), ("CALL_HISTORY_ENDPOINT", "https://localhost/")])
            .envs(env.iter().copied())
            .current_dir(dir.path())
            .kill_on_drop(true)
            .output()
            .await?;
        assert_eq!(out.status.code(), Some(78));
        Ok(String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let said = start(&[
        ("CALL_HISTORY_ENDPOINT_HEADERS", "X-Api-Key hush-hush"),
        (
            "CALL_HISTORY_ENDPOINT_CA",
            "-----BEGIN CERTIFICATE-----\nhush\n-----END CERTIFICATE-----",
        ),
        ("CALL_HISTORY_ENDPOINT_TIMEOUT", "soon"),
        ("https_proxy", "ftp://hush-hush:1"),
        ("ALL_PROXY", "socks5://hush-hush:1"),
    ])
    .await?;
    assert!(said.contains("https_proxy (from the environment) must be a URL"), "{said}");
    assert!(said.contains("ALL_PROXY (from the environment) names a SOCKS proxy"), "{said}");
    for name in ["_HEADERS", "_CA", "_TIMEOUT"] {
        assert!(said.contains(&format!("CALL_HISTORY_ENDPOINT{name}")), "{said}");
    }
    assert!(!said.contains("hush"), "{said}");
    let (cert, key) =
        (("CALL_HISTORY_ENDPOINT_CERT", &*own.cert), ("CALL_HISTORY_ENDPOINT_KEY", &*other.key));
    let said = start(&[cert, key]).await?;
    assert!(said.contains("does not fit its certificate"), "{said}");
    let both = [("CALL_HISTORY_ENDPOINT", "https://u:p@localhost/"), ("JWT_SECRET", "s")];
    assert!(start(&both).await?.contains("both want the header Authorization"));
    Ok(())
}
