//! Tests of the queue: tables, stories and a property.

use proptest::prelude::*;

use super::*;

fn ids(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("old{i}")).collect()
}

/// The queue of an endpoint that has answered.
fn answering(more_on_disk: bool) -> Queue {
    Queue { down: None, ..Queue::new(more_on_disk, Instant::now()) }
}

fn failure(attempts: u32, asked: Option<u64>) -> Failure {
    Failure { attempts, asked: asked.map(Duration::from_secs), dice: 1.0 }
}

fn drain(q: &mut Queue, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| q.next(now)).collect()
}

#[test]
fn a_backlog_that_hangs_leaves_places_for_new_records() {
    let now = Instant::now();
    let mut q = answering(false);
    q.found(ids(100), false);
    assert_eq!(drain(&mut q, now).len(), OLD_IN_FLIGHT);
    assert_eq!(q.due(), None, "nothing is due until an attempt ends");
    for n in OLD_IN_FLIGHT..=IN_FLIGHT {
        q.sealed(format!("new{n}"), now);
    }
    assert_eq!(drain(&mut q, now).len(), IN_FLIGHT - OLD_IN_FLIGHT, "and no more than that");
}

#[test]
fn many_new_records_leave_places_for_the_backlog() {
    let now = Instant::now();
    let mut q = answering(false);
    for n in 0..OLD_IN_FLIGHT {
        q.sealed(format!("new{n}"), now);
    }
    assert_eq!(drain(&mut q, now).len(), OLD_IN_FLIGHT);
    q.found(ids(100), false);
    assert_eq!(drain(&mut q, now).len(), IN_FLIGHT - OLD_IN_FLIGHT);
}

#[test]
fn new_records_and_the_backlog_go_in_turn_and_the_newest_first() {
    let now = Instant::now();
    let mut q = answering(true);
    q.found(ids(4), true);
    for id in ["a", "b", "c"] {
        q.sealed(id.into(), now);
    }
    assert_eq!(drain(&mut q, now), ["old0", "c", "old1", "b", "old2", "a", "old3"]);
    assert!(!q.is_empty(), "they are in flight");
}

#[test]
fn at_the_start_of_a_run_one_record_goes_ahead() {
    let now = Instant::now();
    let mut q = Queue::new(true, now);
    q.found(ids(300), true);
    assert!(!q.is_down(), "nothing is known");
    assert_eq!(drain(&mut q, now), ["old0"]);
    q.done("old0", true, now);
    assert_eq!(drain(&mut q, now).len(), OLD_IN_FLIGHT);
    let mut q = Queue::new(true, now);
    q.found(ids(300), true);
    q.next(now);
    q.given_up("old0", failure(900, Some(60)), now);
    assert!(q.is_down());
    assert_eq!(q.due(), Some(now + Duration::from_secs(60)));
    assert_eq!(drain(&mut q, now + Duration::from_secs(60)), ["old1"]);
}

#[test]
fn only_so_many_are_in_flight() {
    let now = Instant::now();
    let mut q = answering(true);
    q.found(ids(100), true);
    assert_eq!(drain(&mut q, now).len(), OLD_IN_FLIGHT);
    q.done("old0", true, now);
    assert_eq!(drain(&mut q, now).len(), 1);
}

#[test]
fn while_the_endpoint_is_down_one_record_after_the_other_is_the_probe() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(ids(5), true);
    let first = q.next(now).unwrap();
    let wait = q.failed(first, failure(1, None), now);
    assert_eq!((wait, q.next(now)), (Duration::from_secs(1), None));
    now += wait;
    let second = q.next(now).unwrap();
    assert_eq!(second, "old1", "another one");
    assert_eq!(q.next(now), None, "one at a time");
    q.failed(second, failure(1, None), now);
    assert_eq!(q.due(), Some(now + Duration::from_secs(2)), "the probes' wait doubles");
    now += Duration::from_secs(2);
    let third = q.next(now).unwrap();
    q.done(&third, true, now);
    assert_eq!(drain(&mut q, now).len(), 4, "all at once, those that had failed too");
}

#[test]
fn attempts_in_flight_when_the_endpoint_went_down_are_not_probes() {
    let now = Instant::now();
    let mut q = answering(true);
    q.found(ids(16), true);
    for id in drain(&mut q, now) {
        q.failed(id, failure(1, None), now);
    }
    // The last one was alone in flight, as a probe is.
    assert!(q.due().unwrap() <= now + Duration::from_secs(2));
}

#[test]
fn a_record_that_always_fails_does_not_delay_others() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(vec!["poison".into()], true);
    let poison = q.next(now).unwrap();
    q.failed(poison, failure(1, None), now);
    for n in 0..20 {
        // Its own wait is five minutes at most.
        q.sealed(format!("good{n}"), now);
        now += Duration::from_secs(400);
        let id = q.next(now).unwrap();
        if id == "poison" {
            q.failed(id, failure(2, None), now);
            now += Duration::from_secs(400);
            let id = q.next(now).unwrap();
            assert_ne!(id, "poison", "the next probe is another one");
            q.done(&id, true, now);
        } else {
            q.done(&id, true, now);
        }
    }
}

#[test]
fn a_record_that_failed_often_is_not_tried_whenever_another_is_taken() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(ids(1), true);
    let id = q.next(now).unwrap();
    q.failed(id, failure(7, None), now);
    q.sealed("good".into(), now);
    now += Duration::from_secs(1);
    assert_eq!(q.next(now).as_deref(), Some("good"));
    q.done("good", true, now);
    assert_eq!(q.next(now), None, "it has its own minute to wait");
    assert_eq!(q.due(), Some(now + Duration::from_secs(63)));
}

#[test]
fn a_new_record_is_tried_soon_however_long_the_endpoint_was_down() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(ids(1), true);
    for n in 1..12 {
        let id = q.next(now).unwrap();
        q.failed(id, failure(n, None), now);
        now = q.due().unwrap();
    }
    let id = q.next(now).unwrap();
    q.failed(id, failure(12, None), now);
    assert_eq!(q.due(), Some(now + Duration::from_secs(300)));
    q.sealed("new".into(), now);
    assert_eq!(q.due(), Some(now + FIRST_WITHIN));
}

#[test]
fn every_new_record_is_tried_soon_also_while_a_probe_hangs() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(ids(2), true);
    let first = q.next(now).unwrap();
    q.failed(first, failure(1, None), now);
    now += Duration::from_secs(1);
    let probe = q.next(now).unwrap();
    // The probe has no answer for half a minute.
    for id in ["a", "b", "c"] {
        q.sealed(id.into(), now);
    }
    assert_eq!((q.next(now), q.due()), (None, Some(now + FIRST_WITHIN)));
    now += FIRST_WITHIN;
    assert_eq!(drain(&mut q, now), ["a", "b", "c"]);
    // Their failures do not count: they are not the probe.
    for id in ["a", "b"] {
        q.failed(id.into(), failure(1, None), now);
    }
    assert_eq!(q.down.as_ref().map(|d| d.failures), Some(1));
    q.done("c", true, now);
    assert!(!q.is_down(), "one was taken");
    q.failed(probe, failure(1, None), now);
}

#[test]
fn a_retry_after_ends_with_its_time() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(ids(1), true);
    let id = q.next(now).unwrap();
    q.failed(id, failure(1, Some(1)), now);
    // Then connections are refused for long.
    for n in 2..12 {
        now = q.due().unwrap();
        let id = q.next(now).unwrap();
        q.failed(id, failure(n, None), now);
    }
    q.sealed("new".into(), now);
    assert_eq!(q.due(), Some(now + FIRST_WITHIN), "the Retry-After is over");
    now += FIRST_WITHIN;
    assert_eq!(q.next(now).as_deref(), Some("new"));
    // After another Retry-After a newer record waits as well, and no longer than that.
    q.failed("new".into(), failure(1, Some(60)), now);
    q.sealed("newer".into(), now);
    assert_eq!((q.next(now + FIRST_WITHIN), q.due()), (None, Some(now + Duration::from_secs(60))));
    now += Duration::from_secs(60);
    assert_eq!(q.next(now).as_deref(), Some("newer"));
}

#[test]
fn a_new_record_goes_at_once_where_the_retry_after_is_over() {
    let now = Instant::now();
    let mut q = answering(true);
    q.found(ids(1), true);
    let id = q.next(now).unwrap();
    // A date that has passed.
    q.failed(id, failure(5, Some(0)), now);
    q.sealed("new".into(), now);
    assert_eq!(q.due(), Some(now + Duration::from_secs(1)), "the first probe");
    assert_eq!(q.next(now + Duration::from_secs(1)).as_deref(), Some("new"));
}

#[test]
fn a_record_that_is_given_up_is_a_failure_of_the_endpoint_like_any_other() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(ids(300), true);
    let first = drain(&mut q, now);
    assert_eq!(first.len(), OLD_IN_FLIGHT);
    for id in &first {
        q.given_up(id, failure(400, Some(60)), now);
    }
    assert_eq!((q.next(now), q.due()), (None, Some(now + Duration::from_secs(60))));
    now += Duration::from_secs(60);
    assert_eq!(drain(&mut q, now).len(), 1, "one probes");
    assert_eq!(q.held.len(), 300 - OLD_IN_FLIGHT);
}

#[test]
fn a_record_that_is_not_on_disk_is_held_however_many_wait() {
    let now = Instant::now();
    let mut q = answering(true);
    for n in 0..3_000 {
        q.sealed(format!("sealed{n}"), now);
    }
    for n in 0..5 {
        q.unsealed(format!("memory{n}"), now);
    }
    assert_eq!(q.held.len(), WINDOW + 5);
    assert_eq!(q.next(now).as_deref(), Some("memory4"));
    assert_eq!(q.wants(), 0);
}

#[test]
fn a_record_that_is_not_on_disk_does_not_make_room_for_another() {
    let now = Instant::now();
    let mut q = answering(true);
    q.unsealed("memory".into(), now);
    assert_eq!(q.next(now).as_deref(), Some("memory"));
    q.failed("memory".into(), failure(1, None), now);
    q.found(ids(5), false);
    q.retry_all();
    for n in 0..3_000 {
        q.sealed(format!("sealed{n}"), now);
    }
    assert!(q.holds("memory") && !q.holds("old0"));
}

#[test]
fn what_the_operator_moves_during_a_listing_is_found_by_another() {
    let mut q = answering(true);
    q.retry_all();
    q.found(vec![], true);
    assert!(q.wants() > 0);
    q.found(vec![], true);
    assert_eq!(q.wants(), 0);
}

#[test]
fn a_record_that_is_asked_about_again_has_its_own_wait() {
    let now = Instant::now();
    let mut q = answering(true);
    q.found(ids(2), true);
    let id = q.next(now).unwrap();
    q.failed(id, failure(1, None), now);
    let later = now + Duration::from_secs(1);
    let id = q.next(later).unwrap();
    q.ask_again(id, Duration::from_secs(60), later);
    assert!(!q.is_down(), "it answered");
    assert_eq!(drain(&mut q, later).len(), 1, "the other one");
    q.done("old0", true, now);
    assert_eq!(q.due(), Some(later + Duration::from_secs(60)));
}

#[test]
fn a_record_with_its_own_wait_is_not_a_probe_before_its_time() {
    let now = Instant::now();
    // Nothing is known of the endpoint, and the only record cannot be read.
    let mut q = Queue::new(true, now);
    q.found(ids(1), true);
    let id = q.next(now).unwrap();
    q.unreadable(id, now);
    assert_eq!((q.next(now), q.due()), (None, Some(now + UNREADABLE_FOR)));
    let later = now + UNREADABLE_FOR;
    let id = q.next(later).unwrap();
    // It is asked about once more, and another one fails meanwhile.
    q.ask_again(id, Duration::from_secs(60), later);
    q.sealed("other".into(), later);
    assert_eq!(q.next(later).as_deref(), Some("other"));
    q.failed("other".into(), failure(1, None), later);
    for wait in [1, 3, 7] {
        let at = later + Duration::from_secs(wait);
        assert_eq!(q.next(at).as_deref(), Some("other"), "after {wait} s");
        q.failed("other".into(), failure(1, None), at);
    }
    let at = later + Duration::from_secs(60);
    assert_eq!(q.next(at).as_deref(), Some("other"), "the record that has waited longest");
    q.failed("other".into(), failure(1, None), at);
    let at = q.due().unwrap();
    assert_eq!(q.next(at).as_deref(), Some("old0"), "its minute is over");
}

#[test]
fn records_that_did_not_fit_are_listed_again() {
    let now = Instant::now();
    let mut q = answering(true);
    q.found(ids(1_400), false);
    for n in 0..700 {
        q.sealed(format!("new{n}"), now);
    }
    q.found(vec![], true);
    assert!(q.more_on_disk, "the walk may have passed some of the new ones");
    q.found(vec![], true);
    assert!(!q.more_on_disk);
}

#[test]
fn a_retry_after_is_respected() {
    let now = Instant::now();
    let mut q = answering(true);
    q.found(ids(1), true);
    let id = q.next(now).unwrap();
    q.failed(id, failure(1, Some(40)), now);
    assert_eq!(q.due(), Some(now + Duration::from_secs(40)));
}

#[test]
fn memory_does_not_depend_on_the_backlog() {
    let mut q = answering(false);
    for n in 0..100_000 {
        q.sealed(format!("id{n}"), Instant::now());
    }
    assert_eq!(q.held.len(), WINDOW);
    assert!(q.more_on_disk && !q.is_empty());
}

proptest! {
    /// Whatever the endpoint does, every record is tried until it is settled, each at most once at a
    /// time.
    #[test]
    fn no_record_is_forgotten(
        old in 0usize..60,
        new in 0usize..60,
        answers in prop::collection::vec(0u8..4, 0..400),
        dice in 0.0f64..1.0,
    ) {
        let mut now = Instant::now();
        let mut q = answering(true);
        let mut disk: HashSet<String> = ids(old).into_iter().collect();
        let mut answers = answers.into_iter();
        let mut in_flight: Vec<String> = vec![];
        for n in 0..new {
            let id = format!("new{n}");
            disk.insert(id.clone());
            q.sealed(id, now);
        }
        for _ in 0..5_000 {
            if disk.is_empty() {
                break;
            }
            let wants = q.wants();
            if wants > 0 {
                let found: Vec<_> = disk.iter().filter(|id| !q.holds(id)).cloned().collect();
                let all = found.len() <= wants;
                q.found(found.into_iter().take(wants).collect(), all);
            }
            while let Some(id) = q.next(now) {
                prop_assert!(!in_flight.contains(&id), "{id} twice in flight");
                in_flight.push(id);
            }
            prop_assert!(in_flight.len() <= IN_FLIGHT);
            match in_flight.pop() {
                Some(id) => match answers.next() {
                    Some(1) => {
                        q.failed(id, Failure { attempts: 3, asked: None, dice }, now);
                    }
                    Some(2) => q.ask_again(id, Duration::from_secs(60), now),
                    _ => { disk.remove(&id); q.done(&id, true, now); }
                },
                None => now = q.due().unwrap_or(now + Duration::from_secs(1)),
            }
        }
        prop_assert!(disk.is_empty(), "{} were never sent", disk.len());
    }
}

#[test]
fn a_slow_or_poisoned_record_is_no_outage_while_the_endpoint_takes_others() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(vec!["slow".into(), "good".into()], true);
    assert_eq!(drain(&mut q, now), ["slow", "good"]);
    now += Duration::from_secs(1);
    q.done("good", true, now);
    // It has no answer for half a minute; another record was taken meanwhile.
    now += Duration::from_secs(29);
    q.failed("slow".into(), failure(1, None), now);
    assert!(!q.is_down());
    q.sealed("new".into(), now);
    assert_eq!(drain(&mut q, now), ["new"], "at once");
    q.done("new", true, now);
    // It fails again, at once this time: others were taken since it failed before.
    now += Duration::from_secs(1);
    assert_eq!(drain(&mut q, now), ["slow"]);
    q.failed("slow".into(), failure(2, None), now);
    assert!(!q.is_down());
    // Nothing was taken since: now the endpoint may be down.
    now += Duration::from_secs(4);
    assert_eq!(drain(&mut q, now), ["slow"]);
    q.failed("slow".into(), failure(3, None), now);
    assert!(q.is_down());
}

#[test]
fn a_retry_after_holds_for_all_records() {
    let now = Instant::now();
    let mut q = answering(true);
    q.found(vec!["a".into(), "b".into()], true);
    assert_eq!(drain(&mut q, now), ["a", "b"]);
    q.done("b", true, now);
    q.failed("a".into(), failure(1, Some(60)), now);
    assert!(q.is_down());
}

#[test]
fn a_second_outage_is_one_too_although_records_of_the_first_failed_before() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(ids(6), true);
    // The first outage: probe after probe fails.
    let first = drain(&mut q, now);
    for id in &first {
        q.failed(id.clone(), failure(1, None), now);
    }
    assert!(q.is_down());
    for _ in 0..2 {
        now = q.due().unwrap();
        let probe = drain(&mut q, now);
        assert_eq!(probe.len(), 1);
        q.failed(probe[0].clone(), failure(2, None), now);
    }
    // The endpoint takes one, and is gone again.
    now = q.due().unwrap();
    let probe = drain(&mut q, now);
    q.done(&probe[0], true, now);
    now += Duration::from_secs(1);
    let next = drain(&mut q, now);
    assert!(!next.is_empty());
    q.failed(next[0].clone(), failure(2, None), now);
    assert!(q.is_down(), "it is not the record's fault");
}

#[test]
fn a_record_that_is_given_up_while_others_are_taken_is_no_outage() {
    let mut now = Instant::now();
    let mut q = answering(true);
    q.found(vec!["poisoned".into(), "good".into()], true);
    assert_eq!(drain(&mut q, now).len(), 2);
    now += Duration::from_secs(1);
    q.done("good", true, now);
    q.given_up("poisoned", failure(900, None), now);
    assert!(!q.is_down());
    assert!(q.held.is_empty() && q.in_flight == 0);
}
