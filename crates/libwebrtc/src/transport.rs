//! Which transports the connections of this process may use. For diagnosis only: it shows whether a firewall
//! lets each of them through.

use std::sync::atomic::{AtomicU8, Ordering};

/// Transports to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP where UDP does not connect.
    Any,
    Udp,
    Tcp,
}

static ALLOWED: AtomicU8 = AtomicU8::new(0);

/// Counts for connections that are made from now on.
pub fn allow(transport: Transport) {
    ALLOWED.store(transport as u8, Ordering::Relaxed);
}

pub(crate) fn udp() -> bool {
    ALLOWED.load(Ordering::Relaxed) != Transport::Tcp as u8
}

pub(crate) fn tcp() -> bool {
    ALLOWED.load(Ordering::Relaxed) != Transport::Udp as u8
}
