//! End-to-end encryption is not supported: keys are refused, packets are not decrypted, and each
//! encrypted track is reported as `EncryptionState::InternalError`. Must never send plain text in place
//! of encrypted data, and never pass on a packet that is still encrypted.

use crate::{
    driver::spawn, native::packet_trailer::PacketTrailerHandler,
    peer_connection_factory::PeerConnectionFactory, rtp_receiver::RtpReceiver,
    rtp_sender::RtpSender,
};

pub type OnStateChange = Box<dyn FnMut(String, EncryptionState) + Send + Sync>;

#[derive(Copy, Clone, Debug)]
pub enum KeyDerivationAlgorithm {
    PBKDF2,
    HKDF,
}

#[derive(Debug, Clone)]
pub struct KeyProviderOptions {
    pub shared_key: bool,
    pub ratchet_window_size: i32,
    pub ratchet_salt: Vec<u8>,
    pub failure_tolerance: i32,
    pub key_ring_size: i32,
    pub key_derivation_algorithm: KeyDerivationAlgorithm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptionAlgorithm {
    AesGcm,
    AesCbc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncryptionState {
    New,
    Ok,
    EncryptionFailed,
    DecryptionFailed,
    MissingKey,
    KeyRatcheted,
    InternalError,
}

#[derive(Debug, Clone)]
pub struct EncryptedPacket {
    pub data: Vec<u8>,
    pub iv: Vec<u8>,
    pub key_index: u32,
}

const REFUSED: &str = "unsupported: this build of libwebrtc has no end-to-end encryption";

#[derive(Debug, Clone)]
pub struct KeyProvider(());

impl KeyProvider {
    /// Cannot return an error; calls that need the keys return it.
    pub fn new(_: KeyProviderOptions) -> Self {
        log::error!("{REFUSED}: what is encrypted cannot be read");
        Self(())
    }
    pub fn set_shared_key(&self, _: i32, _: Vec<u8>) -> bool {
        false
    }
    pub fn ratchet_shared_key(&self, _: i32) -> Option<Vec<u8>> {
        None
    }
    pub fn get_shared_key(&self, _: i32) -> Option<Vec<u8>> {
        None
    }
    pub fn set_key(&self, _: String, _: i32, _: Vec<u8>) -> bool {
        false
    }
    pub fn ratchet_key(&self, _: String, _: i32) -> Option<Vec<u8>> {
        None
    }
    pub fn get_key(&self, _: String, _: i32) -> Option<Vec<u8>> {
        None
    }
    pub fn set_sif_trailer(&self, _: Vec<u8>) {}
}

#[derive(Debug, Clone)]
pub struct FrameCryptor {
    participant: String,
}

impl FrameCryptor {
    pub fn new_for_rtp_sender(
        _: &PeerConnectionFactory,
        participant: String,
        _: EncryptionAlgorithm,
        _: KeyProvider,
        _: RtpSender,
    ) -> Self {
        Self { participant }
    }

    pub fn new_for_rtp_receiver(
        _: &PeerConnectionFactory,
        participant: String,
        _: EncryptionAlgorithm,
        _: KeyProvider,
        _: RtpReceiver,
    ) -> Self {
        Self { participant }
    }

    pub fn set_enabled(&self, _: bool) {}

    /// Reports `InternalError` to the listener at once, from another task.
    pub fn on_state_change(&self, listener: Option<OnStateChange>) {
        if let Some(mut f) = listener {
            let participant = self.participant.clone();
            spawn(async move { f(participant, EncryptionState::InternalError) });
        }
    }

    pub fn set_packet_trailer_handler(&self, _: &PacketTrailerHandler) {}
}

#[derive(Debug, Clone)]
pub struct DataPacketCryptor(());

impl DataPacketCryptor {
    pub fn new(_: EncryptionAlgorithm, _: KeyProvider) -> Self {
        Self(())
    }
    pub fn encrypt(
        &self,
        _: &str,
        _: u32,
        _: &[u8],
    ) -> Result<EncryptedPacket, Box<dyn std::error::Error>> {
        Err(REFUSED.into())
    }
    pub fn decrypt(
        &self,
        _: &str,
        _: &EncryptedPacket,
    ) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        Err(REFUSED.into())
    }
}
