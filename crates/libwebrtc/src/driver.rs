//! The task that drives a connection, and the lock around it.
//!
//! In: packets from the sockets, timers, and a nudge (`wake`) after every call of the API.
//! Out: calls to listeners. Each connection has one task, on two threads of this crate: connections
//! are made outside any runtime, and must live on when the caller's runtime is a blocked single
//! thread. Must never call a listener under the lock. If str0m or a listener panics, the connection
//! ends as `Failed`, and `livekit` connects again; it must never stay open without receiving.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    ops::{Deref, DerefMut},
    sync::{Arc, LazyLock},
    task::Poll,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    net::UdpSocket,
    runtime::{EnterGuard, Runtime},
    sync::Notify,
};

use crate::{
    RtcError,
    RtcErrorType::Internal,
    callbacks::{Callbacks, Ev},
    core::{Core, Life},
    data_channel::{DataChannel, DataChannelState},
    err,
};

static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("libwebrtc")
        .enable_all()
        .build()
});

fn runtime() -> Result<&'static Runtime, RtcError> {
    RUNTIME.as_ref().or_else(|e| err(Internal, format!("no threads for WebRTC: {e}")))
}

/// For code outside of tokio's tasks that needs its reactor.
pub(crate) fn in_runtime() -> Result<EnterGuard<'static>, RtcError> {
    Ok(runtime()?.enter())
}

pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    if let Ok(rt) = runtime() {
        rt.spawn(task);
    }
}

/// Number of tasks of all connections of the process: one driver for each connection, and one task for
/// each ICE-TCP link.
pub(crate) fn alive_tasks() -> usize {
    runtime().map_or(0, |rt| rt.metrics().num_alive_tasks())
}

/// The part of a connection that its handles and its driver share.
pub(crate) struct Shared {
    /// The state of the connection. Locked for microseconds, never across an await.
    pub(crate) core: Mutex<Core>,
    /// Makes the driver check the connection again.
    pub(crate) wake: Notify,
    pub(crate) cb: Callbacks,
}

impl Shared {
    pub(crate) fn start(snap: bool) -> Result<Arc<Shared>, RtcError> {
        runtime()?;
        let shared = Arc::new_cyclic(|me| Shared {
            core: Mutex::new(Core::new(me.clone(), snap)),
            wake: Notify::new(),
            cb: Callbacks::default(),
        });
        spawn(drive(shared.clone()));
        Ok(shared)
    }

    /// Locks the connection and brings str0m's clock up to date. When the guard is dropped, the driver
    /// wakes and handles the changes.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered<'_> {
        let mut core = self.core.lock();
        core.advance();
        Entered { core, _wake: Wake(&self.wake) }
    }

    fn dispatch(self: &Arc<Self>, ev: Ev) {
        let cb = &self.cb;
        match ev {
            Ev::Signaling(s) => drop(cb.signaling.call(|f| f(s))),
            Ev::Ice(s) => drop(cb.ice.call(|f| f(s))),
            Ev::Gathering(s) => drop(cb.gathering.call(|f| f(s))),
            Ev::Connection(s) => drop(cb.connection.call(|f| f(s))),
            Ev::Candidate(c) => drop(cb.candidate.call(|f| f(c))),
            Ev::Track(t) => drop(cb.track.call(|f| f(*t))),
            Ev::Negotiation => drop(cb.negotiation.call(|f| f(0))),
            Ev::Opened(dc) => {
                let handle = DataChannel::new(dc, Arc::downgrade(self));
                cb.data_channel.call(|f| f(handle));
            }
            Ev::DcState(dc, DataChannelState::Closed) => {
                while dc.deliver() {}
                dc.on_state.call(|f| f(DataChannelState::Closed));
                // Listeners often own the channel they listen to, which would otherwise never be freed.
                dc.forget_callbacks();
            }
            Ev::DcState(dc, s) => drop(dc.on_state.call(|f| f(s))),
            Ev::DcSent(dc, n) => drop(dc.on_buffered.call(|f| f(n))),
            Ev::DcInbox(dc) => {
                if dc.deliver() {
                    self.core.lock().queue.push_back(Ev::DcInbox(dc));
                    self.wake.notify_one();
                }
            }
        }
    }
}

/// The connection, locked for a call of the API.
pub(crate) struct Entered<'a> {
    core: MutexGuard<'a, Core>,
    /// Dropped after the guard, so that the driver finds the connection unlocked when it wakes.
    _wake: Wake<'a>,
}

struct Wake<'a>(&'a Notify);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Deref for Entered<'_> {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for Entered<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.give_up("a panic in a call");
        } else {
            self.core.drain();
        }
    }
}

/// Starts a new driver task when the driver panics: the listeners must still be notified of the end.
struct Watch<'a>(&'a Arc<Shared>);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.core.lock().give_up("a panic in its task");
            spawn(drive(self.0.clone()));
        }
    }
}

async fn drive(shared: Arc<Shared>) {
    let _watch = Watch(&shared);
    loop {
        let (events, deadline, socks, closed) = {
            let mut core = shared.core.lock();
            core.receive();
            core.advance();
            core.notice_silence();
            let closed = core.life == Life::Closed;
            (std::mem::take(&mut core.queue), core.deadline, core.socks.clone(), closed)
        };
        for ev in events {
            shared.dispatch(ev);
        }
        if closed {
            break;
        }
        tokio::select! {
            _ = shared.wake.notified() => {}
            _ = tokio::time::sleep_until(deadline.into()) => {}
            _ = readable(&socks) => {}
        }
    }
    shared.cb.forget();
}

async fn readable(socks: &[(SocketAddr, UdpSocket)]) {
    poll_fn(|cx| {
        let mut ready = Poll::Pending;
        for (_, s) in socks {
            if s.poll_recv_ready(cx).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    })
    .await;
}
