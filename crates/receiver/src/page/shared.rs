//! What all pages share: wrong logins, and the token of forms without a login.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use rand::RngCore;

use super::attempts::Attempts;

pub(crate) struct Pages {
    pub(super) attempts: Attempts,
    /// In the forms of readers that need no login, so that no other page can send them.
    pub(super) form_token: String,
}

impl Default for Pages {
    fn default() -> Self {
        let mut random = [0; 32];
        rand::rng().fill_bytes(&mut random);
        Self { attempts: Attempts::default(), form_token: BASE64.encode(random) }
    }
}
