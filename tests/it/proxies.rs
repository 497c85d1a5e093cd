//! Everything that goes out goes through the proxy of the environment: records, LiveKit's API and websockets.

use anyhow::Result;
use lab::{
    gateway::{Authority, TlsFront},
    proxy::{HttpProxy, Policy},
};

use super::*;

/// A name that only the proxy resolves.
const ELSEWHERE: &str = "elsewhere.test";
const NOT_LISTED: &str = "LiveKit's rooms cannot be listed; calls that nobody dispatched us to are not found until they can";

/// A scene in which LiveKit and the endpoint are reached through a proxy, as `variables` say.
struct Proxied {
    venue: Venue,
    endpoint: Endpoint,
    livekit: String,
    records: String,
}

impl Proxied {
    async fn new() -> Result<Self> {
        let (venue, endpoint) = (Venue::from_env().await?, Endpoint::start().await?);
        let port = venue.addr()?.port();
        let livekit = format!("ws://{ELSEWHERE}:{port}");
        let records = format!("http://{ELSEWHERE}:{}/calls", endpoint.addr.port());
        Ok(Self { venue, endpoint, livekit, records })
    }

    fn env<'a>(&'a self, variables: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut env =
            vec![("LIVEKIT_URL", &*self.livekit), ("CALL_HISTORY_ENDPOINT", &*self.records)];
        env.extend_from_slice(variables);
        env
    }

    async fn scene(self, variables: &[(&str, &str)]) -> Result<Scene> {
        let env: Vec<(String, String)> =
            (self.env(variables).iter()).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (&**k, &**v)).collect();
        Scene::with_endpoint(self.venue, self.endpoint, &env, &[]).await
    }

    /// Starts a worker that cannot register; returns what its log says of that.
    async fn unregistered(&self, variables: &[(&str, &str)]) -> Result<String> {
        let data = tempfile::tempdir()?;
        let owned = |all: Vec<(&str, &str)>| -> Vec<(String, String)> {
            all.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
        };
        let env = owned(self.env(variables));
        let dir = data.path().join("data");
        let setup = setup(&self.venue, &self.endpoint, &unique("worker"), &env, &[], &dir);
        let mut worker = Worker::start(setup)?;
        let line = worker
            .logs("not registered with LiveKit, will be tried again; calls that are on go on")
            .await?;
        let listed = worker.logs(NOT_LISTED).await?;
        assert!(listed["error"].as_str().unwrap().contains("through the proxy"), "{listed}");
        assert!(!format!("{:?}", worker.log()).contains("hush"));
        Ok(line["error"].as_str().unwrap_or_default().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_observed_and_delivered_through_a_proxy_that_asks_for_a_password() -> Result<()> {
    let proxy = HttpProxy::start(Policy::AsksFor("me", "hush hush")).await?;
    let url = format!("http://me:hush%20hush@{}", proxy.addr);
    let mut s = Proxied::new().await?.scene(&[("HTTP_PROXY", &url)]).await?;
    let caller = s.phone("+15550123470").await?;
    let mut agent = s.agent().await?;
    agent.says("hello there", WORD).await?;
    agent.hears(&caller.identity, "a table please", WORD).await?;
    caller.hangs_up().await?;
    let record = s.posts(1).await?.remove(0).record()?;
    assert_eq!(record["metrics"]["total_user_utterances"], 1);
    let asked = proxy.asked();
    let has = |start: &str| asked.iter().any(|line| line.starts_with(start));
    let livekit = s.venue.addr()?.port();
    assert!(has(&format!("CONNECT {ELSEWHERE}:{livekit} ")), "{asked:?}");
    assert!(has(&format!("POST http://{ELSEWHERE}:{livekit}/twirp/livekit.RoomService/")));
    assert!(has(&format!("POST http://{ELSEWHERE}:{}/calls", s.endpoint.addr.port())));
    let websockets = asked.iter().filter(|line| line.starts_with("CONNECT")).count();
    assert!(websockets >= 2, "the registration and the room: {asked:?}");
    assert!(!format!("{:?}", s.worker.log()).contains("hush"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_or_wants_a_password_is_named_with_what_to_do() -> Result<()> {
    let p = Proxied::new().await?;
    let refusing = HttpProxy::start(Policy::Refuses).await?;
    let url = format!("http://{}", refusing.addr);
    let said = p.unregistered(&[("http_proxy", &url)]).await?;
    assert!(said.contains(&format!("through the proxy {url}")), "{said}");
    assert!(said.contains("refuses connections to this host"), "{said}");

    let asking = HttpProxy::start(Policy::AsksFor("me", "right")).await?;
    let url = format!("http://me:hush@{}", asking.addr);
    let said = p.unregistered(&[("ALL_PROXY", &url)]).await?;
    assert!(said.contains("asks for a user and password"), "{said}");
    // Nobody listens there.
    let gone = format!("http://{}", free_addr().await?);
    let said = p.unregistered(&[("HTTP_PROXY", &gone)]).await?;
    assert!(said.contains(&format!("through the proxy {gone}")), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_proxy_refuses_wait_and_the_log_names_the_proxy() -> Result<()> {
    let (endpoint, proxy) = (Endpoint::start().await?, HttpProxy::start(Policy::Refuses).await?);
    let asking = HttpProxy::start(Policy::AsksFor("me", "right")).await?;
    for (proxy, says) in [(&proxy, "answered 403"), (&asking, "asks for a user and password")] {
        let endpoint_url = format!("http://{ELSEWHERE}:{}/calls", endpoint.addr.port());
        let proxy_url = format!("http://{}", proxy.addr);
        let env = [("CALL_HISTORY_ENDPOINT", &*endpoint_url), ("HTTP_PROXY", &*proxy_url)];
        // LiveKit is on the loopback, which is reached directly.
        let venue = Venue::from_env().await?;
        let mut s = Scene::with_endpoint(venue, Endpoint::start().await?, &env, &[]).await?;
        s.phone("+15550123471").await?.hangs_up().await?;
        let line = s.worker.logs_nth("not delivered, will be tried again", 1, POSTED).await?;
        let said = line["error"].as_str().unwrap_or_default();
        assert!(said.contains(says), "{said}");
        assert!(said.contains(&format!("through the proxy {proxy_url}")), "{said}");
    }
    assert!(endpoint.posts().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_endpoint_is_reached_by_connect_and_excepted_hosts_directly() -> Result<()> {
    let authority = Authority::new()?;
    let proxy = HttpProxy::start(Policy::Allows).await?;
    let endpoint = Endpoint::start().await?;
    let front = TlsFront::start(&authority.issues(ELSEWHERE)?, None, endpoint.addr).await?;
    let url = format!("https://{ELSEWHERE}:{}/calls", front.addr.port());
    let proxy_url = format!("http://{}", proxy.addr);
    let ca = authority.pem();
    let env = [
        ("CALL_HISTORY_ENDPOINT", &*url),
        ("HTTPS_PROXY", &*proxy_url),
        ("CALL_HISTORY_ENDPOINT_CA", &ca),
    ];
    let mut s = Scene::with_endpoint(Venue::from_env().await?, endpoint, &env, &[]).await?;
    s.phone("+15550123472").await?.hangs_up().await?;
    assert_eq!(s.posts(1).await?.len(), 1);
    // One for the look at the start, one for the post.
    let connect = format!("CONNECT {ELSEWHERE}:{} HTTP/1.1", front.addr.port());
    assert_eq!(proxy.asked(), [connect.clone(), connect]);

    // The name exists nowhere, so an attempt without the proxy fails.
    let mut env = env.to_vec();
    env.push(("NO_PROXY", "other.example.com,.test"));
    let mut s =
        Scene::with_endpoint(Venue::from_env().await?, Endpoint::start().await?, &env, &[]).await?;
    s.phone("+15550123473").await?.hangs_up().await?;
    let line = s.worker.logs_nth("not delivered, will be tried again", 1, POSTED).await?;
    assert!(!line["error"].as_str().unwrap_or_default().contains("proxy"), "{line}");
    assert_eq!(proxy.asked().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_may_be_reached_by_tls_and_encrypted_livekit_through_it() -> Result<()> {
    let authority = Authority::new()?;
    let dir = tempfile::tempdir()?;
    let trusted = dir.path().join("trusted.pem");
    std::fs::write(&trusted, authority.pem())?;
    let proxy = HttpProxy::start(Policy::Allows).await?;
    let before = TlsFront::start(&authority.issues("localhost")?, None, proxy.addr).await?;
    let (venue, endpoint) = (Venue::from_env().await?, Endpoint::start().await?);
    let livekit = TlsFront::start(&authority.issues(ELSEWHERE)?, None, venue.addr()?).await?;
    let livekit_url = format!("wss://{ELSEWHERE}:{}", livekit.addr.port());
    let proxy_url = format!("https://localhost:{}", before.addr.port());
    let env = [
        ("LIVEKIT_URL", &*livekit_url),
        ("HTTPS_PROXY", &*proxy_url),
        ("SSL_CERT_FILE", trusted.to_str().unwrap()),
    ];
    let mut s = Scene::with_endpoint(venue, endpoint, &env, &[]).await?;
    s.phone("+15550123474").await?.hangs_up().await?;
    assert_eq!(s.posts(1).await?.len(), 1);
    let connect = format!("CONNECT {ELSEWHERE}:{} HTTP/1.1", livekit.addr.port());
    let asked = proxy.asked();
    assert!(asked.len() >= 3 && asked.iter().all(|line| *line == connect), "{asked:?}");
    Ok(())
}
