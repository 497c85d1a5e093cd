//! The operator's endpoint: keeps the posts, checks their signature, and can misbehave.

use std::{collections::VecDeque, io::Read, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Version},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use flate2::read::GzDecoder;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Post {
    pub at: Instant,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub version: Version,
    /// The status of the answer.
    pub status: u16,
}

impl Post {
    /// The record; a compressed body is decompressed.
    ///
    /// # Errors
    /// If the body is not JSON.
    pub fn record(&self) -> Result<Value> {
        if self.header("content-encoding") != "gzip" {
            return Ok(serde_json::from_slice(&self.body)?);
        }
        let mut plain = vec![];
        GzDecoder::new(&*self.body).read_to_end(&mut plain)?;
        Ok(serde_json::from_slice(&plain)?)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// Verifies the bearer token and that it belongs to this body.
    ///
    /// # Errors
    /// Says what is wrong with the token.
    pub fn check_signature(&self, secret: &str) -> Result<Claims> {
        let token = self.header("authorization").strip_prefix("Bearer ").context("no token")?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp"]);
        let key = DecodingKey::from_secret(secret.as_bytes());
        let claims = decode::<Claims>(token, &key, &validation)?.claims;
        let record = self.record()?;
        if claims.sha256 != BASE64.encode(Sha256::digest(&self.body)) {
            bail!("the token is for another body");
        }
        if record["call_id"] != *claims.jti || record["end_time"] != *claims.timestamp {
            bail!("the token is for another call");
        }
        if record["phone_number"] != *claims.phone_number || claims.exp != claims.iat + 300 {
            bail!("the token's claims are not as agreed");
        }
        Ok(claims)
    }
}

/// A token as an operator reads it. Not `record::Claims`: the product would then check itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    pub phone_number: String,
    pub timestamp: String,
    pub iat: i64,
    pub exp: i64,
    pub jti: String,
    pub sha256: String,
}

/// The answer to the next request.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    /// A status with a header.
    With(u16, &'static str, String),
    /// 200, after this delay.
    After(Duration),
}

#[derive(Default)]
struct Shared {
    posts: Vec<Post>,
    answers: VecDeque<Answer>,
    elsewhere: Option<Answer>,
}

pub struct Endpoint {
    pub url: String,
    pub addr: SocketAddr,
    /// For a front that speaks another protocol with its clients.
    pub(crate) app: Router,
    shared: Arc<Mutex<Shared>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

/// The state of the handler; the counter wakes [`Endpoint::wait`].
type Ctx = (Arc<Mutex<Shared>>, watch::Sender<usize>);

impl Endpoint {
    /// Starts on a free port of the loopback.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> Result<Self> {
        Self::at("127.0.0.1:0").await
    }

    /// # Errors
    /// If the address is taken.
    pub async fn at(addr: &str) -> Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let url = format!("http://{addr}/calls");
        let shared = Arc::<Mutex<Shared>>::default();
        let (counter, count) = watch::channel(0);
        let app = (Router::new().route("/calls", post(receive)))
            .fallback(elsewhere)
            .with_state((shared.clone(), counter));
        let served = app.clone();
        let task = tokio::spawn(async move {
            // Ends with the test.
            let _ = axum::serve(listener, served).await;
        });
        Ok(Self { url, addr, app, shared, count, task })
    }

    /// Sets the answers to the next requests; after them the answer is 200.
    pub fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.shared).answers.extend(answers);
    }

    /// Answers this to requests for another path than its own. Their records are not kept.
    pub fn elsewhere(&self, answer: Answer) {
        lock(&self.shared).elsewhere = Some(answer);
    }

    /// Answers 200 from now on.
    pub fn is_well(&self) {
        lock(&self.shared).answers.clear();
    }

    pub fn posts(&self) -> Vec<Post> {
        lock(&self.shared).posts.clone()
    }

    /// All requests about a room.
    pub fn about(&self, room: &str) -> Vec<Post> {
        let of = |p: &Post| p.record().is_ok_and(|r| r["room_name"] == room);
        self.posts().into_iter().filter(of).collect()
    }

    /// Waits until there are `n` requests about a room.
    ///
    /// # Errors
    /// If they do not arrive in time.
    pub async fn wait(&mut self, room: &str, n: usize, within: Duration) -> Result<Vec<Post>> {
        let deadline = Instant::now() + within;
        loop {
            self.count.mark_unchanged();
            let posts = self.about(room);
            if posts.len() >= n {
                return Ok(posts);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if timeout(left, self.count.changed()).await.is_err() {
                bail!("{} of {n} requests about {room} within {within:?}", posts.len());
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock()
}

async fn receive(
    State((shared, counter)): State<Ctx>,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap) {
    let answer = lock(&shared).answers.pop_front().unwrap_or(Answer::Status(200));
    let (status, out) = answered(answer).await;
    lock(&shared).posts.push(Post { at: Instant::now(), headers, body, version, status });
    counter.send_modify(|n| *n += 1);
    (StatusCode::from_u16(status).unwrap_or(StatusCode::OK), out)
}

async fn elsewhere(State((shared, _)): State<Ctx>) -> (StatusCode, HeaderMap) {
    let answer = lock(&shared).elsewhere.clone().unwrap_or(Answer::Status(404));
    let (status, out) = answered(answer).await;
    (StatusCode::from_u16(status).unwrap_or(StatusCode::OK), out)
}

async fn answered(answer: Answer) -> (u16, HeaderMap) {
    let mut out = HeaderMap::new();
    let status = match answer {
        Answer::Status(status) => status,
        Answer::With(status, name, value) => {
            if let Ok(value) = value.parse() {
                out.insert(name, value);
            }
            status
        }
        Answer::After(time) => {
            sleep(time).await;
            200
        }
    };
    (status, out)
}
