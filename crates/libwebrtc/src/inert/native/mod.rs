//! The items of upstream's `native` module.

pub mod frame_cryptor;
pub mod packet_trailer;

pub fn create_random_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
