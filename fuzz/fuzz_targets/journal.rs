//! Any bytes as a journal: read, told, made a record of and explained.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(replay) = call_history::Replay::read(data) else { return };
    let told = replay.tell();
    if let Some(record) = told.record() {
        assert_eq!(replay.tell().record().as_ref(), Some(&record), "the same events, the same bytes");
        assert!(told.explanation().is_some());
    }
});
