//! Where settings come from: collects texts by name, without parsing them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use call::profile::Profiles;

use super::{DATA_DIR, KNOWN, PREFIX, file, profiles, twin_of};
use crate::net::proxy;

/// The values of all settings: name → value, and the place where it was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(super) values: BTreeMap<String, (String, String)>,
    pub(super) profiles: Profiles,
    pub(super) errors: Vec<String>,
}

impl Source {
    /// The process's environment over the files in `config/`.
    pub(crate) fn from_process() -> Self {
        let mut source = Self::default();
        for name in ["default.toml", "local.toml"] {
            source.file(&Path::new("config").join(name));
        }
        source.profiles = profiles::read(Path::new("config/profiles"), &mut source.errors);
        // A variable that is not Unicode cannot be a setting of ours.
        let vars = std::env::vars_os();
        let vars = vars.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        source.environment(vars);
        source.errors.extend(proxy::mistakes());
        source
    }

    /// The data folder alone: for commands that need nothing else.
    pub(crate) fn data_dir(&self) -> PathBuf {
        let set = self.values.get(DATA_DIR).map(|(v, _)| v.as_str());
        PathBuf::from(set.unwrap_or("data"))
    }

    /// Later calls win over earlier ones. An empty value counts as unset.
    pub(super) fn environment(&mut self, vars: impl Iterator<Item = (String, String)>) {
        let vars: Vec<(String, String)> = vars.collect();
        let set = vars.iter().filter(|(_, value)| !value.is_empty());
        self.forget_twins(set.map(|(name, _)| name.as_str()));
        for (name, value) in vars {
            if KNOWN.contains(&name.as_str()) || twin_of(&name).is_some() {
                if !value.is_empty() {
                    self.values.insert(name, (value, "the environment".into()));
                }
            } else if name.starts_with(PREFIX) && !is_kubernetes_service(&name) {
                self.errors.push(format!("{name}: unknown setting{}", did_you_mean(&name)));
            }
        }
    }

    /// A setting or its `_FILE` twin replaces both of an earlier source. Only within one source are the two a
    /// contradiction.
    fn forget_twins<'a>(&mut self, set: impl Iterator<Item = &'a str>) {
        for name in set {
            match twin_of(name) {
                Some(of) => self.values.remove(of),
                None => self.values.remove(&format!("{name}_FILE")),
            };
        }
    }

    pub(super) fn file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => return self.errors.push(format!("{}: {e}", path.display())),
        };
        match file::read(&text) {
            Err(e) => self.errors.push(format!("{}: {e}", path.display())),
            Ok(entries) => {
                let names: Vec<String> = entries.iter().map(|e| file::setting(&e.key)).collect();
                self.forget_twins(names.iter().map(String::as_str));
                for e in entries {
                    let place = format!("{}:{}", path.display(), e.line);
                    let name = file::setting(&e.key);
                    if KNOWN.contains(&name.as_str()) || twin_of(&name).is_some() {
                        self.values.insert(name, (e.value, place));
                    } else {
                        let hint = did_you_mean(&name);
                        self.errors.push(format!("{place}: unknown setting {}{hint}", e.key));
                    }
                }
            }
        }
    }
}

/// Whether Kubernetes sets this variable: it adds some for a Service named `call-history` to every pod.
fn is_kubernetes_service(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    rest == "PORT" || rest.starts_with("PORT_") || rest.starts_with("SERVICE_")
}

fn did_you_mean(name: &str) -> String {
    let close = KNOWN.iter().map(|k| (strsim::damerau_levenshtein(name, k), k)).min();
    match close {
        Some((distance, known)) if distance <= name.len() / 3 => {
            format!(" (did you mean {known}?)")
        }
        _ => String::new(),
    }
}
