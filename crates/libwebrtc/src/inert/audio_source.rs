//! Where published audio would come from. There is nothing to capture into, so the native source
//! cannot be made, and publishing is refused by `PeerConnection`.

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
    /// Cannot be made: there is nothing to capture into.
    #[derive(Debug, Clone)]
    pub struct NativeAudioSource(std::convert::Infallible);
}
