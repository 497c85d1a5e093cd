//! Any bytes as a session description: read, shown to str0m, answered, and the answer read.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| libwebrtc::testing::sdp(data));
