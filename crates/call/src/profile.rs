//! Business profiles: what a call of some kind of business is about. From one, `completion_rate`
//! and `successful` follow where the agent publishes only fields and stages.
//!
//! Where profiles are read from and what is wrong with one is `config`'s business.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// By `business_type`, in lower case.
pub type Profiles = BTreeMap<String, Profile>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// In their usual order.
    pub stages: Vec<String>,
    /// What the agent has to find out.
    pub required_fields: Vec<String>,
    pub success: Success,
}

/// When a call was successful. All that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Success {
    /// One of them was entered.
    pub stages: Vec<String>,
    /// At least this much, 0 to 1.
    pub completion_rate: Option<f64>,
}

impl Profile {
    /// Collected ÷ required; `None` where nothing is required.
    pub fn completion_rate(&self, collected: &[String]) -> Option<f64> {
        if self.required_fields.is_empty() {
            return None;
        }
        let have = self.required_fields.iter().filter(|f| collected.contains(f)).count();
        Some(have as f64 / self.required_fields.len() as f64)
    }

    /// `None` where the profile does not say what success is.
    pub fn successful(&self, entered: &[&str], completion_rate: f64) -> Option<bool> {
        let s = &self.success;
        if s.stages.is_empty() && s.completion_rate.is_none() {
            return None;
        }
        let reached = s.stages.is_empty() || s.stages.iter().any(|x| entered.contains(&x.as_str()));
        Some(reached && s.completion_rate.is_none_or(|least| completion_rate >= least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restaurant() -> Profile {
        Profile {
            stages: vec!["greeting".into(), "confirmation".into()],
            required_fields: vec!["name".into(), "time".into()],
            success: Success { stages: vec!["confirmation".into()], completion_rate: Some(1.0) },
        }
    }

    #[test]
    fn all_that_a_profile_names_must_hold_for_success() {
        let p = restaurant();
        let fields = |f: &[&str]| f.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
        for (collected, entered, rate, successful) in [
            (vec![], vec![], 0.0, false),
            (vec!["name"], vec!["greeting", "confirmation"], 0.5, false),
            (vec!["name", "time"], vec!["greeting"], 1.0, false),
            (vec!["time", "name", "phone"], vec!["confirmation"], 1.0, true),
        ] {
            let found = p.completion_rate(&fields(&collected));
            assert_eq!(found, Some(rate), "{collected:?}");
            assert_eq!(p.successful(&entered, rate), Some(successful), "{collected:?} {entered:?}");
        }
    }

    #[test]
    fn what_is_not_defined_is_not_decided() {
        let p = Profile::default();
        assert_eq!((p.completion_rate(&[]), p.successful(&["a"], 1.0)), (None, None));
    }
}
