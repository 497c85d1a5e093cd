//! Business profiles: the stages, the required fields and the conditions of success for a kind of
//! business. They give `completion_rate` and `successful` if the agent publishes only fields and
//! stages.
//!
//! Reading profiles from files and checking them is the task of `config`.

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

/// When a call counts as successful. Every condition that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Success {
    /// At least one of these stages was entered.
    pub stages: Vec<String>,
    /// The least completion rate, 0 to 1.
    pub completion_rate: Option<f64>,
}

impl Profile {
    /// Collected ÷ required; `None` if no field is required.
    pub fn completion_rate(&self, collected: &[String]) -> Option<f64> {
        if self.required_fields.is_empty() {
            return None;
        }
        let have = self.required_fields.iter().filter(|f| collected.contains(f)).count();
        Some(have as f64 / self.required_fields.len() as f64)
    }

    /// `None` if the profile does not define success.
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
    fn every_condition_of_a_profile_must_hold_for_success() {
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
    fn a_profile_without_rules_decides_nothing() {
        let p = Profile::default();
        assert_eq!((p.completion_rate(&[]), p.successful(&["a"], 1.0)), (None, None));
    }
}
