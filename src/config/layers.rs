//! How rooms are found: which layers are on, and which rooms they look for.

use std::{fmt, str::FromStr};

use wildmatch::WildMatch;

/// The layers of discovery. Each can be switched off. How a room is observed does not depend on the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    /// LiveKit dispatches the worker by its name.
    pub(crate) dispatch: bool,
    /// The worker asks LiveKit for rooms that nobody observes.
    pub(crate) reconcile: bool,
    /// LiveKit's webhooks are accepted at `/webhook`.
    pub(crate) webhook: bool,
    /// LiveKit offers every caller's join to the worker, registered without a name. It would take these jobs
    /// from an unnamed voice agent that is registered for participants too.
    pub(crate) participant: bool,
}

impl Default for Layers {
    fn default() -> Self {
        Self { dispatch: true, reconcile: true, webhook: true, participant: false }
    }
}

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut layers =
            Self { dispatch: false, reconcile: false, webhook: false, participant: false };
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            *match word {
                "dispatch" => &mut layers.dispatch,
                "reconcile" => &mut layers.reconcile,
                "webhook" => &mut layers.webhook,
                "participant" => &mut layers.participant,
                _ => {
                    return Err(format!(
                        "must be a list of dispatch, reconcile, webhook, participant; {word:?} is \
                         none of them"
                    ));
                }
            } = true;
        }
        let Self { dispatch, reconcile, webhook, participant } = layers;
        if dispatch || reconcile || webhook || participant {
            Ok(layers)
        } else {
            Err("must name at least one of dispatch, reconcile, webhook, participant".into())
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dispatch, reconcile, webhook, participant } = *self;
        let all = [
            (dispatch, "dispatch"),
            (reconcile, "reconcile"),
            (webhook, "webhook"),
            (participant, "participant"),
        ];
        let on: Vec<&str> = all.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
        f.write_str(&on.join(","))
    }
}

/// Names of the rooms to look for. Rooms that dispatch us by name are observed whatever their name is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RoomNames(Vec<WildMatch>);

impl RoomNames {
    /// `text`: patterns with `*` and `?`, with commas between them.
    /// `None` if it has no pattern.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let patterns = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        let patterns: Vec<WildMatch> = patterns.map(WildMatch::new).collect();
        (!patterns.is_empty()).then_some(Self(patterns))
    }

    pub(crate) fn wanted(&self, room: &str) -> bool {
        self.0.iter().any(|p| p.matches(room))
    }
}

impl Default for RoomNames {
    fn default() -> Self {
        Self(vec![WildMatch::new("*")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_chosen_by_their_names() {
        let all = RoomNames::default();
        assert!(all.wanted("anything") && all.wanted(""));
        let some = RoomNames::parse("call-*, table-??").unwrap();
        for (room, wanted) in [
            ("call-", true),
            ("call-42", true),
            ("table-07", true),
            ("table-7", false),
            ("recall-1", false),
            ("Call-1", false),
        ] {
            assert_eq!(some.wanted(room), wanted, "{room}");
        }
        assert_eq!(RoomNames::parse(" , "), None);
    }

    #[test]
    fn layers_are_named_one_by_one() {
        let all = Layers { participant: true, ..Layers::default() };
        assert_eq!("dispatch, reconcile,webhook,participant".parse(), Ok(all));
        assert_eq!("dispatch,reconcile,webhook".parse(), Ok(Layers::default()));
        let one: Layers = "reconcile".parse().unwrap();
        assert!(one.reconcile && !one.dispatch && !one.webhook && !one.participant);
        for wrong in ["", " , ", "all", "Dispatch"] {
            assert!(wrong.parse::<Layers>().is_err(), "{wrong}");
        }
    }
}
