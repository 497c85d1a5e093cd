//! Any bytes as a journal: read, replayed, made a record of and explained.
#![no_main]

use store::journal;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(read) = journal::read(data) else { return };
    let replayed = || journal::replay_to_end(&read).0;
    let call = replayed();
    let text = |call: &call::Call| serde_json::to_string(&call.record()).expect("a record is JSON");
    assert_eq!(text(&call), text(&replayed()), "the same events, the same bytes");
    if let Some((record, measured)) = call.explained() {
        let _ = call::explain::text(&record, &measured);
    }
});
