//! What Pipecat bots report of their calls (RTVI): turns, words, cut-offs. By our clock, because its
//! messages carry no times.
//!
//! How late each message is was measured on Pipecat 0.0.108 and 1.14 (docs/signals.md §9.3). The delays
//! depend on the bot's settings, so the times of sound come from the server's meter where there is one.

use std::collections::BTreeMap;

use super::{
    event::{Moment, RtviMessage},
    interval::Interval,
    parties::Parties,
    words,
};

/// Bots of one room whose messages are kept.
const MAX_BOTS: usize = 8;
/// Turns of one side and one bot: a ten-hour call has some 20,000.
const MAX_TURNS: usize = 20_000;
/// Bytes of one turn's text.
const MAX_TEXT: usize = 64 * 1024;

/// A user's start is reported this late: 0.2 s of the bot's voice detector, and the way to the bot.
const USER_START_LATE_MS: i64 = 300;
/// A user's end is reported this late by default: 0.2 s of the voice detector, 0.6 s until the bot takes
/// the turn as over, and the way to the bot.
const USER_END_LATE_MS: i64 = 900;
/// A natural end of the bot's speech is reported this early: the bot counts the sound that it has handed
/// over, and up to a second of it waits in the queue of its audio source.
const BOT_END_EARLY_MS: i64 = 1_000;
/// The bot stops within this time after it has noticed the user, if it was cut off.
const CUT_WITHIN_MS: i64 = 600;
/// A user's final text arrives at most this long after the end of the turn was reported.
const TEXT_LATE_MS: i64 = 3_000;

/// One turn of one side.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    /// When it began, the delay subtracted.
    pub start: Moment,
    /// When its end was reported; `None` while it goes on.
    stopped: Option<Moment>,
    /// The last message that belongs to it.
    pub known_at: Moment,
    pub words: u32,
    /// Only where a transcript is asked for.
    pub text: Option<Box<str>>,
    /// The user that spoke, if the bot names one.
    pub by: Option<String>,
    bytes: usize,
    /// The user began to speak, and the bot stopped.
    pub cut: bool,
}

impl Turn {
    fn new(at: Moment, late_ms: i64) -> Self {
        Self {
            start: at.plus(-late_ms),
            stopped: None,
            known_at: at,
            words: 0,
            text: None,
            by: None,
            bytes: 0,
            cut: false,
        }
    }

    fn append(&mut self, text: &str, at: Moment, keep_text: bool) -> bool {
        if self.bytes.saturating_add(text.len()) > MAX_TEXT {
            return false;
        }
        self.known_at = self.known_at.max(at);
        self.bytes += text.len();
        self.words = self.words.saturating_add(words::count(text));
        if keep_text {
            let mut all = self.text.take().map(String::from).unwrap_or_default();
            if !all.is_empty() && !text.starts_with(char::is_whitespace) {
                all.push(' ');
            }
            all.push_str(text);
            self.text = Some(all.into());
        }
        true
    }

    /// When it was spoken. `until`: the end of the call, for a turn that goes on.
    pub(crate) fn of_user(&self, until: Moment) -> Interval {
        let end = self.stopped.map_or(until, |t| t.plus(-USER_END_LATE_MS));
        Interval { start: self.start, end: end.max(self.start) }
    }

    pub(crate) fn of_bot(&self, until: Moment) -> Interval {
        let end = match self.stopped {
            Some(t) if self.cut => t,
            Some(t) => t.plus(BOT_END_EARLY_MS),
            None => until,
        };
        Interval { start: self.start, end: end.max(self.start) }
    }

    /// It has ended by itself, so its end is an estimate.
    pub(crate) fn ended_by_itself(&self) -> bool {
        self.stopped.is_some() && !self.cut
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    Used,
    /// It says nothing new, or belongs to no turn.
    Nothing,
    Full,
}

#[derive(Clone, Debug, Default)]
struct Bot {
    users: Vec<Turn>,
    bot: Vec<Turn>,
    /// When the last start of a user was reported.
    user_started: Option<Moment>,
    /// Words that the bot wanted to speak and has not yet spoken to their end. Bots report sentences, and
    /// some of single words: only words can be compared.
    to_speak: u32,
    /// Something was spoken to its end in the last turn.
    spoken: bool,
    /// The bot announces what it will speak.
    announces: bool,
}

impl Bot {
    fn take(&mut self, message: &RtviMessage, at: Moment, keep_text: bool) -> Took {
        let used = |yes| if yes { Took::Used } else { Took::Nothing };
        match message {
            RtviMessage::UserStarted => {
                // A turn that is not over goes on.
                if self.users.last().is_none_or(|t| t.stopped.is_some())
                    && !push(&mut self.users, Turn::new(at, USER_START_LATE_MS))
                {
                    return Took::Full;
                }
                self.user_started = Some(at);
                Took::Used
            }
            RtviMessage::UserStopped => {
                let Some(turn) = self.users.last_mut().filter(|t| t.stopped.is_none()) else {
                    return Took::Nothing;
                };
                turn.stopped = Some(at);
                turn.known_at = turn.known_at.max(at);
                Took::Used
            }
            RtviMessage::UserText { text, user } => {
                let belongs = |t: &&mut Turn| {
                    t.stopped.is_none_or(|stopped| at.since(stopped) <= TEXT_LATE_MS)
                };
                if self.users.last_mut().filter(belongs).is_none()
                    && !push(&mut self.users, Turn { stopped: Some(at), ..Turn::new(at, 0) })
                {
                    return Took::Full;
                }
                let Some(turn) = self.users.last_mut() else { return Took::Nothing };
                if !turn.append(text, at, keep_text) {
                    return Took::Full;
                }
                turn.by = turn.by.take().or_else(|| user.clone());
                Took::Used
            }
            RtviMessage::BotStarted => {
                if self.bot.len() >= MAX_TURNS {
                    return Took::Full;
                }
                if let Some(turn) = self.bot.last_mut().filter(|t| t.stopped.is_none()) {
                    turn.stopped = Some(at);
                }
                self.spoken = false;
                push(&mut self.bot, Turn::new(at, 0));
                Took::Used
            }
            RtviMessage::BotStopped => {
                let noticed = self.user_started;
                let Some(turn) = self.bot.last_mut().filter(|t| t.stopped.is_none()) else {
                    return Took::Nothing;
                };
                turn.stopped = Some(at);
                turn.known_at = at;
                let by_user = noticed.is_some_and(|t| (0..CUT_WITHIN_MS).contains(&at.since(t)));
                let unfinished = if self.announces { self.to_speak > 0 } else { !self.spoken };
                turn.cut = by_user && unfinished;
                // What was cut off is never spoken.
                if turn.cut {
                    self.to_speak = 0;
                }
                Took::Used
            }
            RtviMessage::BotText { text } => {
                let Some(turn) = self.bot.last_mut() else { return Took::Nothing };
                if turn.append(text, at, keep_text) { Took::Used } else { Took::Full }
            }
            RtviMessage::BotOutput { words } => {
                self.announces = true;
                self.to_speak = self.to_speak.saturating_add(*words);
                used(*words > 0)
            }
            RtviMessage::BotSpoken { words } => {
                let before = (self.to_speak, self.spoken);
                self.to_speak = self.to_speak.saturating_sub(*words);
                self.spoken |= !self.bot.is_empty();
                used(before != (self.to_speak, self.spoken))
            }
        }
    }
}

fn push(turns: &mut Vec<Turn>, turn: Turn) -> bool {
    let room = turns.len() < MAX_TURNS;
    if room {
        turns.push(turn);
    }
    room
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rtvi {
    bots: BTreeMap<String, Bot>,
    keep_text: bool,
}

impl Rtvi {
    pub(crate) fn new(keep_text: bool) -> Self {
        Self { keep_text, ..Self::default() }
    }

    pub(crate) fn take(&mut self, identity: &str, message: &RtviMessage, at: Moment) -> Took {
        if let Some(bot) = self.bots.get_mut(identity) {
            return bot.take(message, at, self.keep_text);
        }
        if self.bots.len() >= MAX_BOTS {
            return Took::Full;
        }
        let mut bot = Bot::default();
        let took = bot.take(message, at, self.keep_text);
        if took == Took::Used {
            self.bots.insert(identity.to_owned(), bot);
        }
        took
    }

    /// Turns of users that have words, in the order of their beginning.
    pub(crate) fn users(&self, parties: &Parties) -> Vec<&Turn> {
        let spoken = |t: &&Turn| t.words > 0;
        self.sorted(parties, |bot| bot.users.iter().filter(spoken).collect())
    }

    /// Turns of bots.
    pub(crate) fn bots(&self, parties: &Parties) -> Vec<&Turn> {
        self.sorted(parties, |bot| bot.bot.iter().collect())
    }

    fn sorted<'a>(
        &'a self,
        parties: &Parties,
        of: impl Fn(&'a Bot) -> Vec<&'a Turn>,
    ) -> Vec<&'a Turn> {
        let believed = self.bots.iter().filter(|(i, _)| parties.is_agent(i) == Some(true));
        let mut all: Vec<&Turn> = believed.flat_map(|(_, bot)| of(bot)).collect();
        all.sort_by_key(|t| t.start);
        all
    }
}
