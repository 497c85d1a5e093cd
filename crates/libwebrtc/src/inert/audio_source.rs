//! The source of published audio. The native source cannot be made, and `PeerConnection` refuses to
//! publish.

#[derive(Default, Debug)]
pub struct AudioSourceOptions {
    pub echo_cancellation: bool,
    pub noise_suppression: bool,
    pub auto_gain_control: bool,
}

#[derive(Debug, Clone)]
pub enum RtcAudioSource {
    Native(native::NativeAudioSource),
    Device,
}

pub mod native {
    /// Cannot be made, since we publish nothing.
    #[derive(Debug, Clone)]
    pub struct NativeAudioSource(std::convert::Infallible);
}
