//! The source of published video; see `audio_source`.

#[derive(Debug, Clone, Default)]
pub struct VideoResolution {
    pub width: u32,
    pub height: u32,
}

#[derive(Debug, Clone)]
pub enum RtcVideoSource {
    Native(native::NativeVideoSource),
}

impl RtcVideoSource {
    pub fn video_resolution(&self) -> VideoResolution {
        VideoResolution::default()
    }
}

pub mod native {
    use crate::native::packet_trailer::PacketTrailerHandler;

    /// Cannot be made, since we publish nothing.
    #[derive(Debug, Clone)]
    pub struct NativeVideoSource(std::convert::Infallible);

    impl NativeVideoSource {
        pub fn set_packet_trailer_handler(&self, _: PacketTrailerHandler) {}
    }
}
