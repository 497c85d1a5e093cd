//! Audio devices: no device is found, and none can be started. Tracks can be made, as names only;
//! publishing them is refused.

use crate::{
    audio_source::native::NativeAudioSource, audio_track::RtcAudioTrack,
    peer_connection_factory::PeerConnectionFactory, video_source::native::NativeVideoSource,
    video_track::RtcVideoTrack,
};

macro_rules! inert_methods {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {
        pub trait PeerConnectionFactoryExt {
            $(fn $name(&self, $($arg: $ty),*) $(-> $ret)?;)*
            fn create_video_track(&self, label: &str, source: NativeVideoSource) -> RtcVideoTrack;
            fn create_audio_track(&self, label: &str, source: NativeAudioSource) -> RtcAudioTrack;
            fn create_device_audio_track(&self, label: &str) -> RtcAudioTrack;
        }

        impl PeerConnectionFactoryExt for PeerConnectionFactory {
            $(fn $name(&self, $(_: $ty),*) $(-> $ret)? { Default::default() })*
            fn create_video_track(&self, label: &str, _: NativeVideoSource) -> RtcVideoTrack {
                RtcVideoTrack::new(label)
            }
            fn create_audio_track(&self, label: &str, _: NativeAudioSource) -> RtcAudioTrack {
                RtcAudioTrack::new(label)
            }
            fn create_device_audio_track(&self, label: &str) -> RtcAudioTrack {
                RtcAudioTrack::new(label)
            }
        }
    };
}

inert_methods! {
    fn playout_devices() -> i16;
    fn recording_devices() -> i16;
    fn playout_device_name(index: u16) -> String;
    fn recording_device_name(index: u16) -> String;
    fn playout_device_guid(index: u16) -> String;
    fn recording_device_guid(index: u16) -> String;
    fn set_playout_device(index: u16) -> bool;
    fn set_recording_device(index: u16) -> bool;
    fn set_playout_device_by_guid(guid: &str) -> bool;
    fn set_recording_device_by_guid(guid: &str) -> bool;
    fn stop_recording() -> bool;
    fn init_recording() -> bool;
    fn start_recording() -> bool;
    fn recording_is_initialized() -> bool;
    fn stop_playout() -> bool;
    fn init_playout() -> bool;
    fn start_playout() -> bool;
    fn playout_is_initialized() -> bool;
    fn builtin_aec_is_available() -> bool;
    fn builtin_agc_is_available() -> bool;
    fn builtin_ns_is_available() -> bool;
    fn enable_builtin_aec(enable: bool) -> bool;
    fn enable_builtin_agc(enable: bool) -> bool;
    fn enable_builtin_ns(enable: bool) -> bool;
    fn set_adm_recording_enabled(enabled: bool);
    fn adm_recording_enabled() -> bool;
    fn set_adm_playout_enabled(enabled: bool);
    fn adm_playout_enabled() -> bool;
    fn acquire_platform_adm() -> bool;
    fn release_platform_adm();
    fn platform_adm_ref_count() -> i32;
    fn is_platform_adm_active() -> bool;
}
