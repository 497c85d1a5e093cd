//! Routes and state; start and stop.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use record::Moment;
use secrecy::SecretString;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, SemaphorePermit},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Refused,
    api,
    collector::{self, Collector, Files, Recordings},
    first_run::FirstRun,
    intake,
    keeper::Keeper,
    limits::{self, Limits, Rates},
    live::Live,
    page::Pages,
    password, port,
    store::{self, Place, Sql, Store, StoreError},
    throttle::Throttle,
};

/// Bytes of a body at most.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// Posts that are worked on at the same time; bounds memory.
const AT_ONCE: usize = 64;
/// Requests may go on for so long after the order to stop.
const DRAIN: Duration = Duration::from_secs(20);
/// The database must answer within this time for the receiver to be ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Reads a clock.
pub type Now = Arc<dyn Fn() -> Moment + Send + Sync>;

/// All that the receiver is set up with.
#[derive(Clone)]
pub struct Settings {
    pub addr: SocketAddr,
    pub place: Place,
    /// Posts must be signed with it.
    pub jwt_secret: Option<SecretString>,
    /// Calls are deleted after so many days; `None`: never.
    pub retention_days: Option<u32>,
    /// Anybody may look at the pages, with numbers masked, and nobody can change anything by them.
    pub demo: bool,
    /// Keys of LiveKit servers whose agents may upload. Without one nothing is taken from agents.
    pub livekit_keys: Vec<collector::Key>,
    /// Where recordings are kept.
    pub recordings: Recordings,
    /// Recordings are deleted after so many days; `None`: with their calls.
    pub recordings_days: Option<u32>,
    pub max_body: usize,
    /// Bytes of a recording at most.
    pub max_recording: u64,
    pub rates: Rates,
    pub now: Now,
}

impl Settings {
    /// What no setting gives.
    pub fn new(place: Place) -> Self {
        let folder = match &place {
            Place::Sqlite { folder, .. } => folder.clone(),
            Place::Postgres { .. } => "data/receiver".into(),
        };
        Self {
            addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082),
            place,
            jwt_secret: None,
            retention_days: None,
            demo: false,
            livekit_keys: vec![],
            recordings: Recordings::Folder(folder.join("recordings")),
            recordings_days: None,
            max_body: MAX_BODY,
            max_recording: collector::MAX_RECORDING,
            rates: Rates::default(),
            now: Arc::new(|| Moment::from_millis(chrono::Utc::now().timestamp_millis())),
        }
    }
}

/// What all requests share. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    keeper: Keeper,
    settings: Settings,
    live: Live,
    limits: Limits,
    places: Semaphore,
    collector: Collector,
    files: Files,
    /// Posts that were turned away.
    refused: Throttle,
    first_run: FirstRun,
    pages: Pages,
}

impl App {
    pub fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    pub fn shared_store(&self) -> Arc<dyn Store> {
        self.0.store.clone()
    }

    pub fn live(&self) -> &Live {
        &self.0.live
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.0.keeper
    }

    pub(crate) fn collector(&self) -> &Collector {
        &self.0.collector
    }

    /// Recordings.
    pub(crate) fn files(&self) -> &Files {
        &self.0.files
    }

    pub(crate) fn refused(&self) -> &Throttle {
        &self.0.refused
    }

    /// Days after which calls and recordings are deleted.
    pub(crate) fn retention(&self) -> (Option<u32>, Option<u32>) {
        (self.0.settings.retention_days, self.0.settings.recordings_days)
    }

    pub fn now(&self) -> Moment {
        (self.0.settings.now)()
    }

    pub fn jwt_secret(&self) -> Option<&SecretString> {
        self.0.settings.jwt_secret.as_ref()
    }

    pub fn max_body(&self) -> usize {
        self.0.settings.max_body
    }

    pub fn is_loopback(&self) -> bool {
        self.0.settings.addr.ip().is_loopback()
    }

    /// Whether this machine needs no token as long as there is none. In a demo a proxy on this machine may pass on what
    /// strangers ask.
    pub fn is_open(&self) -> bool {
        self.is_loopback() && !self.is_demo()
    }

    pub fn is_demo(&self) -> bool {
        self.0.settings.demo
    }

    pub(crate) fn first_run(&self) -> &FirstRun {
        &self.0.first_run
    }

    /// What the pages share.
    pub(crate) fn pages(&self) -> &Pages {
        &self.0.pages
    }

    /// Waits until there is place for a body.
    pub async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.0.places.acquire().await.ok()
    }
}

/// All routes.
fn router(app: App) -> Router {
    let limited = |router: Router<App>| {
        router.layer(middleware::from_fn_with_state(app.clone(), limits::of_api))
    };
    let posts = Router::new()
        .route("/call-history", post(intake::call))
        .route("/call-events", post(intake::event))
        .layer(middleware::from_fn_with_state(app.clone(), limits::of_posts));
    Router::new()
        .merge(limited(api::routes()))
        .merge(posts)
        .route("/openapi.json", get(api::openapi::document))
        .route("/live", get(async || "OK"))
        .route("/ready", get(ready))
        .fallback(collector::post)
        .layer(middleware::from_fn(careful))
        .merge(crate::page::routes())
        .with_state(app)
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
        let app = App(Arc::new(Shared {
            store: store.clone(),
            keeper: Keeper::new(store.clone()),
            live: Live::new(stopping.clone()),
            limits: Limits::new(settings.rates),
            places: Semaphore::new(AT_ONCE),
            collector: Collector::new(&settings),
            files,
            refused: Throttle::new(),
            first_run: FirstRun::default(),
            pages: Pages::default(),
            settings,
        }));
        let first_run = first_run(&app).await?;
        let retention = tokio::spawn(crate::deletion::by_age(app.clone(), stopping.clone()));
        let summing = tokio::spawn(crate::days::keep_summed(
            store.clone(),
            app.0.settings.now.clone(),
            stopping.clone(),
        ));
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
