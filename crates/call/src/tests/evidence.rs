//! Utterances, response times, silences and interruptions from each kind of evidence (docs/contract.md §4).

use super::*;

/// Greeting, question, answer; from states and transcripts.
fn short_call() -> Scenario {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 3_000, "hello how can I help");
    t.caller_says(4_000, 5_500, "I want a table");
    t.state(6_000, "thinking");
    t.agent_says(6_500, 8_000, "for how many");
    t
}

#[test]
fn states_and_streams_make_utterances_and_response_times() {
    let m = short_call().ends(9_000).metrics;
    assert_eq!((m.total_user_utterances, m.total_agent_utterances), (1, 2));
    assert_eq!((m.longest_user_utterance, m.longest_agent_utterance), (4, 5));
    assert_eq!(m.average_agent_response_time, 1.0, "5.5 → 6.5");
    assert_eq!(m.average_user_response_time, 1.0, "3.0 → 4.0");
    assert_eq!((m.silence_count, m.interruption_count), (0, 0));
}

#[test]
fn both_channels_carry_the_same_words_and_are_not_added() {
    let mut t = short_call();
    let mut legacy = |ms, who: &str, id: &str, text: &str| {
        let (identity, segment, text) = (who.to_owned(), id.to_owned(), text.to_owned());
        t.fact(ms, Fact::Legacy { identity, segment, text, is_final: true });
    };
    legacy(3_000, "agent", "SG_x", "hello how can I help");
    legacy(5_500, "caller", "SG_y", "I want a table");
    let m = t.ends(9_000).metrics;
    assert_eq!((m.total_user_utterances, m.total_agent_utterances), (1, 2));
}

#[test]
fn legacy_packets_are_enough_where_no_stream_comes() {
    let mut t = Scenario::web_call();
    for (ms, who, text) in [(1_000, "agent", "hello"), (3_000, "caller", "I want a table")] {
        for (n, is_final) in [(0, false), (500, true)] {
            let (identity, text) = (who.to_owned(), text.to_owned());
            let segment = format!("SG_{who}");
            t.fact(ms + n, Fact::Legacy { identity, segment, text, is_final });
        }
    }
    let m = t.ends(9_000).metrics;
    assert_eq!((m.total_user_utterances, m.total_agent_utterances), (1, 1));
    assert_eq!(m.longest_user_utterance, 4);
}

#[test]
fn finals_of_one_turn_are_one_utterance() {
    let mut t = Scenario::web_call();
    t.caller_says(1_000, 2_000, "my number is");
    t.caller_says(4_500, 5_500, "five five five");
    t.caller_says(9_000, 10_000, "are you there");
    let m = t.ends(11_000).metrics;
    assert_eq!(m.total_user_utterances, 2, "2.5 s of pause joins, 3.5 s does not");
    assert_eq!(m.longest_user_utterance, 6);
}

#[test]
fn agent_speech_separates_the_callers_utterances() {
    let mut t = Scenario::web_call();
    t.caller_says(1_000, 2_000, "hello");
    t.agent_says(2_300, 2_900, "yes");
    t.caller_says(3_200, 4_000, "a table");
    assert_eq!(t.ends(5_000).metrics.total_user_utterances, 2);
}

#[test]
fn words_that_never_became_final_count_as_they_stand() {
    let mut t = Scenario::web_call();
    t.segment("caller", "SG_1", 4_000, 4_100, "good bye", false);
    let m = t.ends(4_200).metrics;
    assert_eq!((m.total_user_utterances, m.longest_user_utterance), (1, 2));
}

#[test]
fn blank_text_is_no_utterance() {
    let mut t = Scenario::web_call();
    t.segment("caller", "SG_1", 1_000, 1_100, " ", true);
    t.stream("agent", 2_000, 2_100, "", true);
    let m = t.ends(4_000).metrics;
    assert_eq!((m.total_user_utterances, m.total_agent_utterances), (0, 0));
}

#[test]
fn a_transcript_that_a_caller_sends_about_itself_is_not_believed() {
    let mut t = Scenario::web_call();
    t.fact(
        1_000,
        Fact::StreamOpened(StreamOpened {
            stream: "s".into(),
            identity: "caller".into(),
            segment: Some("SG_1".into()),
            track: None,
            generated: false,
        }),
    );
    t.chunk(1_000, "s", "I never said that").close(1_100, "s", true);
    assert_eq!(t.ends(4_000).metrics.total_user_utterances, 0);
}

#[test]
fn the_owner_of_the_transcribed_track_is_the_speaker() {
    let mut t = Scenario::web_call();
    t.fact(0, Fact::Track { identity: "caller".into(), sid: "TR_c".into() });
    t.fact(
        1_000,
        Fact::StreamOpened(StreamOpened {
            stream: "s".into(),
            identity: "agent".into(),
            segment: Some("SG_1".into()),
            track: Some("TR_c".into()),
            generated: false,
        }),
    );
    t.chunk(1_000, "s", "my words").close(1_100, "s", true);
    let m = t.ends(4_000).metrics;
    assert_eq!((m.total_user_utterances, m.total_agent_utterances), (1, 0));
}

#[test]
fn speech_without_words_counts_only_when_nothing_was_transcribed() {
    let speaks = |t: &mut Scenario, ms, speaking| {
        t.fact(ms, Fact::Speaking { identity: "caller".into(), speaking });
    };
    let mut t = Scenario::web_call();
    speaks(&mut t, 1_000, true);
    speaks(&mut t, 2_000, false);
    speaks(&mut t, 5_000, true);
    speaks(&mut t, 5_400, false);
    let m = t.ends(6_000).metrics;
    assert_eq!((m.total_user_utterances, m.longest_user_utterance), (1, 0), "0.4 s is a cough");
    t = short_call();
    speaks(&mut t, 8_200, true);
    speaks(&mut t, 8_900, false);
    assert_eq!(t.ends(9_000).metrics.total_user_utterances, 1);
}

#[test]
fn typed_text_is_an_utterance_and_breaks_a_silence() {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 2_000, "hello");
    let text = "I prefer to type".to_owned();
    t.fact(6_000, Fact::Chat { identity: "caller".into(), text, words: None });
    let m = t.ends(10_000).metrics;
    assert_eq!((m.total_user_utterances, m.longest_user_utterance), (1, 4));
    assert_eq!(m.silence_count, 0);
}

#[test]
fn a_silence_counts_once_however_long_from_the_start_to_the_end() {
    let mut t = Scenario::web_call();
    t.agent_says(10_000, 11_000, "hello");
    t.agent_says(15_900, 17_000, "are you there");
    t.agent_says(60_000, 61_000, "good bye then");
    // 10 s before the first word; 4.9 s are too short to count; 43 s count once; 5 s at the end.
    assert_eq!(t.ends(66_000).metrics.silence_count, 3);
}

#[test]
fn thinking_is_silence_for_the_caller() {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 2_000, "hello");
    t.feed_user(2_500, UserState::Speaking).feed_user(3_000, UserState::Listening);
    t.state(3_500, "thinking");
    t.agent_says(8_600, 9_000, "yes");
    assert_eq!(t.ends(9_500).metrics.silence_count, 1);
}

#[test]
fn keys_pressed_break_a_silence() {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 2_000, "press one");
    t.fact(6_500, Fact::Dtmf { identity: "caller".into(), digit: None });
    t.agent_says(11_000, 12_000, "thank you");
    assert_eq!(t.ends(13_000).metrics.silence_count, 0);
}

/// The agent is stopped at 3 s by a caller who speaks from 2.4 s on.
fn stopped(text_closes: i64, speaks_again: i64) -> Scenario {
    let mut t = Scenario::web_call();
    t.state(1_000, "speaking");
    let stream = t.open(1_100, "agent", "SG_a");
    t.chunk(1_100, &stream, "our opening hours are ");
    t.fact(2_400, Fact::Speaking { identity: "caller".into(), speaking: true });
    t.state(3_000, "listening");
    let reopened = speaks_again < text_closes;
    if reopened {
        t.fact(3_200, Fact::Speaking { identity: "caller".into(), speaking: false });
        t.state(speaks_again, "speaking");
        t.chunk(speaks_again + 100, &stream, "nine to five");
        t.close(text_closes, &stream, true);
        t.state(text_closes + 50, "listening");
    } else {
        // One late word, as Node agents send one.
        t.chunk(3_100, &stream, "nine");
        t.close(text_closes, &stream, true);
        t.fact(4_500, Fact::Speaking { identity: "caller".into(), speaking: false });
        t.state(speaks_again - 300, "thinking");
        t.state(speaks_again, "speaking");
        t.stream("agent", speaks_again + 100, speaks_again + 900, "of course", true);
        t.state(speaks_again + 1_000, "listening");
    }
    t
}

#[test]
fn an_agent_that_the_caller_stopped_was_interrupted() {
    let m = stopped(4_400, 5_000).ends(9_000).metrics;
    assert_eq!((m.interruption_count, m.total_agent_utterances), (1, 2));
    assert_eq!(m.average_user_response_time, 0.0, "the caller spoke into it");
}

#[test]
fn an_agent_that_goes_on_in_its_text_was_not_interrupted() {
    let m = stopped(7_500, 5_500).ends(9_000).metrics;
    assert_eq!(m.interruption_count, 0);
}

#[test]
fn an_agent_that_had_just_finished_was_not_interrupted() {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 3_000, "how can I help");
    t.fact(3_200, Fact::Speaking { identity: "caller".into(), speaking: true });
    t.fact(4_000, Fact::Speaking { identity: "caller".into(), speaking: false });
    t.agent_says(5_000, 6_000, "sure");
    assert_eq!(t.ends(9_000).metrics.interruption_count, 0);
}

/// A speech-to-speech agent without a feed: it stops for good at 3 s, and its caller's words come beside the answer.
fn stopped_for_good(text: &str) -> Scenario {
    let mut t = Scenario::web_call();
    t.state(1_000, "speaking");
    let stream = t.open(1_270, "agent", "SG_a");
    t.chunk(1_270, &stream, text);
    t.state(3_000, "listening");
    t.close(3_015, &stream, true);
    t.fact(3_300, Fact::Speaking { identity: "caller".into(), speaking: true });
    t.fact(4_900, Fact::Speaking { identity: "caller".into(), speaking: false });
    t.state(5_000, "speaking");
    t.stream("caller", 5_400, 5_400, "no tomorrow please", true);
    t.stream("agent", 5_270, 6_500, "of course", true);
    t.state(6_500, "listening");
    t
}

#[test]
fn an_agent_that_cannot_pause_was_cut_off_in_the_middle_of_a_sentence_only() {
    let metrics = |text| stopped_for_good(text).ends(9_000).metrics;
    assert_eq!(metrics("our opening hours are nine").interruption_count, 1);
    assert_eq!(metrics("our opening hours are nine to five.").interruption_count, 0);
    let m = metrics("our opening hours are nine to five.");
    assert_eq!((m.total_user_utterances, m.longest_user_utterance), (1, 3));
}

#[test]
fn a_caller_who_is_heard_all_the_time_cuts_nobody_off() {
    let mut t = Scenario::web_call();
    t.fact(1_200, Fact::Speaking { identity: "caller".into(), speaking: true });
    for (from, to) in [(2_000, 4_000), (6_000, 8_000), (10_000, 12_000)] {
        t.agent_says(from, to, "one moment");
    }
    t.fact(15_000, Fact::Speaking { identity: "caller".into(), speaking: false });
    assert_eq!(t.ends(16_000).metrics.interruption_count, 0);
}

#[test]
fn words_that_come_beside_the_answer_do_not_show_when_they_were_spoken() {
    let words = "yes I would like a table for four people tomorrow at noon";
    let call = |metered: bool| {
        let mut t = Scenario::web_call();
        t.agent_says(1_000, 2_000, "hello how can I help");
        if metered {
            for (ms, speaking) in [(3_440, true), (8_890, false)] {
                t.fact(ms, Fact::Speaking { identity: "caller".into(), speaking });
            }
        }
        t.state(9_000, "speaking");
        t.stream("caller", 9_400, 9_400, words, true);
        t.stream("agent", 9_270, 10_000, "certainly", true);
        t.state(10_000, "listening");
        t.ends(11_000).metrics
    };
    let m = call(true);
    assert_eq!((m.average_user_response_time, m.average_agent_response_time), (1.0, 1.0));
    assert_eq!((m.total_user_utterances, m.longest_user_utterance), (1, 12));
    let m = call(false);
    assert_eq!((m.average_user_response_time, m.average_agent_response_time), (0.0, 0.0));
    assert_eq!((m.total_user_utterances, m.longest_user_utterance), (1, 12));
    assert_eq!(m.silence_count, 0, "7 s without the words, but somebody spoke");

    // The meter shows the silence, whatever the number of words would make of it.
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 2_000, "hello how can I help");
    for (ms, speaking) in [(7_940, true), (9_890, false)] {
        t.fact(ms, Fact::Speaking { identity: "caller".into(), speaking });
    }
    t.state(9_500, "speaking");
    t.stream("caller", 9_900, 9_900, words, true);
    t.state(10_500, "listening");
    assert_eq!(t.ends(11_000).metrics.silence_count, 1, "2.0 → 7.5");
}

/// One turn as the feed of a Python agent reports it.
fn with_feed() -> Scenario {
    use AgentState::{Listening, Speaking};
    let mut t = Scenario::web_call();
    t.feed_agent(1_000, Speaking).feed_agent(3_000, Listening);
    t.item(3_000, item("i1", By::Agent, "hello how can I help ", Some((1_000, 3_000))));
    t.feed_user(4_000, UserState::Speaking).feed_user(5_500, UserState::Listening);
    t.item(5_700, item("i2", By::User, "I want a table", Some((4_000, 5_500))));
    t.feed_agent(6_300, Speaking).feed_agent(8_000, Listening);
    let reply = item("i3", By::Agent, "for how many", Some((6_300, 8_000)));
    t.item(8_000, Item { e2e_latency: reported_latency(0.8), ..reply });
    t
}

#[test]
fn the_session_feed_is_used_when_it_is_there() {
    let mut t = with_feed();
    // The same words on the stream are not added.
    t.stream("agent", 1_100, 2_900, "hello how can I help", true);
    t.stream("agent", 6_400, 7_900, "for how many", true);
    t.caller_says(4_000, 5_500, "I want a table");
    let m = t.ends(9_000).metrics;
    assert_eq!((m.total_user_utterances, m.total_agent_utterances), (1, 2));
    assert_eq!((m.longest_user_utterance, m.longest_agent_utterance), (4, 5));
    assert_eq!(m.average_agent_response_time, 0.8);
    assert_eq!(m.average_user_response_time, 1.0);
}

#[test]
fn the_agents_clock_may_be_wrong() {
    let right = with_feed().ends(9_000).metrics;
    let mut t = Scenario::web_call();
    let skew = 3_600_000;
    let shifted = |ms: i64| Some(at(ms + skew));
    let states = [(1_000, AgentState::Speaking), (3_000, AgentState::Listening)];
    for (ms, state) in states {
        t.feed(ms, FeedMessage::AgentState { at: shifted(ms), state });
    }
    let moved = |i: Item, from, to| Item {
        started_at: shifted(from),
        stopped_at: shifted(to),
        created_at: shifted(to),
        ..i
    };
    let i = item("i1", By::Agent, "hello how can I help ", None);
    t.feed(3_000, FeedMessage::Item { at: shifted(3_000), item: moved(i, 1_000, 3_000) });
    for (ms, state) in [(4_075, UserState::Speaking), (5_610, UserState::Listening)] {
        t.feed(ms, FeedMessage::UserState { at: shifted(ms), state });
    }
    let i = item("i2", By::User, "I want a table", None);
    t.feed(5_700, FeedMessage::Item { at: shifted(5_700), item: moved(i, 4_075, 5_610) });
    for (ms, state) in [(6_300, AgentState::Speaking), (8_000, AgentState::Listening)] {
        t.feed(ms, FeedMessage::AgentState { at: shifted(ms), state });
    }
    let i =
        Item { e2e_latency: reported_latency(0.8), ..item("i3", By::Agent, "for how many", None) };
    t.feed(8_000, FeedMessage::Item { at: shifted(8_000), item: moved(i, 6_300, 8_000) });
    assert_eq!(t.ends(9_000).metrics, right);
}

#[test]
fn noise_before_a_turn_does_not_lengthen_it() {
    // Noise at 2.0 s while the agent speaks; the item's own start is that of the noise (stale).
    let mut t = Scenario::web_call();
    t.feed_agent(1_000, AgentState::Speaking);
    t.feed_user(2_000, UserState::Speaking).feed_user(2_400, UserState::Listening);
    t.feed_agent(2_600, AgentState::Listening).feed_agent(4_600, AgentState::Speaking);
    t.feed_agent(6_000, AgentState::Listening);
    t.item(6_000, item("i1", By::Agent, "a long welcome", Some((1_000, 6_000))));
    t.feed_user(7_000, UserState::Speaking).feed_user(8_000, UserState::Listening);
    t.item(8_300, item("i2", By::User, "thank you", Some((2_000, 8_000))));
    let m = t.ends(9_000).metrics;
    assert_eq!(m.average_user_response_time, 1.0);
    assert_eq!(m.interruption_count, 0);
}

#[test]
fn a_caller_who_goes_on_before_the_item_is_made_begins_the_next_turn() {
    let mut t = Scenario::web_call();
    t.call.settings.transcript = true;
    t.feed_user(1_000, UserState::Speaking).feed_user(2_000, UserState::Listening);
    t.feed_user(2_200, UserState::Speaking);
    let made_later = |i: Item, ms| Item { created_at: Some(at(ms)), ..i };
    let first = item("i1", By::User, "a table", Some((1_000, 2_000)));
    t.item(2_500, made_later(first, 2_500)).feed_user(3_500, UserState::Listening);
    let second = item("i2", By::User, "for four", Some((2_200, 3_500)));
    t.item(3_900, made_later(second, 3_900)).feed_agent(3_950, AgentState::Speaking);
    t.feed_agent(5_000, AgentState::Listening);
    t.item(5_000, item("i3", By::Agent, "thank you", Some((3_950, 5_000))));
    let lines = t.ends(9_000).details.unwrap().transcript.unwrap();
    let spoken = |n: usize| (lines[n].from.clone(), lines[n].to.clone());
    let time = |ms| Some(at(ms).to_rfc3339());
    assert_eq!(spoken(0), (time(1_000), time(2_000)));
    assert_eq!(spoken(1), (time(2_200), time(3_500)));
}

#[test]
fn a_turn_without_speech_stands_where_it_was_said_and_not_where_it_was_reported() {
    let mut t = Scenario::web_call();
    t.call.settings.transcript = true;
    t.feed_user(500, UserState::Speaking).feed_user(1_000, UserState::Listening);
    t.item(1_500, item("i0", By::User, "hello", Some((500, 1_000))));
    t.feed_agent(3_000, AgentState::Speaking);
    t.item(4_000, item("i1", By::User, "a table", Some((2_000, 2_500))));
    t.feed_agent(5_000, AgentState::Listening);
    t.item(5_000, item("i2", By::Agent, "thank you", Some((3_000, 5_000))));
    let lines = t.ends(9_000).details.unwrap().transcript.unwrap();
    let texts: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
    assert_eq!(texts, ["hello", "a table", "thank you"]);
}

#[test]
fn an_item_marked_as_interrupted_counts_if_the_caller_interrupted_it() {
    let cut = |spoke: bool, left: i64| {
        let mut t = Scenario::web_call();
        t.feed_agent(1_000, AgentState::Speaking);
        if spoke {
            t.feed_user(2_400, UserState::Speaking).feed_user(3_600, UserState::Listening);
        } else {
            t.feed_user(500, UserState::Speaking).feed_user(700, UserState::Listening);
        }
        t.feed_agent(3_000, AgentState::Listening);
        let said = item("i1", By::Agent, "our opening", Some((1_000, 3_000)));
        t.item(3_700, Item { interrupted: true, ..said });
        t.ends(left).metrics.interruption_count
    };
    assert_eq!(cut(true, 9_000), 1);
    assert_eq!(cut(false, 9_000), 0, "cut by the agent's own code");
    assert_eq!(cut(true, 3_100), 0, "cut because the caller left");
}

#[test]
fn a_feed_is_believed_only_from_an_agent() {
    let mut t = Scenario::web_call();
    let message =
        FeedMessage::Item { at: Some(at(1_000)), item: item("i1", By::User, "forged words", None) };
    t.fact(1_000, Fact::Feed { identity: "caller".into(), message: message.clone() });
    t.fact(1_000, Fact::Feed { identity: "nobody".into(), message });
    let r = t.ends(5_000);
    assert_eq!(r.metrics.total_user_utterances, 0);
}

#[test]
fn a_feed_that_comes_before_its_sender_is_announced_counts() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Standard, &[]);
    t.item(1_000, item("i1", By::Agent, "hello", None));
    t.joins(1_002, "agent", Kind::Agent, &[]);
    let r = t.ends(5_000);
    assert_eq!(r.metrics.total_agent_utterances, 1);
}

#[test]
fn the_history_requested_at_the_end_completes_the_call_of_a_node_agent() {
    let mut t = Scenario::web_call();
    // Received live: states and streams.
    t.agent_says(1_000, 3_000, "hello how can I help");
    t.caller_says(4_000, 5_500, "I want a table");
    t.agent_says(7_300, 9_000, "for how many");
    t.leaves(10_000, "caller", LeaveReason::ClientInitiated);
    let reply = item("i3", By::Agent, "for how many", Some((7_300, 9_000)));
    let items = vec![
        item("i1", By::Agent, "hello how can I help", Some((1_000, 3_000))),
        item("i2", By::User, "I want a table", Some((4_000, 5_500))),
        Item { e2e_latency: reported_latency(1.8), ..reply },
    ];
    t.feed(10_020, history(items));
    let m = t.record().metrics;
    assert_eq!((m.total_user_utterances, m.total_agent_utterances), (1, 2));
    assert_eq!(m.average_agent_response_time, 1.8);
    assert_eq!(m.average_user_response_time, 1.0, "the item's start, not the late transcript's");
}

#[test]
fn items_are_merged_by_id() {
    let mut t = with_feed();
    let again = Item { interrupted: true, ..item("i3", By::Agent, "for how many", None) };
    t.feed(8_500, history(vec![again, item("i4", By::User, "four", None)]));
    let m = t.ends(9_000).metrics;
    assert_eq!((m.total_user_utterances, m.total_agent_utterances), (2, 2));
}

#[test]
fn an_interrupted_item_has_no_more_words_than_were_streamed() {
    let mut t = Scenario::web_call();
    t.feed_agent(1_000, AgentState::Speaking);
    t.stream("agent", 1_100, 3_500, "one two three", true);
    t.feed_agent(3_000, AgentState::Listening);
    let whole = item("i1", By::Agent, "one two three four five six", Some((1_000, 3_000)));
    t.item(3_600, Item { interrupted: true, ..whole });
    assert_eq!(t.ends(9_000).metrics.longest_agent_utterance, 3);
}

#[test]
fn speech_that_a_deleted_room_cut_off_counts_with_its_words_so_far() {
    let mut t = with_feed();
    t.feed_agent(8_500, AgentState::Speaking);
    t.state(8_500, "speaking");
    let stream = t.open(8_600, "agent", "SG_z");
    t.chunk(8_600, &stream, "one two three four five six seven ");
    t.fact(9_500, Fact::RoomEnded { reason: LeaveReason::RoomDeleted });
    let m = t.record().metrics;
    assert_eq!((m.total_agent_utterances, m.longest_agent_utterance), (3, 7));
}

#[test]
fn the_dial_tone_is_no_part_of_the_call() {
    let mut t = Scenario::new();
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.joins(0, "caller", Kind::Sip, &[("sip.callStatus", "dialing")]);
    t.caller_says(2_000, 3_000, "this number is busy");
    t.sets(9_000, "caller", &[("sip.callStatus", "active")]);
    t.caller_says(11_000, 12_000, "hello");
    t.sets(20_000, "caller", &[("sip.callStatus", "hangup")]);
    t.leaves(20_000, "caller", LeaveReason::ClientInitiated);
    let m = t.record().metrics;
    assert_eq!((m.total_user_utterances, m.longest_user_utterance), (1, 1));
    assert_eq!(m.silence_count, 1, "12 to 20 s; not what was before the answer");
}

#[test]
fn what_is_said_to_a_vanished_caller_is_not_counted() {
    let mut t = Scenario::web_call();
    t.agent_says(10_000, 12_000, "hello you");
    t.fact(27_500, Fact::Quality { identity: "caller".into(), lost: true });
    t.agent_says(35_000, 36_000, "are you there");
    t.leaves(41_000, "caller", LeaveReason::ConnectionTimeout);
    let r = t.record();
    assert_eq!((r.duration_seconds, r.metrics.total_agent_utterances), (20.0, 1));
}

#[test]
fn a_gap_in_the_observation_is_neither_silence_nor_an_answer() {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 2_000, "hello");
    t.fact(2_500, Fact::Speaking { identity: "caller".into(), speaking: true });
    t.fact(3_000, Fact::Blind);
    t.fact(15_000, Fact::Watching { server_behind_ms: 0, by: None });
    t.agent_says(16_000, 17_000, "and now");
    t.fact(18_000, Fact::Speaking { identity: "caller".into(), speaking: true });
    t.fact(19_000, Fact::Speaking { identity: "caller".into(), speaking: false });
    let m = t.ends(20_000).metrics;
    assert_eq!(m.silence_count, 0);
    assert!(m.average_agent_response_time < 5.0 && m.average_user_response_time <= 1.0, "{m:?}");
}

#[test]
fn an_agent_that_was_only_heard_was_there() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Standard, &[]);
    let stream = t.open(1_000, "", "SG_1");
    t.chunk(1_000, &stream, "hello ").chunk(1_200, &stream, "there");
    t.close(1_500, &stream, false);
    assert_eq!(t.ends(5_000).status, record::Status::Completed);
}

#[test]
fn a_recorder_is_not_a_voice_agent_even_if_it_publishes() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Standard, &[]);
    t.joins(0, "recorder", Kind::Agent, &[]);
    t.fact(1, Fact::Track { identity: "recorder".into(), sid: "TR_1".into() });
    assert_eq!(t.ends(5_000).termination_reason.as_deref(), Some("no_agent"));
}

#[test]
fn a_gap_before_the_call_does_not_count() {
    let mut t = Scenario::new();
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.fact(1_000, Fact::Blind);
    t.fact(7_000, Fact::Watching { server_behind_ms: 0, by: None });
    t.joins(10_000, "caller", Kind::Standard, &[]);
    t.agent_says(13_000, 14_000, "hello");
    let r = t.ends(16_000);
    assert_eq!((r.metrics.silence_count, r.outcomes.notes), (0, None));
}

#[test]
fn speech_before_the_observer_joined_is_not_silence() {
    let late = |history: bool| {
        let mut t = Scenario::new();
        // Both joined half a minute before the observer.
        for (who, kind) in [("caller", Kind::Standard), ("agent", Kind::Agent)] {
            t.fact(
                0,
                Fact::Joined(crate::event::Joined {
                    identity: who.into(),
                    sid: format!("PA_{who}"),
                    kind,
                    name: String::new(),
                    metadata: String::new(),
                    attributes: map(&[]),
                    joined_at: at(-30_000),
                    permissions: None,
                }),
            );
        }
        if history {
            let said = |id: &str, by, text: &str, from: i64| Item {
                created_at: Some(at(from + 1_000)),
                started_at: Some(at(from)),
                stopped_at: Some(at(from + 1_000)),
                ..item(id, by, text, None)
            };
            let items = vec![
                said("i1", By::Agent, "good morning", -29_000),
                said("i2", By::User, "hello", -27_000),
                said("i3", By::Agent, "what can I do", -17_000),
            ];
            let message = FeedMessage::History { items, handoffs: vec![], tools: vec![] };
            t.fact(100, Fact::Feed { identity: "agent".into(), message });
        }
        t.agent_says(1_000, 2_000, "and now");
        t.fact(2_100, Fact::Speaking { identity: "caller".into(), speaking: true });
        t.fact(3_000, Fact::Speaking { identity: "caller".into(), speaking: false });
        t.ends(4_000).metrics
    };
    let unknown = late(false);
    assert_eq!((unknown.silence_count, unknown.total_agent_utterances), (0, 1));
    // The agent's history shows two silences: before its second answer, and after it.
    let known = late(true);
    assert_eq!((known.total_agent_utterances, known.total_user_utterances), (3, 1));
    assert_eq!(known.silence_count, 2);
}
