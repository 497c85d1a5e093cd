//! What works around LiveKit's Rust SDK, each with the defect and how to see whether it is still there.
//! All was found with `livekit` 0.10.0.
//!
//! | file | what the SDK does | how to see whether it still does |
//! |---|---|---|
//! | [`gate`] | on a lost connection it joins anew by the room's *name*, which creates a room that has ended | `server_trouble::a_server_that_restarts_loses_its_rooms_but_no_record`, without the gate |
//! | [`liveness`] | a task of a room that panics leaves the room deaf, without a word | search its sources for `unwrap` in `rtc_engine`; `a_room_that_livekit_gave_up_on_is_joined_again` |
//! | [`websocket`] | its websocket zero-fills 128 KiB for each room | memory of a quiet call in `load`, with the SDK's own transport |
//!
//! Two more are where they are used: every participant is reported as gone on a full reconnect, before
//! the reconnect is ([`super::attendance`]); errors carry the URL with the token ([`super::room`]).

pub(super) mod gate;
pub(super) mod liveness;
pub(super) mod websocket;
