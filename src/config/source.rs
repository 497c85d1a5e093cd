//! Where settings come from: collects texts by name, without parsing them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use call::profile::Profiles;

use super::{
    file, profiles,
    settings::{DATA_DIR, HTTP_ADDR, PREFIX, SETTINGS, find, twin_of},
};
use crate::net::proxy;

/// Only in the working folder: a parent folder may belong to somebody else.
const DOT_ENV: &str = ".env";

/// The variables that `.env` has set in the process's environment.
///
/// They are kept apart from the others: a message names the place of a value, and a later look at the settings
/// reads the file again.
#[derive(Clone, Debug, Default)]
pub(crate) struct DotEnv(BTreeSet<String>);

impl DotEnv {
    /// Sets the variables of `.env` that the environment does not have. The file may be missing.
    ///
    /// # Errors
    /// The first mistake in the file: nothing after it was read.
    pub(crate) fn load() -> Result<Self, String> {
        let named: BTreeSet<String> = Self::read()?.into_iter().map(|(name, _)| name).collect();
        let new = named.into_iter().filter(|name| std::env::var_os(name).is_none()).collect();
        match dotenvy::from_path(DOT_ENV) {
            Err(e) if !e.not_found() => Err(mistake(&e)),
            _ => Ok(Self(new)),
        }
    }

    /// Where the value of a variable comes from.
    pub(super) fn place_of(&self, name: &str) -> &'static str {
        if self.0.contains(name) { DOT_ENV } else { ENVIRONMENT }
    }

    /// What the file says now, without the variables that the environment had before.
    fn entries(&self) -> Result<Vec<(String, String)>, String> {
        let mut entries = Self::read()?;
        entries.retain(|(name, _)| self.0.contains(name) || std::env::var_os(name).is_none());
        Ok(entries)
    }

    fn read() -> Result<Vec<(String, String)>, String> {
        match dotenvy::from_path_iter(DOT_ENV).and_then(Iterator::collect) {
            Ok(entries) => Ok(entries),
            Err(e) if e.not_found() => Ok(vec![]),
            Err(e) => Err(mistake(&e)),
        }
    }
}

/// What is wrong with `.env`, without the line: it may hold a secret.
fn mistake(e: &dotenvy::Error) -> String {
    let dotenvy::Error::LineParse(wrong, _) = e else {
        return format!("{DOT_ENV} is not right: {e}");
    };
    let text = std::fs::read_to_string(DOT_ENV).unwrap_or_default();
    let line = text.lines().position(|line| line.contains(wrong.trim()));
    let line = line.map_or("a line".into(), |n| format!("line {}", n + 1));
    format!(
        "{DOT_ENV} is not right: {line} is not like NAME=value; a value with blanks needs quotation \
         marks"
    )
}

/// Where values come from that no file names.
pub(super) const ENVIRONMENT: &str = "the environment";
const DEFAULT: &str = "the default";

/// A value and the place where it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) value: &'a str,
    pub(super) place: &'a str,
}

/// The values of all settings: name → value, and the place where it was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(super) values: BTreeMap<String, (String, String)>,
    pub(super) profiles: Profiles,
    /// LIVEKIT_AGENT_NAME, under which LiveKit's voice agents register.
    pub(super) voice_agent: Option<String>,
    pub(super) errors: Vec<String>,
}

impl Source {
    /// The process's environment over `.env` over the files in `config/`.
    pub(crate) fn from_process(dot_env: &DotEnv) -> Self {
        let mut source = Self::default();
        for name in ["default.toml", "local.toml"] {
            source.file(&Path::new("config").join(name));
        }
        source.profiles = profiles::read(Path::new("config/profiles"), &mut source.errors);
        match dot_env.entries() {
            Ok(entries) => source.environment(entries.into_iter(), DOT_ENV),
            Err(e) => source.errors.push(e),
        }
        // A variable that is not Unicode cannot be a setting of ours.
        let vars = std::env::vars_os();
        let vars = vars.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        source.environment(vars.filter(|(name, _)| !dot_env.0.contains(name)), ENVIRONMENT);
        source.voice_agent = std::env::var("LIVEKIT_AGENT_NAME").ok();
        source.errors.extend(proxy::mistakes());
        source
    }

    /// The data folder alone: for commands that need nothing else.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.get(DATA_DIR).map(|found| found.value.into()).unwrap_or_default()
    }

    /// The address of the HTTP port; `None`: there is none.
    ///
    /// # Errors
    /// If it is no address.
    pub(crate) fn http_addr(&self) -> Result<Option<SocketAddr>, String> {
        let Some(Found { value, place }) = self.get(HTTP_ADDR) else { return Ok(None) };
        match value {
            "off" => Ok(None),
            addr => addr.parse().map(Some).map_err(|_| {
                format!("{HTTP_ADDR} (from {place}) must be an address like 0.0.0.0:8081, or off")
            }),
        }
    }

    /// The value of a setting, or its default.
    pub(super) fn get(&self, name: &str) -> Option<Found<'_>> {
        let setting = SETTINGS.iter().find(|s| s.name == name)?;
        let set = self.values.get(name).or_else(|| self.values.get(setting.alias?));
        let set = set.map(|(value, place)| Found { value, place });
        set.or_else(|| Some(Found { value: setting.default?, place: DEFAULT }))
    }

    /// Later calls win over earlier ones. An empty value counts as unset.
    pub(super) fn environment(
        &mut self,
        vars: impl Iterator<Item = (String, String)>,
        place: &str,
    ) {
        let vars: Vec<(String, String)> = vars.collect();
        let set = vars.iter().filter(|(_, value)| !value.is_empty());
        self.forget_twins(set.map(|(name, _)| name.as_str()));
        for (name, value) in vars {
            if let Some(setting) = find(&name) {
                let place = match setting.alias {
                    Some(alias) if alias == name => format!("{place}, as {alias}"),
                    _ => place.into(),
                };
                if !value.is_empty() {
                    self.values.insert(name, (value, place));
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
                Some(of) => self.values.remove(of.name),
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
                    if find(&name).is_some() {
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
    let names = SETTINGS.iter().map(|s| s.name);
    let close = names.map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match close {
        Some((distance, known)) if distance <= name.len() / 3 => {
            format!(" (did you mean {known}?)")
        }
        _ => String::new(),
    }
}
