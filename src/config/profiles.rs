//! Reads business profiles: `config/profiles/<business_type>.toml`. Mistakes are reported with file, line
//! and reason, before anything starts.

use std::{collections::BTreeSet, path::Path};

use call::profile::{Profile, Profiles, Success};
use serde::Deserialize;
use toml::Spanned;

use super::file::line_of;

/// Bytes of a name, as with names that agents publish.
const MAX_NAME: usize = 128;
/// Fields and stages: as many as a record can hold.
const MAX_FIELDS: usize = 64;
const MAX_STAGES: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    stages: Vec<Spanned<String>>,
    #[serde(default)]
    required_fields: Vec<Spanned<String>>,
    #[serde(default)]
    success: FileSuccess,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSuccess {
    #[serde(default)]
    stages: Vec<Spanned<String>>,
    completion_rate: Option<Spanned<f64>>,
}

/// All profiles of a folder; empty if the folder does not exist. Mistakes are added to `errors`.
pub(super) fn read(dir: &Path, errors: &mut Vec<String>) -> Profiles {
    let mut profiles = Profiles::new();
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return profiles,
        Err(e) => {
            errors.push(format!("{}: {e}", dir.display()));
            return profiles;
        }
    };
    let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "toml")) {
        let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        if name.is_empty() || name != name.trim().to_lowercase() {
            errors.push(format!(
                "{}: the file's name is the business_type, in lower case",
                path.display()
            ));
            continue;
        }
        match std::fs::read_to_string(path) {
            Err(e) => errors.push(format!("{}: {e}", path.display())),
            Ok(text) => match profile(&text) {
                Ok(profile) => {
                    profiles.insert(name.to_owned(), profile);
                }
                Err(wrong) => errors.extend(
                    wrong.iter().map(|(line, why)| format!("{}:{line}: {why}", path.display())),
                ),
            },
        }
    }
    profiles
}

/// # Errors
/// All mistakes, each with its line.
fn profile(text: &str) -> Result<Profile, Vec<(usize, String)>> {
    let file: File = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |s| line_of(text, s.start));
        vec![(line, e.message().to_owned())]
    })?;
    let mut wrong = vec![];
    let mut names = |what: &str, most: usize, list: Vec<Spanned<String>>| {
        let mut seen = BTreeSet::new();
        for name in &list {
            let (line, n) = (line_of(text, name.span().start), name.get_ref());
            if n.trim().is_empty() || n.len() > MAX_NAME {
                wrong.push((line, format!("{what}: a name must have 1 to {MAX_NAME} bytes")));
            } else if !seen.insert(n.clone()) {
                wrong.push((line, format!("{what}: {n} stands twice")));
            }
        }
        if let Some(name) = list.get(most) {
            let line = line_of(text, name.span().start);
            wrong.push((line, format!("{what}: more than {most}")));
        }
        list
    };
    let stages = names("stages", MAX_STAGES, file.stages);
    let required = names("required_fields", MAX_FIELDS, file.required_fields);
    let reached = names("success.stages", MAX_STAGES, file.success.stages);
    for stage in reached.iter().filter(|s| !stages.iter().any(|t| t.get_ref() == s.get_ref())) {
        let line = line_of(text, stage.span().start);
        wrong.push((line, format!("success.stages: {} is not in stages", stage.get_ref())));
    }
    if let Some(rate) = &file.success.completion_rate
        && !(0.0..=1.0).contains(rate.get_ref())
    {
        let line = line_of(text, rate.span().start);
        wrong.push((line, "success.completion_rate must be from 0 to 1".into()));
    }
    if !wrong.is_empty() {
        wrong.sort();
        return Err(wrong);
    }
    let plain = |l: Vec<Spanned<String>>| l.into_iter().map(Spanned::into_inner).collect();
    Ok(Profile {
        stages: plain(stages),
        required_fields: plain(required),
        success: Success {
            stages: plain(reached),
            completion_rate: file.success.completion_rate.map(Spanned::into_inner),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_reported_with_their_lines() {
        let text = "stages = [\"a\",\n \"a\"]\nrequired_fields = [\"\"]\n[success]\n\
            stages = [\"b\"]\ncompletion_rate = 2.0\n";
        let wrong = profile(text).unwrap_err();
        let lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 5, 6], "{wrong:?}");
        for (text, line) in [("stage = []", 1), ("\nstages = 3", 2), ("[success]\nwhen = 1", 2)] {
            let wrong = profile(text).unwrap_err();
            assert_eq!(wrong.first().map(|(line, _)| *line), Some(line), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn the_shipped_profiles_are_valid() {
        let mut errors = vec![];
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/profiles");
        let all = read(&dir, &mut errors);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(all.keys().collect::<Vec<_>>(), ["clinic", "restaurant", "support"]);
        assert_eq!(all["restaurant"].required_fields, ["name", "phone", "time", "party_size"]);
    }

    #[test]
    fn a_missing_folder_holds_no_profiles() {
        let mut errors = vec![];
        assert!(read(Path::new("/nowhere/at/all"), &mut errors).is_empty() && errors.is_empty());
    }
}
