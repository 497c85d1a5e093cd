//! Changes of a participant's data and rights, by itself or by the API.
//!
//! In: new metadata, name, attributes, permissions. Out: the changed participant, the announcement to all,
//! and a fresh token for its next reconnect. Rights are enforced at once: tracks and subscriptions that are
//! no longer allowed end.

use std::collections::HashMap;

use livekit_protocol::{self as lk, request_response::Reason, signal_response::Message as Out};

use crate::{
    clock::wall_ms,
    room::{Room, updates::Urgency},
    token::{self, Claims},
};

/// All attributes of a participant, keys and values, bytes.
const MAX_ATTRIBUTES: usize = 64 << 10;
/// Metadata of a participant or a room, bytes.
pub(crate) const MAX_METADATA: usize = 512 << 10;
/// Validity of refreshed tokens, seconds.
const REFRESHED: u64 = 600;

/// A change of a participant; fields with `None` stay as they are.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) metadata: Option<String>,
    pub(crate) name: Option<String>,
    /// An empty value deletes.
    pub(crate) attributes: HashMap<String, String>,
    pub(crate) permission: Option<lk::ParticipantPermission>,
}

/// # Errors
/// The text that names the exceeded limit.
pub(crate) fn check_limits(
    metadata: &str,
    attributes: &HashMap<String, String>,
) -> Result<(), String> {
    if metadata.len() > MAX_METADATA {
        return Err(format!("metadata size exceeds limits, max {MAX_METADATA}"));
    }
    if attributes.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > MAX_ATTRIBUTES {
        return Err(format!("attribute size exceeds limits, max {MAX_ATTRIBUTES}"));
    }
    Ok(())
}

impl Room {
    /// A client changes itself.
    pub(super) fn update_own(&mut self, key: u64, update: lk::UpdateParticipantMetadata) {
        let Some(p) = self.participants.get(&key) else { return };
        let (id, request) =
            (update.request_id, lk::request_response::Request::UpdateMetadata(update.clone()));
        let (reason, message) = if p.permission().can_update_metadata {
            let set = |s: String| (!s.is_empty()).then_some(s);
            let change = Change {
                metadata: set(update.metadata),
                name: set(update.name),
                attributes: update.attributes,
                permission: None,
            };
            match self.change(key, change) {
                Ok(()) => (Reason::Ok, String::new()),
                Err(message) => (Reason::LimitExceeded, message),
            }
        } else {
            (Reason::NotAllowed, "does not have permission to update own metadata".into())
        };
        let Some(p) = self.participants.get(&key).filter(|_| id > 0) else { return };
        p.say(Out::RequestResponse(lk::RequestResponse {
            request_id: id,
            reason: reason as i32,
            message,
            request: Some(request),
        }));
    }

    /// Changes a participant and announces it at once.
    ///
    /// # Errors
    /// A limit is exceeded; nothing is changed then.
    pub(crate) fn change(&mut self, key: u64, change: Change) -> Result<(), String> {
        let Some(p) = self.participants.get_mut(&key) else { return Ok(()) };
        let mut attributes = p.info.attributes.clone();
        for (k, v) in change.attributes {
            if v.is_empty() { drop(attributes.remove(&k)) } else { drop(attributes.insert(k, v)) }
        }
        let metadata = change.metadata.unwrap_or_else(|| p.info.metadata.clone());
        check_limits(&metadata, &attributes)?;
        (p.info.attributes, p.info.metadata) = (attributes, metadata);
        if let Some(name) = change.name {
            p.info.name = name;
        }
        p.info.version += 1;
        if let Some(permission) = change.permission {
            self.set_permission(key, permission);
        }
        self.announce(key, Urgency::AtOnce);
        self.refresh_token(key);
        Ok(())
    }

    fn set_permission(&mut self, key: u64, new: lk::ParticipantPermission) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        let video = &mut p.claims.video;
        video.can_subscribe = Some(new.can_subscribe);
        video.can_publish = Some(new.can_publish);
        video.can_publish_data = Some(new.can_publish_data);
        video.can_update_own_metadata = Some(new.can_update_metadata);
        video.can_subscribe_metrics = Some(new.can_subscribe_metrics);
        video.hidden = new.hidden;
        let old = p.info.permission.replace(new.clone()).unwrap_or_default();
        let auto = p.auto_subscribe;
        if !new.can_publish {
            p.pending.clear();
            let sids: Vec<String> = p.tracks.iter().map(|t| t.info.sid.clone()).collect();
            for sid in sids {
                self.unpublish(key, &sid);
            }
        }
        if !new.can_subscribe {
            self.unsubscribe_from_all(key);
        } else if !old.can_subscribe && auto {
            self.subscribe_all(key);
        }
    }

    /// Sends the client a token with its present data and rights, for its next reconnect. Called after the
    /// join and after each change.
    pub(crate) fn refresh_token(&self, key: u64) {
        let Some(p) = self.participants.get(&key) else { return };
        let Some(secret) = self.hub.config.keys.get(&p.claims.iss) else { return };
        let now = wall_ms() as u64 / 1000;
        let claims = Claims {
            name: p.info.name.clone(),
            metadata: p.info.metadata.clone(),
            attributes: p.info.attributes.clone(),
            nbf: now,
            exp: now + REFRESHED,
            room_config: None,
            ..p.claims.clone()
        };
        p.say(Out::RefreshToken(token::sign(&claims, secret)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_real_server() {
        let attributes = |n: usize| HashMap::from([("k".to_owned(), "v".repeat(n))]);
        assert!(check_limits(&"m".repeat(512 << 10), &attributes((64 << 10) - 1)).is_ok());
        assert!(check_limits("", &attributes(64 << 10)).is_err());
        assert!(check_limits(&"m".repeat((512 << 10) + 1), &HashMap::new()).is_err());
    }
}
