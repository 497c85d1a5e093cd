//! Media types that `livekit` names, one file for each module upstream.
//!
//! In and out: the data of `livekit`'s bookkeeping (ids, mids, directions, streams). There are no frames,
//! devices or keys: a call that needs them returns an error, or its type cannot be made.

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
