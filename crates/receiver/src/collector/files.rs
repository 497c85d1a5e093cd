//! Where recordings are: in a folder beside the database, or in a bucket of an object store.
//!
//! Names are made here: nothing that an agent sends is part of one.

#[cfg(feature = "s3")]
use super::bucket::{self, Bucket};
use std::{
    io::{self, ErrorKind, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use axum::body::Body;
use record::Moment;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::folder::{self, Folder};

/// Longer than any upload takes.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// Where recordings are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recordings {
    Folder(PathBuf),
    /// `s3://bucket/prefix`
    Bucket(String),
}

impl Recordings {
    /// # Errors
    /// If it names a store that this build does not know.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.split_once("://") {
            None => Ok(Self::Folder(text.into())),
            Some(("s3", _)) if cfg!(feature = "s3") => Ok(Self::Bucket(text.to_owned())),
            Some(("s3", _)) => Err("names a bucket, and this build has not the feature s3"),
            Some(_) => Err("must be a folder, or s3://bucket/prefix"),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Files {
    Folder(Folder),
    #[cfg(feature = "s3")]
    Bucket(Bucket),
}

/// A recording that is being written. Dropped before its end it is removed.
pub(super) struct Draft {
    name: String,
    to: To,
}

enum To {
    Folder(folder::Draft),
    #[cfg(feature = "s3")]
    Bucket(bucket::Draft),
}

/// A recording that can be read.
pub(super) struct Opened {
    pub(super) size: u64,
    from: From,
}

enum From {
    Folder(tokio::fs::File),
    #[cfg(feature = "s3")]
    Bucket(Bucket, String),
}

impl Files {
    /// # Errors
    /// If the place cannot be one.
    pub(crate) fn new(place: &Recordings) -> io::Result<Self> {
        match place {
            Recordings::Folder(folder) => Ok(Self::Folder(Folder::new(folder.clone()))),
            #[cfg(feature = "s3")]
            Recordings::Bucket(url) => Ok(Self::Bucket(Bucket::new(url)?)),
            #[cfg(not(feature = "s3"))]
            Recordings::Bucket(_) => Err(io::Error::other("this build has not the feature s3")),
        }
    }

    /// Begins a recording among those of a day.
    pub(super) async fn begin(&self, at: Moment, end: &'static str) -> io::Result<Draft> {
        let day: String = at.to_rfc3339().chars().take(10).collect();
        let name = format!("{day}/{}.{end}", Uuid::new_v4());
        let to = match self {
            Self::Folder(folder) => To::Folder(folder.begin(&name).await?),
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => To::Bucket(bucket.begin(&name)),
        };
        Ok(Draft { name, to })
    }

    pub(super) async fn open(&self, name: &str) -> io::Result<Opened> {
        check(name)?;
        match self {
            Self::Folder(folder) => {
                let (file, size) = folder.open(name).await?;
                Ok(Opened { size, from: From::Folder(file) })
            }
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => {
                let size = bucket.size(name).await?;
                Ok(Opened { size, from: From::Bucket(bucket.clone(), name.to_owned()) })
            }
        }
    }

    /// A recording that is not there any more is no error.
    pub(crate) async fn remove(&self, name: &str) -> io::Result<()> {
        check(name)?;
        let removed = match self {
            Self::Folder(folder) => folder.remove(name).await,
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => bucket.remove(name).await,
        };
        match removed {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Names of recordings that are older than any upload that is going on.
    pub(crate) async fn old(&self) -> io::Result<Vec<String>> {
        let mut names = match self {
            Self::Folder(folder) => folder.old(OLD).await?,
            #[cfg(feature = "s3")]
            Self::Bucket(bucket) => bucket.old(OLD).await?,
        };
        // What is not ours stays.
        names.retain(|name| check(name).is_ok());
        Ok(names)
    }
}

impl Draft {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.to {
            To::Folder(draft) => draft.write(bytes).await,
            #[cfg(feature = "s3")]
            To::Bucket(draft) => draft.write(bytes).await,
        }
    }

    /// Returns the name of the recording. When it returns, all of it is kept.
    pub(super) async fn finish(self) -> io::Result<String> {
        match self.to {
            To::Folder(draft) => draft.finish().await?,
            #[cfg(feature = "s3")]
            To::Bucket(draft) => draft.finish().await?,
        }
        Ok(self.name)
    }
}

impl Opened {
    /// So many bytes of it, from a position on.
    pub(super) async fn part(self, from: u64, length: u64) -> io::Result<Body> {
        match self.from {
            From::Folder(mut file) => {
                file.seek(SeekFrom::Start(from)).await?;
                Ok(Body::from_stream(ReaderStream::with_capacity(file.take(length), CHUNK)))
            }
            #[cfg(feature = "s3")]
            From::Bucket(bucket, name) => bucket.part(&name, from, length).await,
        }
    }
}

/// Only names that are made here lead to a file, whatever a database says.
fn check(name: &str) -> io::Result<()> {
    let plain = |part: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_plain)
    };
    match name.split_once('/') {
        Some((day, file)) if plain(day) && plain(file) => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidInput, "no name of a recording")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in
            ["../x", "a/../x", "/etc/passwd", "a/b/c", "a/.part", "", "a", "a/", "..", "a/b\0"]
        {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check("2026-11-27/0f8fad5b-d9cb-469f-a165-70867728950e.ogg").is_ok());
    }

    #[test]
    fn a_bucket_needs_a_build_that_knows_it() {
        assert_eq!(Recordings::parse("data/x"), Ok(Recordings::Folder("data/x".into())));
        assert_eq!(Recordings::parse("s3://bucket/prefix").is_ok(), cfg!(feature = "s3"));
        assert!(Recordings::parse("gs://bucket").is_err());
    }
}
