//! Recordings are files beside the database.
//!
//! A file appears under its name when all of it is on disk. Names are made here: nothing that an agent sends is part of
//! one.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use record::Moment;
use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncWriteExt, BufWriter},
};
use uuid::Uuid;

/// Of a file that is being written.
const UNFINISHED: &str = "part";
/// Longer than any upload takes.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: PathBuf,
}

/// A file that is being written. Dropped before its end it is removed.
pub(super) struct Draft {
    file: BufWriter<File>,
    part: PathBuf,
    folder: PathBuf,
    name: String,
    finished: bool,
}

impl Files {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Begins a file in the folder of a day.
    pub(super) async fn begin(&self, at: Moment, end: &'static str) -> io::Result<Draft> {
        let day: String = at.to_rfc3339().chars().take(10).collect();
        let folder = self.folder.join(&day);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        builder.mode(0o700);
        builder.create(&folder).await?;
        let name = format!("{day}/{}.{end}", Uuid::new_v4());
        let part = self.folder.join(&name).with_extension(UNFINISHED);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = BufWriter::with_capacity(256 * 1024, options.open(&part).await?);
        Ok(Draft { file, part, folder: self.folder.clone(), name, finished: false })
    }

    pub(super) async fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path(name)?).await
    }

    /// A file that is not there any more is no error.
    pub(crate) async fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)?).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Names of files that were written so long ago that no upload of them is going on, and what uploads left.
    pub(crate) async fn old(&self) -> io::Result<(Vec<String>, Vec<PathBuf>)> {
        let (mut names, mut parts) = (vec![], vec![]);
        let mut days = match fs::read_dir(&self.folder).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok((names, parts)),
            days => days?,
        };
        while let Some(day) = days.next_entry().await? {
            if !day.file_type().await?.is_dir() {
                continue;
            }
            let mut files = fs::read_dir(day.path()).await?;
            while let Some(file) = files.next_entry().await? {
                let written = file.metadata().await?.modified()?;
                if SystemTime::now().duration_since(written).unwrap_or_default() < OLD {
                    continue;
                }
                let path = file.path();
                match path.extension() {
                    Some(end) if end == UNFINISHED => parts.push(path),
                    _ => names.extend(self.name(&path)),
                }
            }
        }
        Ok((names, parts))
    }

    fn name(&self, path: &Path) -> Option<String> {
        let name = path.strip_prefix(&self.folder).ok()?.to_str()?;
        self.path(name).ok()?;
        Some(name.to_owned())
    }

    /// Only names that are made here lead to a file, whatever a database says.
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = |part: &str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
            !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain)
        };
        match name.split_once('/') {
            Some((day, file)) if plain(day) && plain(file) => Ok(self.folder.join(name)),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "no name of a recording")),
        }
    }
}

impl Draft {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    /// Returns the name of the file. Content and name are on disk.
    pub(super) async fn finish(mut self) -> io::Result<String> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let path = self.folder.join(&self.name);
        fs::rename(&self.part, &path).await?;
        self.finished = true;
        for folder in [path.parent(), Some(&*self.folder), self.folder.parent()] {
            if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
                File::open(folder).await?.sync_all().await?;
            }
        }
        Ok(std::mem::take(&mut self.name))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::TempDir::new().unwrap();
        let files = Files::new(folder.path().join("recordings"));
        let mut draft = files.begin(Moment::from_millis(0), "ogg").await.unwrap();
        draft.write(b"some").await.unwrap();
        let part = draft.part.clone();
        assert!(part.exists());
        drop(draft);
        assert!(!part.exists());
        let mut draft = files.begin(Moment::from_millis(0), "ogg").await.unwrap();
        draft.write(b"all").await.unwrap();
        let name = draft.finish().await.unwrap();
        assert!(name.starts_with("1970-01-01/"), "{name}");
        assert_eq!(std::fs::read(folder.path().join("recordings").join(&name)).unwrap(), b"all");
        files.remove(&name).await.unwrap();
        files.remove(&name).await.unwrap();
        assert!(files.open(&name).await.is_err());
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let files = Files::new("/data".into());
        for name in
            ["../x", "a/../x", "/etc/passwd", "a/b/c", "a/.part", "", "a", "a/", "..", "a/b\0"]
        {
            assert!(files.path(name).is_err(), "{name}");
        }
        assert!(files.path("2026-11-27/0f8fad5b-d9cb-469f-a165-70867728950e.ogg").is_ok());
    }
}
