//! What agents upload: real requests of Python and Node agents, posted again.
//!
//! | file | what it shows |
//! |---|---|
//! | [`agents`] | the recorded calls |
//! | [`poster`] | a receiver that takes them, and an agent that posts them |
//! | [`replay`] | what is made of them, on both engines, before and after the record |
//! | [`sound`] | the recording: bytes, ranges, readers |
//! | [`bad`] | foreign tokens, broken bodies, bombs, a full disk |
//! | `bucket` | recordings in an S3, by hand |
//! | [`goes`] | redaction, deletion, retention |

mod agents;
mod bad;
#[cfg(feature = "s3")]
mod bucket;
mod goes;
mod poster;
mod replay;
mod sound;
