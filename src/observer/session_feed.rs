//! The agent's session feed: protobuf messages on `lk.agent.session`, turned into ours; and the
//! one request we ever send, for the agent's own history.

use livekit::{ByteStreamWriter, StreamByteOptions, StreamWriter, prelude::LocalParticipant};
use livekit_protocol::agent::{
    self as pb, AgentSessionMessage, ChatRole, SessionRequest, agent_session_event::Event,
    agent_session_message::Message as Envelope, chat_context::ChatItem, chat_context::chat_item,
    chat_message::chat_content::Payload, model_usage::Usage, session_request::GetChatHistory,
    session_request::Request, session_response::Response,
};
use pbjson_types::Timestamp;
use prost::Message;

use crate::call::{
    Moment,
    event::{AgentState, By, FeedMessage, Item, Model, ModelTask, UserState},
};

pub(super) const TOPIC: &str = "lk.agent.session";

/// `None` for what a record has no use for.
///
/// # Errors
/// If it is no message of the feed.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<FeedMessage>, prost::DecodeError> {
    Ok(AgentSessionMessage::decode(bytes)?.message.and_then(message))
}

fn message(envelope: Envelope) -> Option<FeedMessage> {
    match envelope {
        Envelope::Event(e) => {
            let at = e.created_at.and_then(moment);
            // Whatever else it says, it tells how the agent's clock goes.
            e.event.and_then(|e| event(e, at)).or(at.map(|at| FeedMessage::Clock { at }))
        }
        Envelope::Response(r) => match r.response? {
            Response::GetChatHistory(h) => {
                Some(FeedMessage::History { items: h.items.into_iter().filter_map(item).collect() })
            }
            _ => None,
        },
        _ => None,
    }
}

fn event(e: Event, at: Option<Moment>) -> Option<FeedMessage> {
    Some(match e {
        Event::AgentStateChanged(s) => {
            let state = match pb::AgentState::try_from(s.new_state).ok()? {
                pb::AgentState::AsInitializing => AgentState::Initializing,
                pb::AgentState::AsIdle => AgentState::Idle,
                pb::AgentState::AsListening => AgentState::Listening,
                pb::AgentState::AsThinking => AgentState::Thinking,
                pb::AgentState::AsSpeaking => AgentState::Speaking,
            };
            FeedMessage::AgentState { at, state }
        }
        Event::UserStateChanged(s) => {
            let state = match pb::UserState::try_from(s.new_state).ok()? {
                pb::UserState::UsSpeaking => UserState::Speaking,
                pb::UserState::UsListening => UserState::Listening,
                pb::UserState::UsAway => UserState::Away,
            };
            FeedMessage::UserState { at, state }
        }
        Event::ConversationItemAdded(i) => FeedMessage::Item { at, item: item(i.item?)? },
        Event::SessionUsageUpdated(u) => {
            let usage = u.usage?.model_usage.into_iter();
            FeedMessage::Usage { models: usage.filter_map(|m| model(m.usage?)).collect() }
        }
        _ => return None,
    })
}

fn model(usage: Usage) -> Option<Model> {
    let (task, provider, model) = match usage {
        Usage::Llm(u) => (ModelTask::Llm, u.provider, u.model),
        Usage::Tts(u) => (ModelTask::Tts, u.provider, u.model),
        Usage::Stt(u) => (ModelTask::Stt, u.provider, u.model),
        Usage::Interruption(_) | Usage::Eot(_) => return None,
    };
    Some(Model { task, provider, model })
}

fn item(i: ChatItem) -> Option<Item> {
    let chat_item::Item::Message(m) = i.item? else { return None };
    let by = match ChatRole::try_from(m.role).ok()? {
        ChatRole::User => By::User,
        ChatRole::Assistant => By::Agent,
        ChatRole::Developer | ChatRole::System => return None,
    };
    let text: Vec<String> =
        (m.content.into_iter()).filter_map(|c| c.payload).map(|Payload::Text(t)| t).collect();
    let metrics = m.metrics.unwrap_or_default();
    Some(Item {
        id: m.id,
        by,
        text: text.join(" "),
        interrupted: m.interrupted,
        created_at: m.created_at.and_then(moment),
        started_at: metrics.started_speaking_at.and_then(moment),
        stopped_at: metrics.stopped_speaking_at.and_then(moment),
        e2e_latency: metrics.e2e_latency,
    })
}

fn moment(t: Timestamp) -> Option<Moment> {
    let ms = t.seconds.checked_mul(1000)?.checked_add(i64::from(t.nanos / 1_000_000))?;
    Some(Moment::from_millis(ms))
}

/// Asks one agent for the conversation so far. The answer comes as a message of the feed, or not
/// at all; nothing waits for it.
pub(super) async fn ask_for_history(us: LocalParticipant, agent: String) {
    let request = AgentSessionMessage {
        message: Some(Envelope::Request(SessionRequest {
            request_id: format!("call-history-{}", uuid::Uuid::new_v4()),
            request: Some(Request::GetChatHistory(GetChatHistory {})),
        })),
    };
    // A stream of its own, not `send_bytes`: that may choose a form older agents cannot read.
    let mut options = StreamByteOptions::new_with_topic(TOPIC);
    options.destination_identities = vec![agent.into()];
    options.name = Some("AS_history".into());
    let sent = async {
        let writer: ByteStreamWriter = us.stream_bytes(options).await?;
        writer.write(&request.encode_to_vec()).await?;
        writer.close().await
    };
    if let Err(e) = sent.await {
        tracing::debug!(error = %e, "history request not sent");
    }
}
