//! What the receiver is set up with, and what all requests share.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use record::Moment;
use secrecy::SecretString;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::{
    collector::{
        files::{Files, Recordings},
        shared::Collector,
        token::Key,
        upload::MAX_RECORDING,
    },
    first_run::FirstRun,
    keeper::Keeper,
    limits::{Limits, Rates},
    live::Live,
    page::shared::Pages,
    store::{Place, Store},
    throttle::Throttle,
};

/// Bytes of a body at most.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// Posts that are worked on at the same time; bounds memory.
const AT_ONCE: usize = 64;

/// Reads a clock.
pub(crate) type Now = Arc<dyn Fn() -> Moment + Send + Sync>;

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
    pub livekit_keys: Vec<Key>,
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
            max_recording: MAX_RECORDING,
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
    pub(crate) fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        files: Files,
        stopping: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            keeper: Keeper::new(store.clone()),
            store,
            live: Live::new(stopping),
            limits: Limits::new(settings.rates),
            places: Semaphore::new(AT_ONCE),
            collector: Collector::new(settings.livekit_keys.clone(), settings.max_recording),
            files,
            refused: Throttle::new(),
            first_run: FirstRun::default(),
            pages: Pages::default(),
            settings,
        }))
    }

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

    pub(crate) fn clock(&self) -> Now {
        self.0.settings.now.clone()
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
