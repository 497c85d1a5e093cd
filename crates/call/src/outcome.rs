//! Agent configuration and outcomes, merged by authority (docs/contract.md §6.1): an agent's
//! messages outrank its attributes, attributes outrank metadata, and the usage that the agent
//! reports comes last.

use record::{AgentConfig, Outcomes, Status};

use super::{
    event::ModelTask,
    feed::AgentView,
    metadata::FromMetadata,
    profile::Profile,
    published::{ConfigPatch, OutcomesPatch},
    snapshot::{OutcomeSnapshot, SourceSnapshot},
    taken::replace,
};

/// Where something published came from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Message,
    Attribute,
}

/// What the agent published through one source.
#[derive(Clone, Debug, Default, PartialEq)]
struct FromSource {
    config: Option<ConfigPatch>,
    outcomes: OutcomesPatch,
    end: Option<(Option<Status>, Option<String>)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    message: FromSource,
    attribute: FromSource,
}

impl Outcome {
    fn of(&mut self, source: Source) -> &mut FromSource {
        match source {
            Source::Message => &mut self.message,
            Source::Attribute => &mut self.attribute,
        }
    }

    /// Within one source a later value replaces an earlier one, key by key. False if that changes
    /// nothing.
    pub fn config(&mut self, source: Source, mut new: ConfigPatch) -> bool {
        let published = self.of(source);
        if let Some(old) = &published.config {
            new.fill_from(old);
        }
        replace(&mut published.config, Some(new))
    }

    /// As `config`.
    pub fn outcomes(&mut self, source: Source, mut new: OutcomesPatch) -> bool {
        let published = self.of(source);
        new.fill_from(&published.outcomes);
        replace(&mut published.outcomes, new)
    }

    /// As `config`.
    pub fn end(&mut self, source: Source, status: Option<Status>, reason: Option<String>) -> bool {
        let end = &mut self.of(source).end;
        let (s, r) = end.clone().unwrap_or_default();
        replace(end, Some((status.or(s), reason.or(r))))
    }

    /// What holds for the next call in the same room: the agent's configuration, but not the
    /// outcomes of this call.
    pub fn for_next_call(&self) -> Self {
        let kept =
            |t: &FromSource| FromSource { config: t.config.clone(), ..FromSource::default() };
        Self { message: kept(&self.message), attribute: kept(&self.attribute) }
    }

    /// How the call ended, as the agent published it; `None` if the agent published no end.
    pub fn published_end(&self) -> Option<(Status, Option<String>)> {
        let first = self.message.end.clone();
        let second = self.attribute.end.clone();
        if first.is_none() && second.is_none() {
            return None;
        }
        let (s1, r1) = first.unwrap_or_default();
        let (s2, r2) = second.unwrap_or_default();
        Some((s1.or(s2).unwrap_or(Status::Completed), r1.or(r2)))
    }

    pub fn agent_config(&self, metadata: &[FromMetadata], view: &AgentView) -> AgentConfig {
        let mut given: Option<ConfigPatch> = None;
        let published = [&self.message.config, &self.attribute.config];
        let meta = metadata.iter().map(|m| &m.config);
        for c in published.into_iter().chain(meta).filter_map(Option::as_ref) {
            given.get_or_insert_default().fill_from(c);
        }
        let model = |task: ModelTask| view.models.get(&task).cloned();
        let Some(c) = given else {
            // No configuration was given: null, except for the models that the usage names.
            return AgentConfig {
                stt_config_key: model(ModelTask::Stt),
                llm_config_key: model(ModelTask::Llm),
                tts_config_key: model(ModelTask::Tts),
                ..Default::default()
            };
        };
        let or_unknown = |v: Option<String>| Some(v.unwrap_or_else(|| "unknown".into()));
        AgentConfig {
            stt_config_key: or_unknown(c.stt.or_else(|| model(ModelTask::Stt))),
            llm_config_key: or_unknown(c.llm.or_else(|| model(ModelTask::Llm))),
            tts_config_key: or_unknown(c.tts.or_else(|| model(ModelTask::Tts))),
            business_type: or_unknown(c.business_type),
            language: Some(c.language.unwrap_or_else(|| "english".into())),
        }
    }

    /// `entered`: the stages, in time order. `notes`: what the worker has to add because the record
    /// is incomplete. If the agent published no rate or no success, the profile gives them,
    /// provided that the agent published fields or stages.
    pub fn build(
        &self,
        metadata: &[FromMetadata],
        entered: &[&str],
        profile: Option<&Profile>,
        notes: &[String],
    ) -> Outcomes {
        let mut o = self.message.outcomes.clone();
        o.fill_from(&self.attribute.outcomes);
        for m in metadata.iter().filter_map(|m| m.outcomes.as_ref()) {
            o.fill_from(m);
        }
        let known = o.fields_collected.is_some() || !entered.is_empty();
        let profile = profile.filter(|_| known);
        let fields_collected = o.fields_collected.unwrap_or_default();
        let completion_rate = (o.completion_rate)
            .or_else(|| profile?.completion_rate(&fields_collected))
            .unwrap_or(0.0);
        let successful = o.successful.or_else(|| profile?.successful(entered, completion_rate));
        let all: Vec<String> = o.notes.into_iter().chain(notes.iter().cloned()).collect();
        Outcomes {
            completion_rate,
            fields_collected,
            final_stage: o.final_stage.or_else(|| entered.last().map(|s| (*s).to_owned())),
            successful,
            notes: (!all.is_empty()).then(|| all.join(" ")),
        }
    }
}

impl From<FromSource> for SourceSnapshot {
    fn from(FromSource { config, outcomes, end }: FromSource) -> Self {
        Self { config, outcomes, end }
    }
}

impl From<SourceSnapshot> for FromSource {
    fn from(SourceSnapshot { config, outcomes, end }: SourceSnapshot) -> Self {
        Self { config, outcomes, end }
    }
}

impl From<Outcome> for OutcomeSnapshot {
    fn from(o: Outcome) -> Self {
        Self { message: o.message.into(), attribute: o.attribute.into() }
    }
}

impl From<OutcomeSnapshot> for Outcome {
    fn from(o: OutcomeSnapshot) -> Self {
        Self { message: o.message.into(), attribute: o.attribute.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Success;

    fn config(stt: &str) -> ConfigPatch {
        ConfigPatch { stt: Some(stt.into()), ..Default::default() }
    }

    #[test]
    fn a_lower_source_only_fills_keys_that_a_higher_source_left_open() {
        let mut o = Outcome::default();
        o.config(Source::Attribute, ConfigPatch { llm: Some("l2".into()), ..config("s2") });
        o.config(Source::Message, config("s1"));
        let metadata = [FromMetadata {
            config: Some(ConfigPatch { business_type: Some("clinic".into()), ..config("s3") }),
            ..Default::default()
        }];
        let mut view = AgentView::default();
        view.models.insert(ModelTask::Tts, "p/m".into());
        let c = o.agent_config(&metadata, &view);
        assert_eq!(c.stt_config_key.as_deref(), Some("s1"));
        assert_eq!(c.llm_config_key.as_deref(), Some("l2"));
        assert_eq!(c.tts_config_key.as_deref(), Some("p/m"));
        assert_eq!(c.business_type.as_deref(), Some("clinic"));
        assert_eq!(c.language.as_deref(), Some("english"));
    }

    #[test]
    fn without_a_configuration_all_is_null_except_the_models_in_use() {
        let mut view = AgentView::default();
        view.models.insert(ModelTask::Llm, "openai/gpt".into());
        let c = Outcome::default().agent_config(&[], &view);
        assert_eq!(c.llm_config_key.as_deref(), Some("openai/gpt"));
        assert_eq!((c.stt_config_key, c.language, c.business_type), (None, None, None));
    }

    #[test]
    fn outcomes_are_merged_key_by_key() {
        let mut o = Outcome::default();
        let rate = |r| OutcomesPatch { completion_rate: Some(r), ..Default::default() };
        o.outcomes(Source::Message, OutcomesPatch { successful: Some(true), ..rate(0.5) });
        o.outcomes(Source::Message, rate(0.75));
        let b = o.build(&[], &["hi", "bye"], None, &[]);
        assert_eq!((b.completion_rate, b.successful), (0.75, Some(true)));
        assert_eq!(b.final_stage.as_deref(), Some("bye"));
        assert_eq!(b.notes, None);
        let b = o.build(&[], &[], None, &["We were away.".into()]);
        assert_eq!(b.notes.as_deref(), Some("We were away."));
    }

    #[test]
    fn rate_and_success_follow_from_the_profile_unless_the_agent_publishes_them() {
        let profile = Profile {
            required_fields: vec!["name".into(), "time".into()],
            success: Success { stages: vec!["done".into()], completion_rate: Some(0.5) },
            ..Profile::default()
        };
        let outcome = |fields: Option<&[&str]>, rate, successful| {
            let mut o = Outcome::default();
            let fields_collected =
                fields.map(|f| f.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
            let patch = OutcomesPatch {
                completion_rate: rate,
                fields_collected,
                successful,
                ..OutcomesPatch::default()
            };
            o.outcomes(Source::Message, patch);
            o
        };
        let one: Option<&[&str]> = Some(&["name"]);
        for (o, entered, rate, successful) in [
            (outcome(one, None, None), vec!["done"], 0.5, Some(true)),
            (outcome(one, None, None), vec![], 0.5, Some(false)),
            (outcome(None, None, None), vec!["done"], 0.0, Some(false)),
            (outcome(one, Some(0.9), Some(false)), vec!["done"], 0.9, Some(false)),
            (outcome(None, None, None), vec![], 0.0, None),
        ] {
            let b = o.build(&[], &entered, Some(&profile), &[]);
            assert_eq!((b.completion_rate, b.successful), (rate, successful), "{entered:?} {o:?}");
        }
        let b = outcome(one, None, None).build(&[], &["done"], None, &[]);
        assert_eq!((b.completion_rate, b.successful), (0.0, None), "no profile, no rule");
    }
}
