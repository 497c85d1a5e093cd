//! What was said: the text streams on `lk.transcription` and the legacy packets.
//!
//! Both carry the same words under different segment ids (docs/signals.md §5.1), so they are kept apart and one
//! of them is chosen for each speaker when the call is computed. A caller's segment comes as many
//! streams, each with the whole text so far; an agent's as one stream of deltas.

use std::collections::BTreeMap;

use super::{
    event::{Moment, StreamOpened},
    parties::{Parties, Side},
    taken::fill,
    words,
};

/// Streams open at the same time; a hostile sender could open any number.
const MAX_OPEN: usize = 64;
/// Bytes of one segment's text; what is longer still counts, but not its further words.
const MAX_TEXT: usize = 64 * 1024;
/// Streams whose sender is told before they are opened.
const MAX_SENDERS: usize = 64;
/// A chunk this much later than the one before it is the next thing said, not the same.
const ONE_BURST_MS: i64 = 100;
/// What is longer than this is not compared with what another agent tells.
const LONGEST_SEGMENT_MS: i64 = 120_000;
/// Text that stopped this long before its stream was closed was cut off.
pub(crate) const CUT_AFTER_MS: i64 = 700;
/// A chunk this close to the end of its stream came with it.
const WITH_CLOSE_MS: i64 = 250;
/// A word takes about so long to be spoken.
const A_WORD_MS: i64 = 380;
/// Segments of one call: a ten-hour call has some 20,000.
const MAX_SEGMENTS: usize = 40_000;

/// One piece of speech under one segment id. Times by our clock.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// As said by the stream: the transcribed participant.
    pub identity: String,
    track: Option<String>,
    /// First text, or the opening of its first stream.
    pub first_at: Moment,
    /// Last text that changed it.
    pub last_at: Moment,
    /// The last text before the burst that `last_at` belongs to: an interrupted stream gets a last
    /// word with its close.
    pub burst_before: Option<Moment>,
    /// When its last stream closed.
    pub closed_at: Option<Moment>,
    pub words: u32,
    /// Only where a transcript is asked for.
    pub text: Option<Box<str>>,
    /// The recognition has said its last word on it.
    pub is_final: bool,
    /// Its text came before it was final: its beginning is known.
    pub had_interim: bool,
    /// The server vouches that an agent sent it for somebody else, or nobody is named.
    vouched: bool,
    /// Came in more than one piece: the shape of an agent's speech.
    deltas: bool,
    blank: bool,
    /// Who sent it, if that is not the one who is named.
    sender: Option<String>,
}

impl Segment {
    fn new(identity: &str, at: Moment) -> Self {
        Self {
            identity: identity.to_owned(),
            track: None,
            first_at: at,
            last_at: at,
            burst_before: None,
            closed_at: None,
            words: 0,
            text: None,
            is_final: false,
            had_interim: false,
            vouched: false,
            deltas: false,
            blank: true,
            sender: None,
        }
    }

    /// Something was said: white space alone is not.
    pub(crate) fn has_text(&self) -> bool {
        !self.blank
    }

    /// When it was over, as far as is known.
    pub(crate) fn end(&self) -> Moment {
        self.closed_at.unwrap_or(self.last_at).max(self.first_at)
    }

    /// When an agent's sound was over: text that stopped long before its stream was closed was cut
    /// off by its caller.
    pub(crate) fn sound_end(&self) -> Moment {
        let last = self.last_word();
        // A legacy packet with the whole text may come with the end alone.
        let cut = self.deltas && self.end().since(last) > CUT_AFTER_MS;
        if cut { last.plus(A_WORD_MS).min(self.end()) } else { self.end() }
    }

    /// The last text before its stream was closed; a last word may come with the close.
    pub(crate) fn last_word(&self) -> Moment {
        let with_close = self.end().since(self.last_at) <= WITH_CLOSE_MS;
        if with_close { self.burst_before.unwrap_or(self.first_at) } else { self.last_at }
    }

    fn text_at(&mut self, at: Moment) {
        if self.blank {
            self.first_at = at;
        } else if at.since(self.last_at) > ONE_BURST_MS {
            self.burst_before = Some(self.last_at);
        }
        self.blank = false;
        self.last_at = at;
    }

    fn set(&mut self, text: &str, keep_text: bool) {
        self.words = words::count(text);
        if keep_text {
            self.text = Some(text.trim().into());
        }
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
        self.segments.push(Segment::new(identity, at));
        self.by_key.insert(key, self.segments.len() - 1);
        Some(self.segments.len() - 1)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Speech {
    streams: Table,
    legacy: Table,
    open: BTreeMap<String, Open>,
    /// Senders told before their streams.
    senders: BTreeMap<String, String>,
    /// A transcript is asked for.
    keep_text: bool,
}

impl Speech {
    pub(crate) fn new(keep_text: bool) -> Self {
        Self { keep_text, ..Self::default() }
    }

    /// False when it was refused because too much is open, or was said.
    pub(crate) fn opened(&mut self, o: &StreamOpened, at: Moment) -> bool {
        if self.open.len() >= MAX_OPEN {
            return false;
        }
        let id = o.segment.as_deref().unwrap_or(&o.stream);
        let Some(i) = self.streams.find_or_add(&o.identity, id, at) else { return false };
        let sender = self.senders.remove(&o.stream);
        let s = &mut self.streams.segments[i];
        s.vouched |= o.generated || o.identity.is_empty();
        s.track = s.track.take().or_else(|| o.track.clone());
        s.sender = s.sender.take().or(sender);
        s.closed_at = None;
        let open = Open { segment: i, text: String::new(), chunks: 0 };
        self.open.insert(o.stream.clone(), open);
        true
    }

    /// False if that was known.
    pub(crate) fn sent_by(&mut self, stream: &str, sender: &str) -> bool {
        match self.open.get(stream) {
            Some(open) => {
                let s = &mut self.streams.segments[open.segment];
                fill(&mut s.sender, Some(sender.to_owned()))
            }
            None => {
                if self.senders.len() >= MAX_SENDERS && !self.senders.contains_key(stream) {
                    self.senders.pop_first();
                }
                let known = self.senders.insert(stream.to_owned(), sender.to_owned());
                known.as_deref() != Some(sender)
            }
        }
    }

    /// What of a chunk's text is kept, where that is not all of it.
    pub(super) fn shortened_chunk(&self, stream: &str, chunk: &str) -> Option<String> {
        let open = self.open.get(stream)?;
        let text = plain(chunk);
        let kept = fitting(&open.text, &text);
        (kept.len() < text.len()).then(|| kept.to_owned())
    }

    /// The transcribed participant, if the stream is known.
    pub(crate) fn chunk(&mut self, stream: &str, text: &str, at: Moment) -> Option<&str> {
        let open = self.open.get_mut(stream)?;
        open.chunks += 1;
        let text = plain(text);
        let kept = fitting(&open.text, &text);
        open.text.push_str(kept);
        let s = &mut self.streams.segments[open.segment];
        // Streams of a caller's segment repeat the text; only the first sets its beginning.
        if s.blank && open.text.trim().is_empty() {
            return Some(&s.identity);
        }
        s.text_at(at);
        s.deltas |= open.chunks > 1;
        Some(&s.identity)
    }

    /// False if the stream is unknown.
    pub(crate) fn closed(&mut self, stream: &str, is_final: bool, at: Moment) -> bool {
        let Some(open) = self.open.remove(stream) else { return false };
        let s = &mut self.streams.segments[open.segment];
        if !open.text.trim().is_empty() {
            s.set(&open.text, self.keep_text);
        }
        // The final text comes twice, first as one that is not.
        s.had_interim |= !is_final && !s.is_final && at.since(s.first_at) > ONE_BURST_MS;
        s.is_final |= is_final;
        s.closed_at = Some(at);
        true
    }

    /// False if it says nothing, or too much was said.
    pub(crate) fn legacy(
        &mut self,
        identity: &str,
        id: &str,
        text: &str,
        is_final: bool,
        at: Moment,
    ) -> bool {
        let known = self.legacy.segments.len();
        let Some(i) = self.legacy.find_or_add(identity, id, at) else { return false };
        let s = &mut self.legacy.segments[i];
        let spoken = !text.trim().is_empty();
        if spoken {
            s.had_interim |= !is_final && !s.blank && at.since(s.first_at) > ONE_BURST_MS;
            s.text_at(at);
            s.set(text, self.keep_text);
        }
        if is_final {
            s.is_final = true;
            s.closed_at = Some(at);
        }
        spoken || is_final || i == known
    }

    /// The non-empty segments of one side in order of their beginning; legacy packets only where
    /// no stream told anything of that side (docs/signals.md §5.1). Where several agents write down what the
    /// same caller says, one telling of it.
    pub(crate) fn segments(&self, side: Side, parties: &Parties) -> Vec<Segment> {
        // A transcript counts if an agent sent it: for itself, or for somebody else, which the
        // server marks. Whose it is may only be known long after it came. (Legacy packets of others
        // are not let through by the server.)
        let pick = |table: &Table, anyone_can_send: bool| -> Vec<Segment> {
            let mut found: Vec<Segment> = (table.segments.iter())
                .filter(|s| s.has_text() && speaker(s, parties) == Some(side))
                .filter(|s| {
                    !anyone_can_send || s.vouched || parties.side(&s.identity) != Some(Side::User)
                })
                .cloned()
                .collect();
            found.sort_by_key(|s| s.first_at);
            found
        };
        // What is still open counts with the words so far.
        let mut streams = self.streams.clone();
        for open in self.open.values().filter(|o| !o.text.trim().is_empty()) {
            let s = &mut streams.segments[open.segment];
            if words::count(&open.text) >= s.words {
                s.set(&open.text, self.keep_text);
            }
        }
        let mut found = pick(&streams, true);
        if found.is_empty() {
            found = pick(&self.legacy, false);
        }
        if side == Side::User { drop_repeated_segments(found, parties) } else { found }
    }

    /// Whether anything at all was transcribed.
    pub(crate) fn any(&self) -> bool {
        let any = |t: &Table| t.segments.iter().any(Segment::has_text);
        any(&self.streams) || any(&self.legacy)
    }
}

/// Two agents that transcribe one caller (a voice agent and a transcriber) tell the same words:
/// those of the agent that speaks count, of others only what it did not tell.
fn drop_repeated_segments(found: Vec<Segment>, parties: &Parties) -> Vec<Segment> {
    let first = found.first().and_then(|s| s.sender.clone());
    if found.iter().all(|s| s.sender == first) {
        return found;
    }
    let rank = |s: &Segment| {
        let p = s.sender.as_deref().and_then(|i| parties.get(i));
        p.map_or(2, |p| if p.spoke() { 0 } else { 1 + u8::from(p.states.is_empty()) })
    };
    let mut best_first: Vec<(u8, Segment)> = found.into_iter().map(|s| (rank(&s), s)).collect();
    best_first.sort_by_key(|(rank, s)| (*rank, s.first_at));
    // By their beginning.
    let mut taken: BTreeMap<(Moment, usize), Segment> = BTreeMap::new();
    for (n, (_, s)) in best_first.into_iter().enumerate() {
        let around = (s.first_at.plus(-LONGEST_SEGMENT_MS), 0)..=(s.end(), usize::MAX);
        let repeated = taken.range(around).any(|(_, t)| {
            t.sender != s.sender && t.identity == s.identity && t.end() >= s.first_at
        });
        if !repeated {
            taken.insert((s.first_at, n), s);
        }
    }
    taken.into_values().collect()
}

/// Who spoke: the owner of the transcribed track; else the named participant; else, for a nameless
/// stream, its shape (docs/signals.md §5.4).
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

/// As much of `text` as may follow what is there.
fn fitting<'a>(there: &str, text: &'a str) -> &'a str {
    let room = MAX_TEXT.saturating_sub(there.len());
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
