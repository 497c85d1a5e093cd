//! The limits on what a peer can make this crate keep or do.
//!
//! Everything that a server or another participant sends is untrusted: descriptions, candidates,
//! channel names, messages, packets. The limits are in this file; those of descriptions are in the crate `sdp`. Input beyond a limit is refused
//! with an error, or dropped with a log line; it never ends the process, and memory never grows with
//! the amount that a peer sends.

use std::time::Duration;

/// Bytes of one ICE candidate.
pub(crate) const CANDIDATE_BYTES: usize = 1024;
/// Remote candidates of one ICE session, both used and waiting. A LiveKit server has one or two
/// for each of its addresses.
pub(crate) const CANDIDATES: usize = 64;

/// Data channels of one connection, opened by either side. LiveKit uses three in each direction.
pub(crate) const CHANNELS: usize = 256;
/// Bytes of one message, which the peer gets as `max-message-size`.
pub(crate) const MESSAGE_BYTES: u32 = 256 * 1024;
/// Bytes of the largest message that we send, and of our messages that str0m keeps. sctp-proto gets
/// slower as its queue grows: with a megabyte it was 13 times slower.
pub(crate) const SEND_BYTES: usize = 128 * 1024;
/// Bytes that may wait in one channel in either direction, as in libwebrtc.
pub(crate) const QUEUED_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes that a waiting message counts besides its own, so that empty messages are bounded, too.
pub(crate) const QUEUED_OVERHEAD: u64 = 64;
/// Messages delivered to a listener before timers and sockets get their turn again.
pub(crate) const DELIVER_AT_ONCE: usize = 256;

/// UDP packets read from one socket before the others get their turn.
pub(crate) const PACKETS_AT_ONCE: usize = 64;

/// ICE-TCP connections of one peer connection, connected or connecting.
pub(crate) const TCP_LINKS: usize = 16;
/// Packets that may wait for one ICE-TCP connection. Later packets are lost, as on any network.
pub(crate) const TCP_QUEUE: usize = 256;
/// Packets kept while an ICE-TCP connection is being made. Lost packets are repeated by their protocols.
pub(crate) const TCP_EARLY: usize = 32;
/// How long an ICE-TCP connection may take. Where packets are dropped, the kernel would try for
/// two minutes.
pub(crate) const TCP_CONNECT: Duration = Duration::from_secs(10);
