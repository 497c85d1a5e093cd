//! Routes and what is around each of them; start and stop.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    access,
    answer::Refused,
    api,
    app::{App, Settings},
    collector::{self, files::Files},
    days, deletion, intake, page, password,
    port::{self, Peer},
    store::{self, Sql, Store, StoreError},
};

/// Requests may go on for so long after the order to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// The database must answer within this time for the receiver to be ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// All routes.
fn router(app: App) -> Router {
    let limited = |router: Router<App>| {
        router.layer(middleware::from_fn_with_state(app.clone(), limited_api))
    };
    let posts = Router::new()
        .route("/call-history", post(intake::call))
        .route("/call-events", post(intake::event))
        .layer(middleware::from_fn_with_state(app.clone(), limited_posts));
    Router::new()
        .merge(limited(api::routes()))
        .merge(posts)
        .route("/openapi.json", get(api::openapi::document))
        .route("/live", get(async || "OK"))
        .route("/ready", get(ready))
        .fallback(collector::post)
        .layer(middleware::from_fn(careful))
        .merge(page::routes())
        .with_state(app)
}

/// Before each request of the API.
async fn limited_api(State(app): State<App>, request: Request, next: Next) -> Response {
    let from = address(&request);
    let token = access::bearer(request.headers());
    if let Err(limited) = app.limits().may_ask(from, token) {
        return limited.into_response();
    }
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        // The next request learns it.
        let _ = app.limits().failed(from);
    }
    response
}

/// After each post: one that may not be made has to wait.
async fn limited_posts(State(app): State<App>, request: Request, next: Next) -> Response {
    let from = address(&request);
    let response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED
        && let Err(limited) = app.limits().failed(from)
    {
        return limited.into_response();
    }
    response
}

fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Peer>()?.address(request.headers())
}

/// Nobody stores answers, and nobody guesses what they are.
async fn careful(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The path of the first login, where one is needed.
async fn first_run(app: &App) -> Result<Option<String>, StoreError> {
    if app.is_loopback() || app.is_demo() || password::someone_can_log_in(app.store()).await? {
        return Ok(None);
    }
    Ok(Some(app.first_run().open(app.now())))
}

async fn ready(State(app): State<App>) -> Result<&'static str, Refused> {
    let sql = Sql::new(app.store().dialect(), "SELECT n FROM calls LIMIT 1");
    match timeout(READY_WITHIN, app.store().read(sql)).await {
        Ok(Ok(_)) => Ok("OK"),
        Ok(Err(e)) => Err(e.into()),
        Err(_) => Err(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer within 2 s",
        )),
    }
}

/// A running receiver. Dropped it goes on; see [`Receiver::stop`].
pub struct Receiver {
    addr: SocketAddr,
    store: Arc<dyn Store>,
    first_run: Option<String>,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
    retention: JoinHandle<()>,
    summing: JoinHandle<()>,
}

/// Why the receiver does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("recordings cannot be kept there: {0}")]
    Recordings(std::io::Error),
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
}

impl Receiver {
    /// Opens the database and listens.
    ///
    /// # Errors
    /// If either is not possible.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { addr: settings.addr, source };
        let store = store::open(&settings.place).await?;
        let files = Files::new(&settings.recordings).map_err(StartError::Recordings)?;
        let listener = TcpListener::bind(settings.addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let stopping = CancellationToken::new();
        let app = App::new(settings, store.clone(), files, stopping.clone());
        let first_run = first_run(&app).await?;
        let retention = tokio::spawn(deletion::by_age(app.clone(), stopping.clone()));
        let summing = tokio::spawn(days::keep_summed(store.clone(), app.clock(), stopping.clone()));
        let serving = tokio::spawn(port::serve(listener, router(app), stopping.clone()));
        Ok(Self { addr, store, first_run, stopping, serving, retention, summing })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The path of the page that sets the first password, if others can reach this address and nobody can log in. It is
    /// as good as a password for an hour.
    pub fn first_run(&self) -> Option<&str> {
        self.first_run.as_deref()
    }

    /// Takes no new requests, lets running ones end for some time, and closes the database.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        if timeout(DRAIN, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
        let _ = timeout(DRAIN, self.retention).await;
        let _ = timeout(DRAIN, self.summing).await;
        let _ = timeout(DRAIN, self.store.close()).await;
    }
}
