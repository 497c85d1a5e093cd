//! Workarounds for LiveKit's Rust SDK. For each: the defect, and how to check whether it still exists. All
//! were found with `livekit` 0.10.0.
//!
//! | file | what the SDK does | how to check whether it still does |
//! |---|---|---|
//! | [`gate`] | on a lost connection it joins again by the room's *name*, which creates a room that has ended | `server_trouble::a_server_that_restarts_loses_its_rooms_but_no_record`, without the gate |
//! | [`liveness`] | if a task of a room panics, the room delivers no events any more and reports no error | search its sources for `unwrap` in `rtc_engine`; `a_room_that_livekit_gave_up_on_is_joined_again` |
//! | [`websocket`] | its websocket zero-fills 128 KiB for each room | memory of a quiet call in `load`, with the SDK's own transport |
//!
//! Two more workarounds are elsewhere. On a full reconnect the SDK reports every participant as gone before
//! it reports the reconnect ([`super::attendance`]). Errors hold the URL with the token ([`super::room`]).

pub(super) mod gate;
pub(super) mod liveness;
pub(super) mod websocket;
