//! JSON as the real server writes it: snake_case keys, and every field present.
//!
//! In: the JSON of the protocol crate (lowerCamelCase, defaults left out), and the message's name. Out: the
//! same message with proto names, and with defaults from the tables below (protojson's EmitUnpopulated: ""
//! for text, "0" for 64-bit numbers, null for an absent message). Keys of maps are users' data and stay as
//! they are.

use serde_json::{Map, Value, json};

/// The type of a field, which decides its default.
enum Kind {
    Text,
    Flag,
    /// 32 bits.
    Number,
    /// 64 bits; a string in JSON.
    Long,
    /// An enum, with the name of its value 0.
    Enum(&'static str),
    Message(&'static str),
    /// `optional` or `oneof`: left out when unset.
    Optional,
    Messages(&'static str),
    List,
    Map,
}
use Kind::{Enum, Flag, List, Long, Message, Messages, Number, Optional, Text};

type Field = (&'static str, Kind);

const ROOM: &[Field] = &[
    ("sid", Text),
    ("name", Text),
    ("empty_timeout", Number),
    ("departure_timeout", Number),
    ("max_participants", Number),
    ("creation_time", Long),
    ("creation_time_ms", Long),
    ("turn_password", Text),
    ("enabled_codecs", Messages("Codec")),
    ("metadata", Text),
    ("num_participants", Number),
    ("num_publishers", Number),
    ("active_recording", Flag),
    ("version", Message("TimedVersion")),
];

const PARTICIPANT: &[Field] = &[
    ("sid", Text),
    ("identity", Text),
    ("state", Enum("JOINING")),
    ("tracks", Messages("TrackInfo")),
    ("metadata", Text),
    ("joined_at", Long),
    ("joined_at_ms", Long),
    ("name", Text),
    ("version", Number),
    ("permission", Message("ParticipantPermission")),
    ("region", Text),
    ("is_publisher", Flag),
    ("kind", Enum("STANDARD")),
    ("attributes", Kind::Map),
    ("disconnect_reason", Enum("UNKNOWN_REASON")),
    ("kind_details", List),
    ("data_tracks", List),
    ("client_protocol", Number),
    ("capabilities", List),
];

const PERMISSION: &[Field] = &[
    ("can_subscribe", Flag),
    ("can_publish", Flag),
    ("can_publish_data", Flag),
    ("can_publish_sources", List),
    ("hidden", Flag),
    ("recorder", Flag),
    ("can_update_metadata", Flag),
    ("agent", Flag),
    ("can_subscribe_metrics", Flag),
    ("can_manage_agent_session", Flag),
];

const TRACK: &[Field] = &[
    ("sid", Text),
    ("type", Enum("AUDIO")),
    ("name", Text),
    ("muted", Flag),
    ("width", Number),
    ("height", Number),
    ("simulcast", Flag),
    ("disable_dtx", Flag),
    ("source", Enum("UNKNOWN")),
    ("layers", List),
    ("mime_type", Text),
    ("mid", Text),
    ("codecs", List),
    ("stereo", Flag),
    ("disable_red", Flag),
    ("encryption", Enum("NONE")),
    ("stream", Text),
    ("version", Message("TimedVersion")),
    ("audio_features", List),
    ("backup_codec_policy", Enum("PREFER_REGRESSION")),
    ("packet_trailer_features", List),
];

const DISPATCH: &[Field] = &[
    ("id", Text),
    ("agent_name", Text),
    ("room", Text),
    ("metadata", Text),
    ("state", Message("AgentDispatchState")),
    ("restart_policy", Enum("JRP_ON_FAILURE")),
    ("deployment", Text),
    ("attributes", Kind::Map),
];

const DISPATCH_STATE: &[Field] =
    &[("jobs", Messages("Job")), ("created_at", Long), ("deleted_at", Long)];

const JOB: &[Field] = &[
    ("id", Text),
    ("dispatch_id", Text),
    ("type", Enum("JT_ROOM")),
    ("room", Message("Room")),
    ("participant", Optional),
    ("namespace", Text),
    ("metadata", Text),
    ("agent_name", Text),
    ("state", Message("JobState")),
    ("enable_recording", Flag),
    ("deployment", Text),
    ("attributes", Kind::Map),
];

const JOB_STATE: &[Field] = &[
    ("status", Enum("JS_PENDING")),
    ("error", Text),
    ("started_at", Long),
    ("ended_at", Long),
    ("updated_at", Long),
    ("participant_identity", Text),
    ("worker_id", Text),
    ("agent_id", Text),
];

fn fields(message: &str) -> &'static [Field] {
    match message {
        "Room" => ROOM,
        "ParticipantInfo" => PARTICIPANT,
        "ParticipantPermission" => PERMISSION,
        "TrackInfo" => TRACK,
        "AgentDispatch" => DISPATCH,
        "AgentDispatchState" => DISPATCH_STATE,
        "Job" => JOB,
        "JobState" => JOB_STATE,
        "Codec" => &[("mime", Text), ("fmtp_line", Text)],
        "ListRoomsResponse" => &[("rooms", Messages("Room"))],
        "ListParticipantsResponse" => &[("participants", Messages("ParticipantInfo"))],
        "ListAgentDispatchResponse" => &[("agent_dispatches", Messages("AgentDispatch"))],
        "MuteRoomTrackResponse" => &[("track", Message("TrackInfo"))],
        _ => &[],
    }
}

/// Gives a message the form of the real server's JSON.
pub(super) fn render(message: &str, value: Value) -> Value {
    let Value::Object(given) = value else { return value };
    let mut given: Map<String, Value> =
        given.into_iter().map(|(k, v)| (snake_case(&k), v)).collect();
    let mut out = Map::new();
    for (name, kind) in fields(message) {
        let value = given.remove(*name);
        let value = match (kind, value) {
            (Message(inner), Some(v)) => render(inner, v),
            (Messages(inner), Some(Value::Array(all))) => {
                all.into_iter().map(|v| render(inner, v)).collect()
            }
            (Optional, Some(v)) if *name == "participant" => render("ParticipantInfo", v),
            (_, Some(v)) => v,
            (Optional, None) => continue,
            (kind, None) => default(kind),
        };
        out.insert((*name).into(), value);
    }
    // Fields that are not in the tables stay as they are.
    out.extend(given);
    Value::Object(out)
}

fn default(kind: &Kind) -> Value {
    match kind {
        Text => json!(""),
        Flag => json!(false),
        Number => json!(0),
        Long => json!("0"),
        Enum(zero) => json!(zero),
        Message(_) | Optional => Value::Null,
        Messages(_) | List => json!([]),
        Kind::Map => json!({}),
    }
}

fn snake_case(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use livekit_protocol as lk;

    #[test]
    fn keys_are_snake_case_and_defaults_are_present() {
        let room = lk::Room {
            name: "r".into(),
            creation_time: 7,
            empty_timeout: 300,
            ..Default::default()
        };
        let json = render("Room", serde_json::to_value(room).unwrap());
        assert_eq!(json["empty_timeout"], 300);
        assert_eq!(json["creation_time"], "7", "64-bit numbers are strings");
        assert_eq!(json["creation_time_ms"], "0");
        assert_eq!(json["metadata"], "");
        assert_eq!(json["active_recording"], false);
        assert_eq!(json["enabled_codecs"], json!([]));
        assert_eq!(json.get("emptyTimeout"), None);
    }

    #[test]
    fn keys_of_maps_stay_as_they_are() {
        let p = lk::ParticipantInfo {
            attributes: [("sip.callStatus".to_owned(), "active".to_owned())].into(),
            kind: 3,
            ..Default::default()
        };
        let list = lk::ListParticipantsResponse { participants: vec![p] };
        let json = render("ListParticipantsResponse", serde_json::to_value(list).unwrap());
        let p = &json["participants"][0];
        assert_eq!(p["attributes"]["sip.callStatus"], "active");
        assert_eq!((&p["kind"], &p["state"]), (&json!("SIP"), &json!("JOINING")));
        assert_eq!(p["permission"], Value::Null);
    }

    #[test]
    fn nested_messages_are_rendered_too() {
        let job = lk::Job { state: Some(lk::JobState::default()), ..Default::default() };
        let dispatch = lk::AgentDispatch {
            state: Some(lk::AgentDispatchState { jobs: vec![job], ..Default::default() }),
            ..Default::default()
        };
        let json = render("AgentDispatch", serde_json::to_value(dispatch).unwrap());
        let job = &json["state"]["jobs"][0];
        assert_eq!(job["state"]["participant_identity"], "");
        assert_eq!(job["state"]["status"], "JS_PENDING");
        assert_eq!(job.get("participant"), None, "an optional field that is not set");
    }

    #[test]
    fn an_empty_list_is_an_empty_list() {
        let json = render(
            "ListRoomsResponse",
            serde_json::to_value(lk::ListRoomsResponse::default()).unwrap(),
        );
        assert_eq!(json, json!({ "rooms": [] }));
    }
}
