//! Takes any bytes as a session description: reads it, passes it to str0m, answers it, and reads the answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| libwebrtc::testing::sdp(data));
