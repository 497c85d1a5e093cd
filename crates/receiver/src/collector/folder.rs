//! Recordings as files in a folder. A file appears under its name when all of it is on disk.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncWriteExt, BufWriter},
};

/// Of a file that is being written.
const UNFINISHED: &str = "part";

#[derive(Clone, Debug)]
pub(crate) struct Folder {
    folder: PathBuf,
}

/// A file that is being written. Dropped before its end it is removed.
pub(super) struct Draft {
    file: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    folder: PathBuf,
    finished: bool,
}

impl Folder {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) async fn begin(&self, name: &str) -> io::Result<Draft> {
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        builder.mode(0o700);
        builder.create(folder).await?;
        let part = path.with_extension(UNFINISHED);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        options.mode(0o600);
        let file = BufWriter::with_capacity(256 * 1024, options.open(&part).await?);
        Ok(Draft { file, part, path, folder: self.folder.clone(), finished: false })
    }

    pub(super) async fn open(&self, name: &str) -> io::Result<(File, u64)> {
        let file = File::open(self.folder.join(name)).await?;
        let size = file.metadata().await?.len();
        Ok((file, size))
    }

    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name)).await
    }

    /// Names of files that are at least `age` old. What broken uploads left is removed if it is as old.
    pub(super) async fn old(&self, age: Duration) -> io::Result<Vec<String>> {
        let mut names = vec![];
        let mut days = match fs::read_dir(&self.folder).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(names),
            days => days?,
        };
        while let Some(day) = days.next_entry().await? {
            if !day.file_type().await?.is_dir() {
                continue;
            }
            let mut files = fs::read_dir(day.path()).await?;
            while let Some(file) = files.next_entry().await? {
                let written = file.metadata().await?.modified()?;
                if SystemTime::now().duration_since(written).unwrap_or_default() < age {
                    continue;
                }
                let path = file.path();
                match path.extension() {
                    Some(end) if end == UNFINISHED => fs::remove_file(path).await?,
                    _ => names.extend(self.name(&path)),
                }
            }
        }
        Ok(names)
    }

    fn name(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(&self.folder).ok()?.to_str()?.to_owned())
    }
}

impl Draft {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    /// When it returns, content and name are on disk.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        fs::rename(&self.part, &self.path).await?;
        self.finished = true;
        for folder in [self.path.parent(), Some(&*self.folder), self.folder.parent()] {
            if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
                File::open(folder).await?.sync_all().await?;
            }
        }
        Ok(())
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
        let home = tempfile::TempDir::new().unwrap();
        let folder = Folder::new(home.path().join("recordings"));
        let mut draft = folder.begin("day/a.ogg").await.unwrap();
        draft.write(b"some").await.unwrap();
        let part = draft.part.clone();
        assert!(part.exists());
        drop(draft);
        assert!(!part.exists());
        let mut draft = folder.begin("day/a.ogg").await.unwrap();
        draft.write(b"all").await.unwrap();
        assert!(folder.open("day/a.ogg").await.is_err());
        draft.finish().await.unwrap();
        assert_eq!(folder.open("day/a.ogg").await.unwrap().1, 3);
        folder.remove("day/a.ogg").await.unwrap();
        assert!(folder.open("day/a.ogg").await.is_err());
    }
}
