//! What a peer can make this crate keep or do, at most.
//!
//! Everything a server or another participant sends is untrusted: descriptions, candidates,
//! channel names, messages, packets. Each of them has its bound here, and nowhere else. Beyond
//! a bound something is refused with an error, or dropped with a line in the log; nothing here
//! ends the process, and nothing grows with what a peer chooses to send.

use std::time::Duration;

/// Bytes of one session description. A section of a LiveKit offer is 1 to 4 kB.
pub(crate) const SDP_BYTES: usize = 2 * 1024 * 1024;
/// Lines of one session description.
pub(crate) const SDP_LINES: usize = 50_000;
/// Media sections of one session description; a section lives as long as its connection.
pub(crate) const SDP_SECTIONS: usize = 1024;
/// Characters of a section's id, and of ICE credentials (RFC 8839 §5.4 says 256).
pub(crate) const SDP_TOKEN: usize = 256;

/// Bytes of one ICE candidate.
pub(crate) const CANDIDATE_BYTES: usize = 1024;
/// Remote candidates of one ICE session, used and waiting ones. A LiveKit server has one or two
/// for each of its addresses.
pub(crate) const CANDIDATES: usize = 64;

/// Data channels of one connection, whoever opened them. LiveKit uses three in each direction.
pub(crate) const CHANNELS: usize = 256;
/// Bytes of one message, told to the peer as `max-message-size`.
pub(crate) const MESSAGE_BYTES: u32 = 256 * 1024;
/// Bytes of the largest message we send, and what str0m keeps of ours. sctp-proto's cost grows
/// with its queue; with a megabyte it was 13 times slower.
pub(crate) const SEND_BYTES: usize = 128 * 1024;
/// Bytes that may wait in one channel in either direction, as in libwebrtc.
pub(crate) const QUEUED_BYTES: u64 = 16 * 1024 * 1024;
/// What a waiting message counts besides its bytes, so that empty ones are not free.
pub(crate) const QUEUED_OVERHEAD: u64 = 64;
/// Messages given to a listener before timers and sockets get their turn again.
pub(crate) const DELIVER_AT_ONCE: usize = 256;

/// UDP packets read from one socket before the others get their turn.
pub(crate) const PACKETS_AT_ONCE: usize = 64;

/// ICE-TCP connections of one peer connection, living or being tried.
pub(crate) const TCP_LINKS: usize = 16;
/// Packets waiting for one ICE-TCP connection; later ones are lost, as on any network.
pub(crate) const TCP_QUEUE: usize = 256;
/// Packets kept while an ICE-TCP connection is being made; they are repeated anyway.
pub(crate) const TCP_EARLY: usize = 32;
/// How long an ICE-TCP connection may take. Where packets are dropped, the kernel would try for
/// two minutes.
pub(crate) const TCP_CONNECT: Duration = Duration::from_secs(10);
