//! The agent's session feed: decodes protobuf messages on `lk.agent.session` into the core's types. Also
//! sends the only request that we ever send: for the agent's chat history.

use std::{collections::HashSet, time::Duration};

use call::{
    Moment,
    event::{
        AgentState, Answerer, By, Components, FeedMessage, Handoff, Item, Model, ModelTask,
        ToolCall, Used, UserState,
    },
};
use livekit::{ByteStreamWriter, StreamByteOptions, StreamWriter, prelude::LocalParticipant};
use livekit_protocol::agent::{
    self as pb, AgentSessionMessage, ChatRole, SessionRequest,
    agent_session_event::Event,
    agent_session_message::Message as Envelope,
    chat_context::{ChatItem, chat_item},
    chat_message::chat_content::Payload,
    model_usage::Usage,
    session_request::{GetChatHistory, Request},
    session_response::Response,
};
use pbjson_types::Timestamp;
use prost::Message;
use tokio::{sync::watch, time::timeout};

use super::ids::short;

/// Waits after each request for a history. All five requests fall within half a second: for so long a
/// Node agent may answer (docs/signals.md §7.4).
const ASK_AGAIN_AFTER: [Duration; 5] = [
    Duration::from_millis(30),
    Duration::from_millis(60),
    Duration::from_millis(110),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// Items read of one history. A ten-hour call has some 20,000.
const MAX_ITEMS: usize = 40_000;

pub(super) const TOPIC: &str = "lk.agent.session";

/// `None` for a message that a record does not use.
///
/// # Errors
/// If the bytes are not a message of the feed.
pub(super) fn decode(bytes: &[u8]) -> Result<Option<FeedMessage>, prost::DecodeError> {
    Ok(AgentSessionMessage::decode(bytes)?.message.and_then(message))
}

fn message(envelope: Envelope) -> Option<FeedMessage> {
    match envelope {
        Envelope::Event(e) => {
            let at = e.created_at.and_then(moment);
            // Also an event that we do not use shows the time of the agent's clock.
            e.event.and_then(|e| event(e, at)).or(at.map(|at| FeedMessage::Clock { at }))
        }
        Envelope::Response(r) => match r.response? {
            Response::GetChatHistory(h) => Some(history(h.items)),
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
        Event::ConversationItemAdded(i) => match i.item?.item? {
            chat_item::Item::Message(m) => FeedMessage::Item { at, item: item(m)? },
            chat_item::Item::AgentHandoff(h) => FeedMessage::Handoff(handoff(h)),
            _ => return None,
        },
        Event::FunctionToolsExecuted(t) => {
            FeedMessage::Tools { calls: tools(t.function_calls, t.function_call_outputs) }
        }
        Event::AgentFalseInterruption(f) => {
            FeedMessage::FalseInterruption { at, resumed: f.resumed }
        }
        Event::AmdPrediction(p) => FeedMessage::Answered { by: answerer(p.category)? },
        Event::Error(e) => FeedMessage::Error { fatal: is_fatal(&e.message) },
        Event::SessionUsageUpdated(u) => {
            let usage = u.usage?.model_usage.into_iter();
            FeedMessage::Usage { models: usage.filter_map(|m| model(m.usage?)).collect() }
        }
        _ => return None,
    })
}

/// The feed has only the error's text. Python prints its fields (`recoverable=False`), Node may send JSON
/// (`"recoverable":false`).
fn is_fatal(message: &str) -> bool {
    let text = message.to_ascii_lowercase();
    text.match_indices("recoverable").any(|(at, word)| {
        let value = text[at + word.len()..].trim_start_matches(['"', '\'', ' ', ':', '=']);
        value.starts_with("false")
    })
}

fn history(all: Vec<ChatItem>) -> FeedMessage {
    let (mut items, mut handoffs, mut calls, mut outputs) = (vec![], vec![], vec![], vec![]);
    // Keep the last items: they belong to the running call.
    let too_many = all.len().saturating_sub(MAX_ITEMS);
    for i in all.into_iter().skip(too_many).filter_map(|i| i.item) {
        match i {
            chat_item::Item::Message(m) => items.extend(item(m)),
            chat_item::Item::AgentHandoff(h) => handoffs.push(handoff(h)),
            chat_item::Item::FunctionCall(c) => calls.push(c),
            chat_item::Item::FunctionCallOutput(o) => outputs.push(o),
            chat_item::Item::AgentConfigUpdate(_) => {}
        }
    }
    FeedMessage::History { items, handoffs, tools: tools(calls, outputs) }
}

fn tools(calls: Vec<pb::FunctionCall>, outputs: Vec<pb::FunctionCallOutput>) -> Vec<ToolCall> {
    let failed: HashSet<String> =
        outputs.into_iter().filter(|o| o.is_error).map(|o| o.call_id).collect();
    (calls.into_iter().take(MAX_ITEMS))
        .map(|c| ToolCall {
            failed: failed.contains(&c.call_id),
            id: short(&c.call_id),
            name: short(&c.name),
            at: c.created_at.and_then(moment),
        })
        .collect()
}

fn handoff(h: pb::AgentHandoff) -> Handoff {
    Handoff {
        id: short(&h.id),
        at: h.created_at.and_then(moment),
        from: h.old_agent_id.as_deref().map(short),
        to: short(&h.new_agent_id),
    }
}

fn answerer(category: i32) -> Option<Answerer> {
    Some(match pb::AmdCategory::try_from(category).ok()? {
        pb::AmdCategory::AmdUnknown => return None,
        pb::AmdCategory::AmdHuman => Answerer::Human,
        pb::AmdCategory::AmdMachineIvr => Answerer::MachineIvr,
        pb::AmdCategory::AmdMachineVm => Answerer::MachineVm,
        pb::AmdCategory::AmdMachineUnavailable => Answerer::MachineUnavailable,
        pb::AmdCategory::AmdUncertain => Answerer::Uncertain,
    })
}

fn model(usage: Usage) -> Option<Model> {
    let count = |n: i32| u64::try_from(n).unwrap_or(0);
    let seconds = |s: f64| if s.is_finite() { s.max(0.0) } else { 0.0 };
    let (task, provider, model, used) = match usage {
        Usage::Llm(u) => {
            let used = Used {
                input_tokens: count(u.input_tokens),
                cached_input_tokens: count(u.input_cached_tokens),
                output_tokens: count(u.output_tokens),
                ..Used::default()
            };
            (ModelTask::Llm, u.provider, u.model, used)
        }
        Usage::Tts(u) => {
            let used = Used {
                input_tokens: count(u.input_tokens),
                output_tokens: count(u.output_tokens),
                characters: count(u.characters_count),
                audio_seconds: seconds(u.audio_duration),
                ..Used::default()
            };
            (ModelTask::Tts, u.provider, u.model, used)
        }
        Usage::Stt(u) => {
            let used = Used {
                input_tokens: count(u.input_tokens),
                output_tokens: count(u.output_tokens),
                audio_seconds: seconds(u.audio_duration),
                ..Used::default()
            };
            (ModelTask::Stt, u.provider, u.model, used)
        }
        Usage::Interruption(_) | Usage::Eot(_) => return None,
    };
    Some(Model { task, provider: short(&provider), model: short(&model), used })
}

fn item(m: pb::ChatMessage) -> Option<Item> {
    let by = match ChatRole::try_from(m.role).ok()? {
        ChatRole::User => By::User,
        ChatRole::Assistant => By::Agent,
        ChatRole::Developer | ChatRole::System => return None,
    };
    let text: Vec<String> =
        (m.content.into_iter()).filter_map(|c| c.payload).map(|Payload::Text(t)| t).collect();
    let metrics = m.metrics.unwrap_or_default();
    Some(Item {
        id: short(&m.id),
        by,
        text: text.join(" "),
        interrupted: m.interrupted,
        created_at: m.created_at.and_then(moment),
        started_at: metrics.started_speaking_at.and_then(moment),
        stopped_at: metrics.stopped_speaking_at.and_then(moment),
        e2e_latency: metrics.e2e_latency,
        components: Components {
            transcription_delay: metrics.transcription_delay,
            end_of_turn_delay: metrics.end_of_turn_delay,
            llm_first_token: metrics.llm_node_ttft,
            tts_first_byte: metrics.tts_node_ttfb,
        },
    })
}

fn moment(t: Timestamp) -> Option<Moment> {
    let ms = t.seconds.checked_mul(1000)?.checked_add(i64::from(t.nanos / 1_000_000))?;
    Some(Moment::from_millis(ms))
}

/// Asks one agent for the conversation so far, again and again until `answered` becomes true. The answer
/// is a message of the feed. A Python agent answers the first request. A Node agent answers only after it
/// has seen its caller leave, which may be some 20 ms after us, and then only for a moment.
pub(super) async fn ask_for_history(
    us: LocalParticipant,
    agent: String,
    mut answered: watch::Receiver<bool>,
) {
    for wait in ASK_AGAIN_AFTER {
        ask(&us, &agent).await;
        // If the sender is dropped, the session has ended: stop too.
        if timeout(wait, answered.wait_for(|done| *done)).await.is_ok() {
            return;
        }
    }
}

async fn ask(us: &LocalParticipant, agent: &str) {
    let request = AgentSessionMessage {
        message: Some(Envelope::Request(SessionRequest {
            request_id: format!("call-history-{}", uuid::Uuid::new_v4()),
            request: Some(Request::GetChatHistory(GetChatHistory {})),
        })),
    };
    // Not `send_bytes`: it may choose a stream format that older agents cannot read.
    let mut options = StreamByteOptions::new_with_topic(TOPIC);
    options.destination_identities = vec![agent.to_owned().into()];
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
