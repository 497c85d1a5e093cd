//! RTVI, the protocol of Pipecat bots: JSON in reliable data packets with an empty topic, to everybody in the
//! room. Decodes what a record uses; most messages are not used.
//!
//! Anybody can send such a packet. The core believes only the agents' side.

use call::event::RtviMessage;
use serde::Deserialize;

use super::ids::short;

const LABEL: &str = "rtvi-ai";

/// What a packet says.
#[derive(Debug, PartialEq)]
pub(super) enum Rtvi {
    Bot(RtviMessage),
    /// A user's client sends the bot a typed text.
    Typed(String),
}

#[derive(Deserialize)]
struct Envelope {
    label: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    text: Option<String>,
    content: Option<String>,
    user_id: Option<String>,
    r#final: bool,
    /// Of a part of the bot's text: whether it was spoken to its end. Other versions send other types.
    spoken: serde_json::Value,
    will_be_spoken: Option<bool>,
}

/// `None` for packets that are no RTVI, and for messages that are not used.
pub(super) fn decode(packet: &[u8]) -> Option<Rtvi> {
    // Most packets with an empty topic are an application's own: do not parse them.
    let begins_as_object = packet.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
    if !begins_as_object || !packet.windows(LABEL.len()).take(256).any(|w| w == LABEL.as_bytes()) {
        return None;
    }
    let envelope: Envelope = serde_json::from_slice(packet).ok()?;
    if envelope.label != LABEL {
        return None;
    }
    let data = envelope.data.unwrap_or_default();
    let bot = |message| Some(Rtvi::Bot(message));
    match envelope.kind.as_str() {
        "user-started-speaking" => bot(RtviMessage::UserStarted),
        "user-stopped-speaking" => bot(RtviMessage::UserStopped),
        "user-transcription" if data.r#final => bot(RtviMessage::UserText {
            text: data.text.filter(|t| !t.trim().is_empty())?,
            user: data.user_id.filter(|u| !u.is_empty()).map(|u| short(&u)),
        }),
        "bot-started-speaking" => bot(RtviMessage::BotStarted),
        "bot-stopped-speaking" => bot(RtviMessage::BotStopped),
        "bot-tts-text" => {
            bot(RtviMessage::BotText { text: data.text.filter(|t| !t.trim().is_empty())? })
        }
        "bot-output" => {
            let words = call::count_words(&data.text?);
            match data.spoken {
                serde_json::Value::Bool(true) => bot(RtviMessage::BotSpoken { words }),
                serde_json::Value::Bool(false) if data.will_be_spoken != Some(false) => {
                    bot(RtviMessage::BotOutput { words })
                }
                _ => None,
            }
        }
        "send-text" => Some(Rtvi::Typed(data.content.or(data.text)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_a_record_uses_are_decoded_and_all_else_is_left() {
        let bot = |m| Some(Rtvi::Bot(m));
        let text = |t: &str| RtviMessage::BotText { text: t.into() };
        for (packet, expected) in [
            (r#"{"label":"rtvi-ai","type":"bot-started-speaking"}"#, bot(RtviMessage::BotStarted)),
            (
                r#"{"label":"rtvi-ai","type":"bot-stopped-speaking","data":{}}"#,
                bot(RtviMessage::BotStopped),
            ),
            (
                r#"{"label": "rtvi-ai", "type": "bot-tts-text", "data": {"text": "hello"}}"#,
                bot(text("hello")),
            ),
            (r#"{"label":"rtvi-ai","type":"bot-tts-text","data":{"text":" "}}"#, None),
            (
                r#"{"label":"rtvi-ai","type":"bot-output","data":{"text":"a","spoken":true}}"#,
                bot(RtviMessage::BotSpoken { words: 1 }),
            ),
            (
                r#"{"label":"rtvi-ai","type":"bot-output","data":{"text":"a b","spoken":false}}"#,
                bot(RtviMessage::BotOutput { words: 2 }),
            ),
            (r#"{"label":"rtvi-ai","type":"bot-output","data":{"text":"a"}}"#, None),
            (
                r#"{"label":"rtvi-ai","type":"user-transcription",
                    "data":{"text":"a table","user_id":"web","final":true,"timestamp":"x"}}"#,
                bot(RtviMessage::UserText { text: "a table".into(), user: Some("web".into()) }),
            ),
            (
                r#"{"label":"rtvi-ai","type":"user-transcription","data":{"text":"a","final":false}}"#,
                None,
            ),
            (
                r#"{"label":"rtvi-ai","type":"send-text","data":{"content":"hello"}}"#,
                Some(Rtvi::Typed("hello".into())),
            ),
            (r#"{"label":"rtvi-ai","type":"bot-llm-text","data":{"text":"a"}}"#, None),
            (r#"{"label":"other","type":"bot-started-speaking","x":"rtvi-ai"}"#, None),
            (r#"{"label":"rtvi-ai","type":7}"#, None),
            (r#"{"label":"rtvi-ai""#, None),
            ("rtvi-ai", None),
            ("", None),
        ] {
            assert_eq!(decode(packet.as_bytes()), expected, "{packet}");
        }
        let long = format!(
            r#"{{"label":"rtvi-ai","type":"user-transcription","data":{{"text":"a","final":true,"user_id":"{}"}}}}"#,
            "x".repeat(1_000)
        );
        let Some(Rtvi::Bot(RtviMessage::UserText { user: Some(user), .. })) =
            decode(long.as_bytes())
        else {
            panic!("no text")
        };
        assert_eq!(user.len(), 128);
    }
}
