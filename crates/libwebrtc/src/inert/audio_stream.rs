//! The frames of a remote track: a stream that ends at once.

pub mod native {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use crate::{audio_frame::AudioFrame, audio_track::RtcAudioTrack};

    /// Ends at once, since we decode nothing.
    #[derive(Debug)]
    pub struct NativeAudioStream(RtcAudioTrack);

    impl NativeAudioStream {
        pub fn new(track: RtcAudioTrack, _sample_rate: i32, _num_channels: i32) -> Self {
            Self(track)
        }

        pub fn track(&self) -> RtcAudioTrack {
            self.0.clone()
        }
    }

    impl tokio_stream::Stream for NativeAudioStream {
        type Item = AudioFrame<'static>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(None)
        }
    }
}
