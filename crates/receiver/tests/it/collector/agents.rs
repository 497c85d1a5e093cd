//! The recorded calls (`tests/uploads`).

use std::path::PathBuf;

use jsonwebtoken::{EncodingKey, Header, encode};
use receiver::{Settings, collector::Key};
use record::Moment;
use serde_json::{Value, json};

pub(crate) const KEY: &str = "labkey";
pub(crate) const SECRET: &str = "a secret of some length, as it should be";

/// A recorded call, and what is known of it.
pub(crate) struct Recorded {
    pub(crate) name: &'static str,
    pub(crate) room_id: &'static str,
    pub(crate) job_id: &'static str,
    pub(crate) room_name: &'static str,
    /// The first sound of the agent, in milliseconds since 1970.
    pub(crate) spoke_at: i64,
    /// The waits before its answers, as it reported them.
    pub(crate) waits: &'static [f64],
    /// Bytes of sound.
    pub(crate) sound: Option<u64>,
}

pub(crate) const ALL: [Recorded; 8] = [
    Recorded {
        name: "py-1.8.9-named",
        room_id: "RM_BoCLWC5XEHer",
        job_id: "AJ_WxTnoshcPXCV",
        room_name: "call-py-named2",
        spoke_at: 1_795_694_805_417,
        waits: &[0.965, 1.533, 1.261, 0.960],
        sound: Some(351_932),
    },
    Recorded {
        name: "py-1.8.9-unnamed-record",
        room_id: "RM_Uffyd2FzH5qR",
        job_id: "AJ_euuAEDdsvw8h",
        room_name: "call-py-unnamed-record",
        spoke_at: 1_795_694_001_151,
        waits: &[0.967, 1.567, 1.270, 0.957],
        sound: Some(347_388),
    },
    Recorded {
        name: "py-1.8.9-sip",
        room_id: "RM_YUsoNDYXe39c",
        job_id: "AJ_r2PwQJQZyrKW",
        room_name: "call-o-sip",
        spoke_at: 1_795_694_669_306,
        waits: &[0.962],
        sound: Some(156_513),
    },
    Recorded {
        name: "py-1.8.9-redaction",
        room_id: "RM_tPepXU6kKeUw",
        job_id: "AJ_vYrMEk2tvvUN",
        room_name: "call-o-redact",
        spoke_at: 1_795_694_579_256,
        waits: &[0.975],
        sound: None,
    },
    Recorded {
        name: "py-1.8.9-crash",
        room_id: "RM_y4nY7nCGvwER",
        job_id: "AJ_JVDmunJnCB3q",
        room_name: "call-crash",
        spoke_at: 1_795_694_690_428,
        waits: &[0.962],
        sound: None,
    },
    Recorded {
        name: "py-1.5.1-named",
        room_id: "RM_3ncyFw8J8uAU",
        job_id: "AJ_M2qhAYPBuoGB",
        room_name: "call-py-1.5.1",
        spoke_at: 1_795_695_137_485,
        waits: &[0.806, 1.525, 1.261, 0.804],
        sound: Some(346_287),
    },
    Recorded {
        name: "node-1.9.0-named",
        room_id: "RM_Zy27rHvbgEHE",
        job_id: "AJ_pgBvLJLpJmcB",
        room_name: "call-node-named2",
        spoke_at: 1_795_694_771_713,
        // The last turn was never sent.
        waits: &[0.967, 1.524, 1.265, 0.960],
        sound: Some(350_130),
    },
    Recorded {
        name: "node-1.9.0-crash",
        room_id: "RM_ZephBbA7PRdJ",
        job_id: "AJ_HmcZNPie75Kg",
        room_name: "call-node-crash",
        spoke_at: 1_795_694_718_487,
        waits: &[0.978],
        sound: None,
    },
];

pub(crate) fn recorded(name: &str) -> &'static Recorded {
    static CALLS: &[Recorded] = &ALL;
    CALLS.iter().find(|call| call.name == name).unwrap()
}

/// A request as an agent made it.
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) content_type: String,
    pub(crate) content_encoding: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    pub(crate) fn requests(&self) -> Vec<Request> {
        let folder =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/uploads").join(self.name);
        let all = std::fs::read_to_string(folder.join("requests.json")).unwrap();
        let all: Vec<Value> = serde_json::from_str(&all).unwrap();
        let text = |json: &Value| json.as_str().map(str::to_owned);
        let one = |json: &Value| Request {
            path: text(&json["path"]).unwrap(),
            content_type: text(&json["content_type"]).unwrap(),
            content_encoding: text(&json["content_encoding"]),
            body: std::fs::read(folder.join(json["file"].as_str().unwrap())).unwrap(),
        };
        all.iter().map(one).collect()
    }

    /// The id that the worker gives to the first call of the room.
    pub(crate) fn call_id(&self) -> String {
        let name = format!("{}/0", self.room_id);
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
    }

    /// A record of the call, without details.
    pub(crate) fn record(&self) -> Value {
        let mut record: Value =
            serde_json::from_str(include_str!("../../../../../docs/schema/example.json")).unwrap();
        record["call_id"] = self.call_id().into();
        record["room_name"] = self.room_name.into();
        record["start_time"] = at(self.spoke_at - 1_000);
        record["end_time"] = at(self.spoke_at + 22_000);
        record["duration_seconds"] = 23.into();
        record["stage_timeline"] = json!([]);
        record
    }
}

pub(crate) fn at(millis: i64) -> Value {
    Moment::from_millis(millis).to_rfc3339().into()
}

pub(crate) fn token() -> String {
    let now = chrono::Utc::now().timestamp();
    let claims = json!({
        "iss": KEY, "sub": "", "nbf": now, "exp": now + 21_600, "observability": {"write": true},
    });
    signed(&claims, SECRET)
}

pub(crate) fn signed(claims: &Value, secret: &str) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

pub(crate) fn on(settings: &mut Settings) {
    settings.livekit_keys = vec![Key { key: KEY.into(), secret: SECRET.to_owned().into() }];
}
