//! The listeners of a connection, and the events for them.
//!
//! In: closures from `livekit`. Out: calls to these closures. Only the driver task makes them, from the
//! queue and without a lock, so a listener may use the connection that calls it, replace itself, or
//! close the connection. Must never call a listener while the connection is locked.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    data_channel::{DataChannel, DataChannelState, Dc},
    ice_candidate::IceCandidate,
    peer_connection::{
        IceCandidateError, IceConnectionState, IceGatheringState, OnConnectionChange,
        OnDataChannel, OnIceCandidate, OnIceCandidateError, OnIceConnectionChange,
        OnIceGatheringChange, OnNegotiationNeeded, OnSignalingChange, OnTrack, PeerConnectionState,
        SignalingState, TrackEvent,
    },
};

/// A callback that may be replaced, or removed, while it is running.
pub(crate) struct Slot<F: ?Sized>(Mutex<(u64, Option<Box<F>>)>);

impl<F: ?Sized> Default for Slot<F> {
    fn default() -> Self {
        Slot(Mutex::new((0, None)))
    }
}

impl<F: ?Sized> Slot<F> {
    pub(crate) fn set(&self, f: Option<Box<F>>) {
        let mut slot = self.0.lock();
        slot.0 += 1;
        let old = std::mem::replace(&mut slot.1, f);
        drop(slot);
        drop(old); // may own a connection: not under the lock
    }

    /// False if there is nothing to call. A callback that panics is not called again.
    pub(crate) fn call(&self, run: impl FnOnce(&mut F)) -> bool {
        let (generation, f) = {
            let mut slot = self.0.lock();
            (slot.0, slot.1.take())
        };
        let Some(mut f) = f else { return false };
        run(&mut f);
        let mut slot = self.0.lock();
        if slot.0 == generation {
            slot.1 = Some(f);
        }
        true
    }
}

type Cb<A> = Slot<dyn FnMut(A) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Callbacks {
    pub(crate) connection: Cb<PeerConnectionState>,
    pub(crate) data_channel: Cb<DataChannel>,
    pub(crate) candidate: Cb<IceCandidate>,
    /// Never called, since we ask no STUN or TURN server; part of the interface.
    pub(crate) candidate_error: Cb<IceCandidateError>,
    pub(crate) ice: Cb<IceConnectionState>,
    pub(crate) gathering: Cb<IceGatheringState>,
    pub(crate) negotiation: Cb<u32>,
    pub(crate) signaling: Cb<SignalingState>,
    pub(crate) track: Cb<TrackEvent>,
}

// The public aliases must stay the same types as the slots above.
const _: fn(&Callbacks) = |c| {
    c.connection.set(None::<OnConnectionChange>);
    c.data_channel.set(None::<OnDataChannel>);
    c.candidate.set(None::<OnIceCandidate>);
    c.candidate_error.set(None::<OnIceCandidateError>);
    c.ice.set(None::<OnIceConnectionChange>);
    c.gathering.set(None::<OnIceGatheringChange>);
    c.negotiation.set(None::<OnNegotiationNeeded>);
    c.signaling.set(None::<OnSignalingChange>);
    c.track.set(None::<OnTrack>);
};

impl Callbacks {
    /// Drops all listeners when the connection has closed. Listeners often own the connection they listen
    /// to, which would otherwise never be freed.
    pub(crate) fn forget(&self) {
        self.connection.set(None);
        self.data_channel.set(None);
        self.candidate.set(None);
        self.candidate_error.set(None);
        self.ice.set(None);
        self.gathering.set(None);
        self.negotiation.set(None);
        self.signaling.set(None);
        self.track.set(None);
    }
}

/// An event for a listener. The queue keeps events in their order.
pub(crate) enum Ev {
    Signaling(SignalingState),
    Ice(IceConnectionState),
    Gathering(IceGatheringState),
    Connection(PeerConnectionState),
    Candidate(IceCandidate),
    Track(Box<TrackEvent>),
    Negotiation,
    Opened(Arc<Dc>),
    DcState(Arc<Dc>, DataChannelState),
    /// This many bytes left the send queue.
    DcSent(Arc<Dc>, u64),
    /// The channel's inbox has a message, or the channel has a new listener.
    DcInbox(Arc<Dc>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_can_replace_itself_while_it_runs() {
        let slot = Arc::new(Slot::<dyn FnMut(u8) + Send + Sync>::default());
        let seen = Arc::new(Mutex::new(vec![]));
        let (inner, log) = (slot.clone(), seen.clone());
        slot.set(Some(Box::new(move |n| {
            log.lock().push(("first", n));
            let log = log.clone();
            inner.set(Some(Box::new(move |n| log.lock().push(("second", n)))));
        })));
        assert!(slot.call(|f| f(1)));
        assert!(slot.call(|f| f(2)));
        slot.set(None);
        assert!(!slot.call(|f| f(3)));
        assert_eq!(*seen.lock(), [("first", 1), ("second", 2)]);
    }
}
