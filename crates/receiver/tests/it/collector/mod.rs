//! What agents upload: real requests of Python and Node agents, posted again.
//!
//! | file | what it shows |
//! |---|---|
//! | [`agents`] | the recorded calls |
//! | [`poster`] | a receiver that takes them, and an agent that posts them |
//! | [`replay`] | what is made of them, on both engines, before and after the record |
//! | [`sound`] | the recording: bytes, ranges, readers |
//! | [`bad`] | foreign tokens, broken bodies, bombs, a full disk |
//! | [`goes`] | redaction, deletion, retention |
//!
//! Recordings in a bucket: `e2e/test_receiver_features.py`.

mod agents;
mod bad;
mod goes;
mod poster;
mod replay;
mod sound;
