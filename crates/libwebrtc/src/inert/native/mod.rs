//! What upstream keeps in its native half.

pub mod frame_cryptor;
pub mod packet_trailer;

pub fn create_random_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
