//! What was said: the text streams on `lk.transcription` and the legacy packets.
//!
//! Both carry the same words under different segment ids (docs/signals.md §5.1). They are kept
//! apart, and one of them is chosen for each side when the record is made. A caller's segment comes
//! as many streams, each with the whole text so far; an agent's segment comes as one stream of
//! deltas.

use std::collections::BTreeMap;

use super::{
    event::{Moment, StreamOpened},
    parties::Parties,
    roles::Side,
    taken::fill,
    words,
};

/// Streams open at the same time; a hostile sender could open any number.
const MAX_OPEN: usize = 64;
/// Bytes of one segment's text. The words of a longer text are counted up to here.
const MAX_TEXT: usize = 64 * 1024;
/// Senders kept for streams that are not opened yet.
const MAX_SENDERS: usize = 64;
/// A chunk that comes later than this after the one before begins a new burst of text.
const ONE_BURST_MS: i64 = 100;
/// A segment that is longer than this is not compared with those of another agent.
const LONGEST_SEGMENT_MS: i64 = 120_000;
/// Text that stopped this long before its stream was closed was cut off.
pub(crate) const CUT_AFTER_MS: i64 = 700;
/// A chunk this close to the close of its stream was sent with the close.
const WITH_CLOSE_MS: i64 = 250;
/// About the time that it takes to speak a word.
pub(crate) const A_WORD_MS: i64 = 380;
/// Segments of one call: a ten-hour call has some 20,000.
const MAX_SEGMENTS: usize = 40_000;

/// One piece of speech under one segment id. Times by our clock.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The transcribed participant, as the stream names it.
    pub identity: String,
    /// The participant that spoke: the owner of the transcribed track, or the named one. Set by
    /// [`Speech::segments`].
    pub who: String,
    track: Option<String>,
    /// First text, or the opening of its first stream.
    pub first_at: Moment,
    /// Last text that changed it.
    pub last_at: Moment,
    /// The last text before the burst that `last_at` belongs to. An interrupted stream gets one
    /// more word with its close.
    pub burst_before: Option<Moment>,
    /// When its last stream closed.
    pub closed_at: Option<Moment>,
    pub words: u32,
    /// Only where a transcript is asked for.
    pub text: Option<Box<str>>,
    /// The text so far ends as a sentence does.
    pub ends_sentence: bool,
    /// The speech recognition has sent the final text.
    pub is_final: bool,
    /// Text came before it was final, so `first_at` is close to the real beginning.
    pub had_interim: bool,
    /// The server marks it as sent by an agent for another participant, or it names no participant.
    vouched: bool,
    /// The text came in more than one chunk, as an agent's speech does.
    deltas: bool,
    blank: bool,
    /// The sender, if it is not the named participant.
    sender: Option<String>,
}

impl Segment {
    fn new(identity: &str, at: Moment) -> Self {
        Self {
            identity: identity.to_owned(),
            who: String::new(),
            track: None,
            first_at: at,
            last_at: at,
            burst_before: None,
            closed_at: None,
            words: 0,
            text: None,
            ends_sentence: false,
            is_final: false,
            had_interim: false,
            vouched: false,
            deltas: false,
            blank: true,
            sender: None,
        }
    }

    /// Whether there is any text but white space.
    pub(crate) fn has_text(&self) -> bool {
        !self.blank
    }

    /// When the segment ended, as far as is known.
    pub(crate) fn end(&self) -> Moment {
        self.closed_at.unwrap_or(self.last_at).max(self.first_at)
    }

    /// When the sound of an agent's segment ended. If the text stopped long before the stream was
    /// closed, the caller cut the agent off.
    pub(crate) fn sound_end(&self) -> Moment {
        let last = self.last_word();
        // A legacy packet with the whole text may come at the end only, so it does not show a
        // cut-off.
        let cut = self.deltas && self.end().since(last) > CUT_AFTER_MS;
        if cut { last.plus(A_WORD_MS).min(self.end()) } else { self.end() }
    }

    /// The time of the last text before the stream was closed; a last word may come with the close.
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
        self.ends_sentence =
            text.trim_end().ends_with(['.', '!', '?', '…', '。', '！', '？', '"', '”']);
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
    /// Senders that were reported before their streams were opened.
    senders: BTreeMap<String, String>,
    /// Whether to keep the text: only if a transcript is asked for.
    keep_text: bool,
}

impl Speech {
    pub(crate) fn new(keep_text: bool) -> Self {
        Self { keep_text, ..Self::default() }
    }

    /// False if it was refused: too many streams are open, or the call has too many segments.
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

    /// False if the sender was known.
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

    /// The part of a chunk's text that fits; `None` if all of it fits or the stream is unknown.
    pub(super) fn shortened_chunk(&self, stream: &str, chunk: &str) -> Option<String> {
        let open = self.open.get(stream)?;
        let text = plain(chunk);
        let kept = fitting(&open.text, &text);
        (kept.len() < text.len()).then(|| kept.to_owned())
    }

    /// Adds a chunk. Returns the transcribed participant, or `None` if the stream is unknown.
    pub(crate) fn chunk(&mut self, stream: &str, text: &str, at: Moment) -> Option<&str> {
        let open = self.open.get_mut(stream)?;
        open.chunks += 1;
        let text = plain(text);
        let kept = fitting(&open.text, &text);
        open.text.push_str(kept);
        let s = &mut self.streams.segments[open.segment];
        // Later streams of a caller's segment repeat its text; only the first one sets its
        // beginning.
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
        // The final text comes twice, the first time marked as not final.
        s.had_interim |= !is_final && !s.is_final && at.since(s.first_at) > ONE_BURST_MS;
        s.is_final |= is_final;
        s.closed_at = Some(at);
        true
    }

    /// False if it changes nothing, or the call has too many segments.
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

    /// The non-empty segments of one side in the order of their beginning. Legacy packets are used
    /// only if no stream has text of that side (docs/signals.md §5.1). If several agents transcribe
    /// the same caller, repeated segments are dropped.
    pub(crate) fn segments(&self, side: Side, parties: &Parties) -> Vec<Segment> {
        // A transcript counts if an agent sent it, for itself or for another participant; the
        // server marks the second case. The side of a participant may be known only long after its
        // words came. (The server does not forward legacy packets of other senders.)
        let pick = |table: &Table, anyone_can_send: bool| -> Vec<Segment> {
            let mut found: Vec<Segment> = (table.segments.iter())
                .filter(|s| s.has_text() && speaker(s, parties) == Some(side))
                .filter(|s| {
                    !anyone_can_send || s.vouched || parties.side(&s.identity) != Some(Side::User)
                })
                .cloned()
                .collect();
            found.sort_by_key(|s| s.first_at);
            for s in &mut found {
                let owner = s.track.as_deref().and_then(|t| parties.owner_of_track(t));
                s.who = owner.map_or_else(|| s.identity.clone(), |p| p.identity.clone());
            }
            found
        };
        // A stream that is still open counts with the words so far.
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

/// Two agents that transcribe one caller (a voice agent and a transcriber) send the same words. The
/// segments from the agent that speaks count; those from other agents count only where they do not
/// overlap with them.
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
    // Keyed by their beginning.
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

/// Who spoke: the owner of the transcribed track; else the named participant; else, if the stream
/// names no participant, the side that its shape suggests (docs/signals.md §5.4).
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

/// The beginning of `text` that still fits in a segment after `there`.
fn fitting<'a>(there: &str, text: &'a str) -> &'a str {
    let room = MAX_TEXT.saturating_sub(there.len());
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
