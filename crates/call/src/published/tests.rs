use super::*;

fn message(text: &str) -> (Option<Published>, Vec<Problem>) {
    let mut problems = vec![];
    let p = Reader { problems: &mut problems }.message(text);
    (p, problems)
}

#[test]
fn messages_are_read_and_their_problems_are_reported() {
    let stage = |s: &str, at| Published::Stage { stage: s.into(), at };
    for (text, expected, problem) in [
        (r#"{"type":"stage","stage":"greeting"}"#, Some(stage("greeting", None)), None),
        (
            r#"{"type":"stage","stage":"a","timestamp":"2023-09-20T14:30:10.500Z"}"#,
            Some(stage("a", Some(Moment::from_millis(1_695_220_210_500)))),
            None,
        ),
        (
            r#"{"type":"stage","stage":"a","timestamp":"yesterday"}"#,
            Some(stage("a", None)),
            Some(Problem::WrongValue),
        ),
        (r#"{"type":"stage"}"#, None, Some(Problem::WrongValue)),
        (r#"{"type":"stage","stage":7}"#, None, Some(Problem::WrongValue)),
        (r#"{"type":"dance"}"#, None, Some(Problem::UnknownType)),
        (r#"{"stage":"x"}"#, None, Some(Problem::UnknownType)),
        ("[1]", None, Some(Problem::NotAnObject)),
        ("{", None, Some(Problem::NotJson)),
        ("", None, Some(Problem::NotJson)),
        (
            r#"{"type":"end","status":"completed","termination_reason":"transferred"}"#,
            Some(Published::End {
                status: Some(Status::Completed),
                reason: Some("transferred".into()),
            }),
            None,
        ),
        (
            r#"{"type":"end","status":"splendid"}"#,
            Some(Published::End { status: None, reason: None }),
            Some(Problem::WrongValue),
        ),
    ] {
        let (p, problems) = message(text);
        assert_eq!(p, expected, "{text}");
        assert!(problem.iter().all(|x| problems.contains(x)), "{text}: {problems:?}");
        assert_eq!(problems.is_empty(), problem.is_none(), "{text}: {problems:?}");
    }
}

#[test]
fn a_nested_object_takes_precedence_over_the_keys_beside_it() {
    let config = |stt: &str, language: &str| {
        Some(Published::Config(ConfigPatch {
            stt: Some(stt.into()),
            language: Some(language.into()),
            ..Default::default()
        }))
    };
    let outcomes = |rate, notes: &str| {
        Some(Published::Outcomes(OutcomesPatch {
            completion_rate: Some(rate),
            notes: Some(notes.into()),
            ..Default::default()
        }))
    };
    let end = |status, reason: &str| Some(Published::End { status, reason: Some(reason.into()) });
    let failed = Some(Status::Failed);
    for (text, expected, problem) in [
        (
            r#"{"type":"agent_config","agent_config":{"stt_config_key":"a","language":"x"}}"#,
            config("a", "x"),
            None,
        ),
        (
            r#"{"type":"agent_config","stt_config_key":"b","language":"y",
               "agent_config":{"stt_config_key":"a","language":null}}"#,
            config("a", "y"),
            None,
        ),
        (
            r#"{"type":"outcomes","outcomes":{"completion_rate":0.5,"notes":"n"}}"#,
            outcomes(0.5, "n"),
            None,
        ),
        (
            r#"{"type":"outcomes","outcomes":{"completion_rate":7},"completion_rate":0.5,
               "notes":"n"}"#,
            outcomes(0.5, "n"),
            Some(Problem::WrongValue),
        ),
        (
            r#"{"type":"outcomes","outcomes":"good","completion_rate":0.5,"notes":"n"}"#,
            outcomes(0.5, "n"),
            Some(Problem::WrongValue),
        ),
        (
            r#"{"type":"outcomes","outcomes":null,"completion_rate":0.5,"notes":"n"}"#,
            outcomes(0.5, "n"),
            None,
        ),
        (
            r#"{"type":"end","end":{"status":"failed","termination_reason":"spam"}}"#,
            end(failed, "spam"),
            None,
        ),
        (
            r#"{"type":"end","status":"completed","termination_reason":"beside",
               "end":{"status":"failed"}}"#,
            end(failed, "beside"),
            None,
        ),
    ] {
        let (p, problems) = message(text);
        assert_eq!(p, expected, "{text}");
        assert_eq!(problems, problem.into_iter().collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn the_value_of_an_attribute_may_be_nested_too() {
    let read = |key: &str, value: &str| {
        let mut problems = vec![];
        let p = Reader { problems: &mut problems }.attribute(key, value);
        assert!(problems.is_empty(), "{value}: {problems:?}");
        p
    };
    let nested = read(ATTRIBUTE_CONFIG, r#"{"agent_config":{"llm_config_key":"a"}}"#);
    assert_eq!(nested, read(ATTRIBUTE_CONFIG, r#"{"llm_config_key":"a"}"#));
    let nested = read(ATTRIBUTE_OUTCOMES, r#"{"outcomes":{"successful":true}}"#);
    assert_eq!(nested, read(ATTRIBUTE_OUTCOMES, r#"{"successful":true}"#));
    let expected = OutcomesPatch { successful: Some(true), ..Default::default() };
    assert_eq!(nested, Some(Published::Outcomes(expected)));
}

#[test]
fn a_wrong_value_does_not_affect_the_other_keys() {
    let (p, problems) = message(
        r#"{"type":"outcomes","completion_rate":1.5,"successful":"yes","final_stage":"done",
           "fields_collected":["name",3,"name","phone"],"notes":null}"#,
    );
    assert_eq!(
        p,
        Some(Published::Outcomes(OutcomesPatch {
            final_stage: Some("done".into()),
            fields_collected: Some(vec!["name".into(), "phone".into()]),
            ..Default::default()
        }))
    );
    assert_eq!(problems, [Problem::WrongValue; 3]);
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let (p, problems) =
        message(&format!(r#"{{"type":"stage","stage":"{}"}}"#, "ä".repeat(MAX_NAME)));
    let Some(Published::Stage { stage, .. }) = p else { panic!("no stage") };
    assert_eq!(stage, "ä".repeat(MAX_NAME / 2));
    assert_eq!(problems, [Problem::Truncated]);
}
