//! Faults of the machine under a worker: a disk that hangs or is full, a clock that is wrong, a host with
//! several addresses.
//!
//! In: what fails, and when. Out: environment variables for a worker's start. They load a small C
//! library (`faults.c`) before the C library. It checks for two mark files in a folder of ours. Only
//! files of the worker's data folder are affected. Linux only; `cc` must be installed.

use std::{fs, io, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

const SOURCE: &str = include_str!("faults.c");

/// The faults of one worker, or of several that share them. They end when this is dropped, since the
/// folder with the marks goes with it.
pub struct Faults {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Faults {
    /// Starts without any fault. Compiles the library, which takes a fraction of a second.
    ///
    /// # Errors
    /// If the library cannot be compiled.
    pub fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        let (source, library) = (dir.path().join("faults.c"), dir.path().join("faults.so"));
        fs::write(&source, SOURCE)?;
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
        let out = cc.output().context("faults need a C compiler, cc")?;
        if !out.status.success() {
            bail!("faults.c cannot be compiled: {}", String::from_utf8_lossy(&out.stderr));
        }
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let env = vec![
            ("LD_PRELOAD".to_owned(), text(library)),
            ("FAULTS_DIR".to_owned(), text(dir.path().to_owned())),
        ];
        Ok(Self { dir, env })
    }

    /// Sets the worker's wall clock ahead of the machine's by this much, or behind it if negative.
    #[must_use]
    pub fn with_clock_ahead(mut self, ms: i64) -> Self {
        self.env.push(("FAULTS_CLOCK_MS".to_owned(), ms.to_string()));
        self
    }

    /// Gives a host these addresses, in their order.
    #[must_use]
    pub fn with_host(mut self, name: &str, addresses: &[&str]) -> Self {
        self.env.push(("FAULTS_HOST".to_owned(), format!("{name} {}", addresses.join(" "))));
        self
    }

    /// The environment variables for the worker's start.
    pub fn env(&self) -> Vec<(&str, &str)> {
        self.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }

    /// While on, calls that touch the data folder do not return. They go on when this is switched off.
    ///
    /// # Errors
    /// If the mark cannot be set or removed.
    pub fn hang(&self, on: bool) -> Result<()> {
        self.mark("hang", on)
    }

    /// While on, writes to the data folder fail.
    ///
    /// # Errors
    /// If the mark cannot be set or removed.
    pub fn full(&self, on: bool) -> Result<()> {
        self.mark("full", on)
    }

    fn mark(&self, name: &str, on: bool) -> Result<()> {
        let path = self.dir.path().join(name);
        if on {
            return Ok(fs::write(path, "")?);
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{
        path::Path,
        process::Stdio,
        thread,
        time::{Duration, Instant, SystemTime, UNIX_EPOCH},
    };

    use super::*;

    /// Runs this test binary again, under the faults, for the one test that does nothing by itself.
    fn under(faults: &Faults, data: &Path, what: &str) -> Command {
        let mut c = Command::new(std::env::current_exe().unwrap());
        c.args(["--exact", "faults::tests::what_a_program_does", "--nocapture"])
            .envs(faults.env())
            .env("CALL_HISTORY_DATA_DIR", data)
            .env("DO", what)
            .stdout(Stdio::piped());
        c
    }

    fn said(out: &[u8]) -> String {
        let text = String::from_utf8_lossy(out).into_owned();
        text.lines().find_map(|l| l.split_once("said: ")).unwrap().1.to_owned()
    }

    /// Run by the other tests as the program under faults. The faults work only if the standard
    /// library calls the C library's symbols.
    #[test]
    #[allow(clippy::print_stdout)]
    fn what_a_program_does() {
        let Ok(what) = std::env::var("DO") else { return };
        let data = PathBuf::from(std::env::var("CALL_HISTORY_DATA_DIR").unwrap());
        let said = match what.as_str() {
            "clock" => {
                SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().to_string()
            }
            "elsewhere" => write(&data.parent().unwrap().join("elsewhere")),
            _ => write(&data.join("file")),
        };
        println!("said: {said}");
    }

    fn write(path: &Path) -> String {
        let written = fs::File::create(path).and_then(|mut file| {
            io::Write::write_all(&mut file, b"x")?;
            file.sync_all()
        });
        written.map_or_else(|e| format!("{:?}", e.kind()), |()| "written".to_owned())
    }

    fn folder() -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        (dir, data)
    }

    #[test]
    fn a_full_disk_refuses_writes_in_the_data_folder_only() {
        let ((_dir, data), faults) = (folder(), Faults::new().unwrap());
        let done = |what| said(&under(&faults, &data, what).output().unwrap().stdout);
        assert_eq!(done("data"), "written");
        faults.full(true).unwrap();
        assert_eq!((done("data"), done("elsewhere")), ("StorageFull".into(), "written".into()));
        faults.full(false).unwrap();
        assert_eq!(done("data"), "written");
    }

    #[test]
    fn a_hanging_write_goes_on_when_the_fault_ends() {
        let ((_dir, data), faults) = (folder(), Faults::new().unwrap());
        faults.hang(true).unwrap();
        let elsewhere = under(&faults, &data, "elsewhere").output().unwrap();
        assert_eq!(said(&elsewhere.stdout), "written");
        let hanging = under(&faults, &data, "data").spawn().unwrap();
        let began = Instant::now();
        thread::sleep(Duration::from_millis(700));
        faults.hang(false).unwrap();
        assert_eq!(said(&hanging.wait_with_output().unwrap().stdout), "written");
        assert!(began.elapsed() >= Duration::from_millis(700));
    }

    #[test]
    fn a_clock_is_wrong_by_the_given_difference() {
        let (_dir, data) = folder();
        for ahead in [55_000, -600_000] {
            let faults = Faults::new().unwrap().with_clock_ahead(ahead);
            let out = under(&faults, &data, "clock").output().unwrap();
            let said: i64 = said(&out.stdout).parse().unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
            let off = said - i64::try_from(now).unwrap() - ahead;
            assert!((-10_000..=0).contains(&off), "{off} ms");
        }
    }
}
