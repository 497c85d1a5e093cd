//! What was said: the text streams on `lk.transcription` and the legacy packets.
//!
//! Both carry the same words under different segment ids (CS §1), so they are kept apart and one
//! of them is chosen for each speaker when the call is computed. A caller's segment comes as many
//! streams, each with the whole text so far; an agent's as one stream of deltas.

use std::collections::BTreeMap;

use super::{
    event::{Moment, StreamOpened},
    parties::{Parties, Side},
    words,
};

/// Streams open at the same time; a hostile sender could open any number.
const MAX_OPEN: usize = 64;
/// Bytes of one segment's text; what is longer still counts, but not its further words.
const MAX_TEXT: usize = 64 * 1024;
/// Segments of one call: a ten-hour call has some 20,000.
const MAX_SEGMENTS: usize = 40_000;

/// One piece of speech under one segment id. Times by our clock.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// As said by the stream: the transcribed participant.
    pub(crate) identity: String,
    track: Option<String>,
    /// First text, or the opening of its first stream.
    pub(crate) first_at: Moment,
    /// Last text that changed it.
    pub(crate) last_at: Moment,
    /// When its last stream closed.
    pub(crate) closed_at: Option<Moment>,
    pub(crate) words: u32,
    /// The server vouches that an agent sent it for somebody else, or nobody is named.
    vouched: bool,
    /// Came in more than one piece: the shape of an agent's speech.
    deltas: bool,
    blank: bool,
}

impl Segment {
    /// Something was said: white space alone is not.
    pub(crate) fn has_text(&self) -> bool {
        !self.blank
    }
}

#[derive(Clone, Debug)]
struct Open {
    segment: usize,
    text: String,
    chunks: u32,
}

type Key = (String, String);

#[derive(Clone, Debug, Default)]
struct Table {
    segments: Vec<Segment>,
    by_key: BTreeMap<Key, usize>,
}

impl Table {
    fn find_or_add(&mut self, identity: &str, id: &str, at: Moment) -> Option<usize> {
        let key = (identity.to_owned(), id.to_owned());
        if let Some(i) = self.by_key.get(&key) {
            return Some(*i);
        }
        if self.segments.len() >= MAX_SEGMENTS {
            return None;
        }
        self.segments.push(Segment {
            identity: identity.to_owned(),
            track: None,
            first_at: at,
            last_at: at,
            closed_at: None,
            words: 0,
            vouched: false,
            deltas: false,
            blank: true,
        });
        self.by_key.insert(key, self.segments.len() - 1);
        Some(self.segments.len() - 1)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Speech {
    streams: Table,
    legacy: Table,
    open: BTreeMap<String, Open>,
}

impl Speech {
    /// False when it was refused because too much is open.
    pub(crate) fn opened(&mut self, o: &StreamOpened, at: Moment) -> bool {
        if self.open.len() >= MAX_OPEN {
            return false;
        }
        let id = o.segment.as_deref().unwrap_or(&o.stream);
        let Some(i) = self.streams.find_or_add(&o.identity, id, at) else { return false };
        let s = &mut self.streams.segments[i];
        s.vouched |= o.generated || o.identity.is_empty();
        s.track = s.track.take().or_else(|| o.track.clone());
        s.closed_at = None;
        let open = Open { segment: i, text: String::new(), chunks: 0 };
        self.open.insert(o.stream.clone(), open);
        true
    }

    /// The transcribed participant, if the stream is known.
    pub(crate) fn chunk(&mut self, stream: &str, text: &str, at: Moment) -> Option<&str> {
        let open = self.open.get_mut(stream)?;
        open.chunks += 1;
        push_capped(&mut open.text, &plain(text));
        let s = &mut self.streams.segments[open.segment];
        // Streams of a caller's segment repeat the text; only the first sets its beginning.
        if s.blank && open.text.trim().is_empty() {
            return Some(&s.identity);
        }
        if s.blank {
            s.first_at = at;
        }
        s.blank = false;
        s.last_at = at;
        s.deltas |= open.chunks > 1;
        Some(&s.identity)
    }

    pub(crate) fn closed(&mut self, stream: &str, at: Moment) {
        let Some(open) = self.open.remove(stream) else { return };
        let s = &mut self.streams.segments[open.segment];
        if !open.text.trim().is_empty() {
            s.words = words::count(&open.text);
        }
        s.closed_at = Some(at);
    }

    pub(crate) fn legacy(
        &mut self,
        identity: &str,
        id: &str,
        text: &str,
        is_final: bool,
        at: Moment,
    ) {
        let Some(i) = self.legacy.find_or_add(identity, id, at) else { return };
        let s = &mut self.legacy.segments[i];
        if !text.trim().is_empty() {
            if s.blank {
                s.first_at = at;
            }
            s.blank = false;
            s.words = words::count(text);
            s.last_at = at;
        }
        if is_final {
            s.closed_at = Some(at);
        }
    }

    /// The non-empty segments of one side in order of their beginning; legacy packets only where
    /// no stream told anything of that side (CS §1.4).
    pub(crate) fn of(&self, side: Side, parties: &Parties) -> Vec<Segment> {
        // A transcript counts if an agent sent it: for itself, or for somebody else, which the
        // server marks. Whose it is may only be known long after it came. (Legacy packets of others
        // are not let through by the server.)
        let pick = |table: &Table, spoken_by_anybody: bool| -> Vec<Segment> {
            let mut found: Vec<Segment> = (table.segments.iter())
                .filter(|s| s.has_text() && speaker(s, parties) == Some(side))
                .filter(|s| {
                    !spoken_by_anybody || s.vouched || parties.side(&s.identity) != Some(Side::User)
                })
                .cloned()
                .collect();
            found.sort_by_key(|s| s.first_at);
            found
        };
        let mut found = pick(&self.streams, true);
        if found.is_empty() {
            found = pick(&self.legacy, false);
        }
        // What is still open counts with the words so far.
        for open in self.open.values().filter(|o| !o.text.trim().is_empty()) {
            let s = &self.streams.segments[open.segment];
            if let Some(f) =
                found.iter_mut().find(|f| f.first_at == s.first_at && f.identity == s.identity)
            {
                f.words = f.words.max(words::count(&open.text));
            }
        }
        found
    }

    /// Whether anything at all was transcribed.
    pub(crate) fn any(&self) -> bool {
        let any = |t: &Table| t.segments.iter().any(Segment::has_text);
        any(&self.streams) || any(&self.legacy)
    }
}

/// Who spoke: the owner of the transcribed track; else the named participant; else, for a nameless
/// stream, its shape (CS §1.2).
fn speaker(s: &Segment, parties: &Parties) -> Option<Side> {
    let by_track = s.track.as_deref().and_then(|t| parties.owner_of_track(t));
    if let Some(p) = by_track {
        return parties.side(&p.identity);
    }
    if let Some(side) = parties.side(&s.identity) {
        return Some(side);
    }
    s.identity.is_empty().then_some(if s.deltas { Side::Agent } else { Side::User })
}

/// Takes the text out of a chunk of JSON lines (`{"text": …}`, an option of the agent's output).
fn plain(chunk: &str) -> std::borrow::Cow<'_, str> {
    if !chunk.starts_with('{') {
        return chunk.into();
    }
    let mut out = String::new();
    for line in chunk.lines() {
        let Ok(serde_json::Value::Object(o)) = serde_json::from_str(line) else {
            return chunk.into();
        };
        let Some(text) = o.get("text").and_then(|t| t.as_str()) else { return chunk.into() };
        out.push_str(text);
    }
    out.into()
}

fn push_capped(to: &mut String, text: &str) {
    let room = MAX_TEXT.saturating_sub(to.len());
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    to.push_str(&text[..end]);
}
