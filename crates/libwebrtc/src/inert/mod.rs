//! Media types that `livekit` names, one file for each module upstream.
//!
//! In and out: what `livekit`'s bookkeeping needs (ids, mids, directions, streams). Never: a
//! frame, a device, a key. What would need one gives an error, or cannot be made at all.

pub mod audio_frame;
pub mod audio_source;
pub mod audio_stream;
pub mod audio_track;
pub(crate) mod devices;
pub mod media_stream;
pub mod media_stream_track;
pub mod native;
pub mod rtp_parameters;
pub mod rtp_receiver;
pub mod rtp_sender;
pub mod rtp_transceiver;
pub mod video_source;
pub mod video_track;
