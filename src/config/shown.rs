//! `call-history config`: the settings as an operator sees them, each with the place it came from.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use super::{
    Config, ConfigErrors, DotEnv, EXIT_CONFIG, SettingsReader, Source,
    settings::{SETTINGS, Setting, Shown},
};
use crate::commands::print_error;

/// Variables that are no settings of ours, but change what the worker does. Only the environment has them.
const VARIABLES: &[(&str, Shown)] = &[
    ("RUST_LOG", Shown::Whole),
    ("HTTPS_PROXY", Shown::Host),
    ("https_proxy", Shown::Host),
    ("HTTP_PROXY", Shown::Host),
    ("http_proxy", Shown::Host),
    ("ALL_PROXY", Shown::Host),
    ("all_proxy", Shown::Host),
    ("NO_PROXY", Shown::Whole),
    ("no_proxy", Shown::Whole),
    ("SSL_CERT_FILE", Shown::Whole),
    ("SSL_CERT_DIR", Shown::Whole),
    #[cfg(feature = "otlp")]
    ("OTEL_EXPORTER_OTLP_ENDPOINT", Shown::Host),
    #[cfg(feature = "otlp")]
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", Shown::Host),
    #[cfg(feature = "otlp")]
    ("OTEL_EXPORTER_OTLP_HEADERS", Shown::Hidden),
    #[cfg(feature = "otlp")]
    ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", Shown::Hidden),
    #[cfg(feature = "otlp")]
    ("OTEL_SERVICE_NAME", Shown::Whole),
    #[cfg(feature = "s3")]
    ("AWS_ACCESS_KEY_ID", Shown::Hidden),
    #[cfg(feature = "s3")]
    ("AWS_SECRET_ACCESS_KEY", Shown::Hidden),
    #[cfg(feature = "s3")]
    ("AWS_SESSION_TOKEN", Shown::Hidden),
    #[cfg(feature = "s3")]
    ("AWS_REGION", Shown::Whole),
    #[cfg(feature = "s3")]
    ("AWS_ENDPOINT", Shown::Host),
    #[cfg(feature = "s3")]
    ("AWS_ENDPOINT_URL", Shown::Host),
    #[cfg(feature = "s3")]
    ("AWS_DEFAULT_REGION", Shown::Whole),
    #[cfg(feature = "s3")]
    ("AWS_ALLOW_HTTP", Shown::Whole),
];

/// One line of the table.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// Without secrets; `None`: not set.
    value: Option<String>,
    from: Option<String>,
}

/// Prints every setting, or with `check` only whether all are right.
pub(crate) fn show(dot_env: &DotEnv, check: bool, json: bool) -> ExitCode {
    let source = Source::from_process(dot_env);
    let wrong = mistakes(&source);
    let mut printed = Ok(());
    if !check {
        let rows = rows(source, dot_env);
        let text = if json {
            serde_json::to_string_pretty(&rows).unwrap_or_default()
        } else {
            table(&rows)
        };
        printed = writeln!(io::stdout(), "{text}");
    }
    match (wrong, printed) {
        (Some(errors), _) => {
            print_error(&errors.to_string());
            ExitCode::from(EXIT_CONFIG)
        }
        (None, Err(_)) => ExitCode::FAILURE,
        (None, Ok(())) if check => match writeln!(io::stdout(), "all settings are right") {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        (None, Ok(())) => ExitCode::SUCCESS,
    }
}

/// What is wrong for the worker or for the receiver.
fn mistakes(source: &Source) -> Option<ConfigErrors> {
    let errors = Config::read(source.clone()).err();
    #[cfg(feature = "receiver")]
    let errors = match (errors, super::ReceiveSettings::read(source.clone()).err()) {
        (Some(mut errors), Some(others)) => {
            errors.merge(others);
            Some(errors)
        }
        (errors, others) => errors.or(others),
    };
    errors
}

fn rows(source: Source, dot_env: &DotEnv) -> Vec<Row> {
    let mut reader = SettingsReader { source, errors: vec![] };
    reader.read_files();
    let settings = SETTINGS.iter().map(|setting| {
        let found = reader.source.get(setting.name);
        Row {
            name: setting.name,
            value: found.map(|f| setting.without_secrets(f.value).into_owned()),
            from: found.map(|f| f.place.to_owned()),
        }
    });
    let variables = VARIABLES.iter().filter_map(|(name, shown)| {
        let value = std::env::var(name).ok().filter(|v| !v.is_empty())?;
        let setting = Setting::new(name, None).shown(*shown);
        // A proxy may be without a scheme.
        let value = match shown {
            Shown::Host if !value.contains("://") => format!("http://{value}"),
            _ => value,
        };
        Some(Row {
            name,
            value: Some(setting.without_secrets(&value).into_owned()),
            from: Some(dot_env.place_of(name).to_owned()),
        })
    });
    settings.chain(variables).collect()
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["setting", "value", "from"]);
    for row in rows {
        let text = |t: &Option<String>| t.clone().unwrap_or_else(|| "-".into());
        table.add_row([row.name.to_owned(), text(&row.value), text(&row.from)]);
    }
    table.to_string()
}
