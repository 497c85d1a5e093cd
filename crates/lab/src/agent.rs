//! A voice agent that looks like a Python `AgentSession` to the others in the room: its state is an
//! attribute, both sides' words are text streams, and it sends a session feed and messages for the
//! record. It hears no sound; the script passes it the words.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use livekit::{
    SendByteOptions, SendTextOptions, StreamReader, StreamTextOptions, StreamWriter,
    prelude::{LocalParticipant, RoomEvent},
};
use livekit_protocol::agent::{
    AgentSessionEvent, AgentSessionMessage, AgentSessionUsage, AgentState, ChatMessage, ChatRole,
    LlmModelUsage, MetricsReport, ModelUsage, SessionResponse, SttModelUsage, TtsModelUsage,
    UserState,
    agent_session_event::{
        AgentStateChanged, ConversationItemAdded, Event, SessionUsageUpdated, UserStateChanged,
    },
    agent_session_message::Message,
    chat_context::{ChatItem, chat_item},
    chat_message::{ChatContent, chat_content::Payload},
    model_usage::Usage,
    session_request,
    session_response::{GetChatHistoryResponse, Response},
};
use parking_lot::Mutex;
use pbjson_types::Timestamp;
use prost::Message as _;
use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use crate::{
    person::Person,
    secrets,
    server::{Ticket, Venue},
};

const TRANSCRIPTION: &str = "lk.transcription";
const SESSION: &str = "lk.agent.session";

pub struct VoiceAgent {
    pub person: Person,
    /// Sends the session feed, as Python agents since 1.5 do.
    pub feed: bool,
    state: AgentState,
    /// When the caller last stopped speaking, in Unix seconds. The agent's latency counts from here.
    caller_stopped: Option<f64>,
    /// The conversation so far, which the session feed sends on request.
    history: Arc<Mutex<Vec<ChatItem>>>,
}

impl VoiceAgent {
    /// # Errors
    /// As [`Person::join`].
    pub async fn join(venue: &Venue, room: &str, feed: bool) -> Result<Self> {
        let ticket = Ticket {
            room: room.to_owned(),
            identity: format!("agent-AJ_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]),
            kind: "agent",
            attributes: vec![("lk.agent.state".to_owned(), "initializing".to_owned())],
            ..Default::default()
        };
        let person = Person::join(venue, &ticket).await?;
        let state = AgentState::AsInitializing;
        let history = Arc::default();
        if feed {
            tokio::spawn(answer_history(
                person.room.subscribe(),
                person.me(),
                Arc::clone(&history),
            ));
        }
        let mut agent = Self { person, feed, state, caller_stopped: None, history };
        agent.enter(AgentState::AsListening).await?;
        Ok(agent)
    }

    /// Changes the state, and publishes it by attribute and feed.
    ///
    /// # Errors
    /// If it cannot be published.
    pub async fn enter(&mut self, state: AgentState) -> Result<()> {
        let old = std::mem::replace(&mut self.state, state);
        let name = match state {
            AgentState::AsInitializing => "initializing",
            AgentState::AsIdle => "idle",
            AgentState::AsListening => "listening",
            AgentState::AsThinking => "thinking",
            AgentState::AsSpeaking => "speaking",
        };
        self.person.set("lk.agent.state", name).await?;
        let change = AgentStateChanged { old_state: old as i32, new_state: state as i32 };
        self.event(Event::AgentStateChanged(change), now()).await
    }

    /// Says a text at the given pace, `word` for each word.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn says(&mut self, text: &str, word: Duration) -> Result<()> {
        secrets::keep_words(text);
        self.enter(AgentState::AsSpeaking).await?;
        let started = now();
        let mut options = StreamTextOptions::new_with_topic(TRANSCRIPTION);
        options.attributes.insert("lk.segment_id".into(), segment_id());
        options.attributes.insert("lk.transcription_final".into(), "false".into());
        let stream = self.person.me().stream_text(options).await?;
        for piece in text.split_inclusive(' ') {
            stream.write(piece).await?;
            sleep(word).await;
        }
        stream.close().await?;
        let stopped = now();
        self.enter(AgentState::AsListening).await?;
        let metrics = MetricsReport {
            started_speaking_at: Some(timestamp(started)),
            stopped_speaking_at: Some(timestamp(stopped)),
            e2e_latency: self.caller_stopped.take().map(|t| started - t),
            ..Default::default()
        };
        self.item(ChatRole::Assistant, text, metrics).await
    }

    /// Acts as if the caller had said a text: sends interims at the given pace, then the final
    /// transcript and the turn.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn hears(&mut self, caller: &str, text: &str, word: Duration) -> Result<()> {
        secrets::keep_words(text);
        let started = now();
        self.user(UserState::UsListening, UserState::UsSpeaking, started).await?;
        let segment = segment_id();
        let mut heard = String::new();
        for piece in text.split_inclusive(' ') {
            heard.push_str(piece);
            sleep(word).await;
            self.transcript(caller, &segment, heard.trim_end(), false).await?;
        }
        let stopped = now();
        self.user(UserState::UsSpeaking, UserState::UsListening, stopped).await?;
        sleep(Duration::from_millis(300)).await; // the recogniser's delay
        self.transcript(caller, &segment, text, false).await?;
        self.transcript(caller, &segment, text, true).await?;
        self.caller_stopped = Some(stopped);
        let metrics = MetricsReport {
            started_speaking_at: Some(timestamp(started)),
            stopped_speaking_at: Some(timestamp(stopped)),
            transcription_delay: Some(0.3),
            ..Default::default()
        };
        self.item(ChatRole::User, text, metrics).await?;
        self.enter(AgentState::AsThinking).await
    }

    /// When the caller whom it has heard last stopped speaking, in Unix seconds; `None` once it has answered.
    pub fn caller_stopped(&self) -> Option<f64> {
        self.caller_stopped
    }

    /// Publishes a message for the record (docs/contract.md §6.2).
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn publishes(&self, message: &serde_json::Value) -> Result<()> {
        self.person.sends_text("call-history", &message.to_string()).await
    }

    /// Sends the models in use on the session feed.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn tells_usage(&self) -> Result<()> {
        let (provider, usage) = ("lab".to_owned(), |usage| ModelUsage { usage: Some(usage) });
        let model_usage = vec![
            usage(Usage::Stt(SttModelUsage {
                provider: provider.clone(),
                model: "ear".into(),
                ..Default::default()
            })),
            usage(Usage::Llm(LlmModelUsage {
                provider: provider.clone(),
                model: "mind".into(),
                ..Default::default()
            })),
            usage(Usage::Tts(TtsModelUsage {
                provider,
                model: "voice".into(),
                ..Default::default()
            })),
        ];
        let usage = Some(AgentSessionUsage { model_usage });
        self.event(Event::SessionUsageUpdated(SessionUsageUpdated { usage }), now()).await
    }

    /// Sends any other event on the session feed.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn tells_event(&self, event: Event) -> Result<()> {
        self.event(event, now()).await
    }

    async fn transcript(
        &self,
        caller: &str,
        segment: &str,
        text: &str,
        is_final: bool,
    ) -> Result<()> {
        let mut options = SendTextOptions::new_with_topic(TRANSCRIPTION);
        options.sender_identity = Some(caller.to_owned().into());
        options.attributes.insert("lk.segment_id".into(), segment.to_owned());
        options.attributes.insert("lk.transcription_final".into(), is_final.to_string());
        self.person.me().send_text(text, options).await?;
        Ok(())
    }

    async fn user(&self, old: UserState, new: UserState, at: f64) -> Result<()> {
        let change = UserStateChanged { old_state: old as i32, new_state: new as i32 };
        self.event(Event::UserStateChanged(change), at).await
    }

    async fn item(&self, role: ChatRole, text: &str, metrics: MetricsReport) -> Result<()> {
        let message = ChatMessage {
            id: format!("item_{}", uuid::Uuid::new_v4().simple()),
            role: role as i32,
            content: vec![ChatContent { payload: Some(Payload::Text(text.to_owned())) }],
            metrics: Some(metrics),
            created_at: Some(timestamp(now())),
            ..Default::default()
        };
        let item = ChatItem { item: Some(chat_item::Item::Message(message)) };
        self.history.lock().push(item.clone());
        let item = Some(item);
        self.event(Event::ConversationItemAdded(ConversationItemAdded { item }), now()).await
    }

    async fn event(&self, event: Event, at: f64) -> Result<()> {
        if !self.feed {
            return Ok(());
        }
        let created_at = Some(timestamp(at));
        let event = AgentSessionEvent { created_at, event: Some(event) };
        let message = AgentSessionMessage { message: Some(Message::Event(event)) };
        let options = SendByteOptions::new_with_topic(SESSION);
        self.person.me().send_bytes(message.encode_to_vec(), options).await?;
        Ok(())
    }
}

/// Answers requests for the history as a Python session does: it sends the history to the whole room.
async fn answer_history(
    mut events: UnboundedReceiver<RoomEvent>,
    us: LocalParticipant,
    history: Arc<Mutex<Vec<ChatItem>>>,
) {
    while let Some(event) = events.recv().await {
        let RoomEvent::ByteStreamOpened { reader, topic, .. } = event else { continue };
        let Some(reader) = reader.take().filter(|_| topic == SESSION) else { continue };
        let Ok(bytes) = reader.read_all().await else { continue };
        let Ok(AgentSessionMessage { message: Some(Message::Request(r)) }) =
            AgentSessionMessage::decode(bytes)
        else {
            continue;
        };
        if !matches!(r.request, Some(session_request::Request::GetChatHistory(_))) {
            continue;
        }
        let items = history.lock().clone();
        let response = SessionResponse {
            request_id: r.request_id,
            error: None,
            response: Some(Response::GetChatHistory(GetChatHistoryResponse { items })),
        };
        let message = AgentSessionMessage { message: Some(Message::Response(response)) };
        let options = SendByteOptions::new_with_topic(SESSION);
        // Fails when the agent's own connection has ended; then the answer is of no use.
        let _ = us.send_bytes(message.encode_to_vec(), options).await;
    }
}

fn segment_id() -> String {
    format!("SG_{}", uuid::Uuid::new_v4().simple())
}

/// Unix seconds.
fn now() -> f64 {
    chrono::Utc::now().timestamp_micros() as f64 / 1e6
}

fn timestamp(seconds: f64) -> Timestamp {
    Timestamp { seconds: seconds as i64, nanos: (seconds.fract() * 1e9) as i32 }
}
