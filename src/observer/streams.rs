//! Reads text and byte streams of a room: transcripts, chat, what agents publish, the session feed.
//! Each open stream becomes a stream of facts. Sizes and numbers are limited. What a text stream
//! brought before it broke off still counts.

use std::pin::Pin;

use call::{Fact, event::StreamOpened};
use futures_util::{Stream, StreamExt, stream};
use livekit::{ByteStreamReader, StreamReader, TextStreamReader};

use super::{ids::short, session_feed};

pub(super) const TRANSCRIPTION: &str = "lk.transcription";
pub(super) const CHAT: &str = "lk.chat";
pub(super) const PUBLISHED: &str = "call-history";

/// Bytes of one message on `call-history` or `lk.chat`.
const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes of one message of the session feed. It is large, as a history holds a whole call.
pub(super) const MAX_FEED: usize = 4 * 1024 * 1024;

pub(super) type Facts = Pin<Box<dyn Stream<Item = Fact> + Send>>;

/// `None` for topics that we do not use; the stream is then closed unread.
pub(super) fn text(topic: &str, identity: String, reader: TextStreamReader) -> Option<Facts> {
    match topic {
        TRANSCRIPTION => Some(transcript(identity, reader)),
        CHAT => Some(Box::pin(stream::once(whole_text(reader)).map(move |text| Fact::Chat {
            identity: identity.clone(),
            text,
            words: None,
        }))),
        PUBLISHED => Some(Box::pin(
            stream::once(whole_text(reader))
                .map(move |text| Fact::Published { identity: Some(identity.clone()), text }),
        )),
        _ => None,
    }
}

pub(super) fn bytes(topic: &str, identity: String, reader: ByteStreamReader) -> Option<Facts> {
    if topic != session_feed::TOPIC {
        return None;
    }
    let message = stream::once(whole_bytes(reader));
    Some(Box::pin(message.filter_map(move |bytes| {
        let fact = feed(identity.clone(), bytes.as_deref());
        async move { fact }
    })))
}

/// `None` for a message that we do not use. `bytes` is `None` for a message that did not arrive whole.
fn feed(identity: String, bytes: Option<&[u8]>) -> Option<Fact> {
    match bytes.map(session_feed::decode) {
        Some(Ok(message)) => message.map(|message| Fact::Feed { identity, message }),
        Some(Err(_)) | None => Some(Fact::Undecodable { identity }),
    }
}

/// The states of a transcript stream.
enum Step {
    Open,
    Reading,
    Closed,
}

fn transcript(identity: String, reader: TextStreamReader) -> Facts {
    let id = short(&reader.info().id);
    Box::pin(stream::unfold((reader, Step::Open), move |(mut reader, step)| {
        let (identity, stream) = (identity.clone(), id.clone());
        async move {
            match step {
                Step::Open => {
                    let attributes = reader.info().attributes();
                    let fact = Fact::StreamOpened(StreamOpened {
                        stream,
                        identity,
                        segment: attributes.get("lk.segment_id").map(|id| short(id)),
                        track: attributes.get("lk.transcribed_track_id").map(|id| short(id)),
                        generated: reader.info().generated,
                    });
                    Some((fact, (reader, Step::Reading)))
                }
                Step::Reading => match reader.next().await {
                    Some(Ok(text)) => {
                        Some((Fact::StreamChunk { stream, text }, (reader, Step::Reading)))
                    }
                    // The stream ended or broke off: what came before counts in both cases.
                    Some(Err(_)) | None => {
                        // The SDK adds the trailer's attributes only at the end.
                        let attributes = reader.info().attributes();
                        let last = attributes.get("lk.transcription_final");
                        let is_final = last.is_some_and(|v| v == "true");
                        let fact = Fact::StreamClosed { stream, is_final };
                        Some((fact, (reader, Step::Closed)))
                    }
                },
                Step::Closed => None,
            }
        }
    }))
}

async fn whole_text(mut reader: TextStreamReader) -> String {
    let mut text = String::new();
    while let Some(Ok(chunk)) = reader.next().await {
        text.push_str(&chunk);
        if text.len() > MAX_MESSAGE {
            // The core checks the length, so the rest need not be read.
            break;
        }
    }
    text
}

/// `None` if the message is too large or broke off, as a part of a feed message cannot be decoded.
async fn whole_bytes<B: AsRef<[u8]>, E>(
    mut chunks: impl Stream<Item = Result<B, E>> + Unpin,
) -> Option<Vec<u8>> {
    let mut bytes = vec![];
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.ok()?;
        if bytes.len() + chunk.as_ref().len() > MAX_FEED {
            return None;
        }
        bytes.extend_from_slice(chunk.as_ref());
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fact made of a session-feed message that is sent in these chunks.
    async fn fact(chunks: Vec<Result<Vec<u8>, ()>>) -> Option<Fact> {
        let bytes = whole_bytes(stream::iter(chunks)).await;
        feed("agent".into(), bytes.as_deref())
    }

    #[tokio::test]
    async fn a_feed_message_that_is_too_large_or_breaks_off_is_undecodable() {
        let undecodable = Some(Fact::Undecodable { identity: "agent".into() });
        let half = || Ok(vec![0; MAX_FEED / 2]);
        assert_eq!(fact(vec![half(), half(), Ok(vec![0])]).await, undecodable);
        // The SDK reports a message that is too large as an error.
        assert_eq!(fact(vec![Err(())]).await, undecodable);
        assert_eq!(fact(vec![Ok(vec![]), Err(())]).await, undecodable);
        assert_eq!(fact(vec![]).await, None, "an empty message says nothing");
    }
}
