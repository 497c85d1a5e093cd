//! Recordings in a bucket of S3, or of what speaks like it. Access is that of the environment (`AWS_…`).

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::body::Body;
use futures_util::TryStreamExt;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, buffered::BufWriter,
    path::Path, prefix::PrefixStore,
};
use tokio::io::AsyncWriteExt;

/// Bytes of a part: the least that S3 takes. Smaller recordings are one object at once.
const PART: usize = 5 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(crate) struct Bucket(Arc<dyn ObjectStore>);

/// It appears when it is finished. Parts of one that was not are the store's to clear: a rule of its lifecycle does.
pub(super) struct Draft(BufWriter);

impl Bucket {
    /// `url` is `s3://bucket/prefix`.
    pub(super) fn new(url: &str) -> io::Result<Self> {
        let (bucket, prefix) = url
            .strip_prefix("s3://")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
            .ok_or_else(|| io::Error::other("no s3:// URL"))?;
        let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build()?;
        Ok(Self(Arc::new(PrefixStore::new(store, prefix.trim_matches('/')))))
    }

    pub(super) fn begin(&self, name: &str) -> Draft {
        Draft(BufWriter::with_capacity(self.0.clone(), Path::from(name), PART))
    }

    pub(super) async fn size(&self, name: &str) -> io::Result<u64> {
        Ok(self.0.head(&Path::from(name)).await?.size)
    }

    pub(super) async fn part(&self, name: &str, from: u64, length: u64) -> io::Result<Body> {
        let mut options = GetOptions::default();
        if length > 0 {
            options.range = Some(GetRange::Bounded(from..from + length));
        }
        let found = self.0.get_opts(&Path::from(name), options).await?;
        Ok(Body::from_stream(found.into_stream()))
    }

    pub(super) async fn remove(&self, name: &str) -> io::Result<()> {
        Ok(self.0.delete(&Path::from(name)).await?)
    }

    /// Names of objects that are at least `age` old.
    pub(super) async fn old(&self, age: Duration) -> io::Result<Vec<String>> {
        let all: Vec<_> = self.0.list(None).try_collect().await?;
        let is_old = |written: SystemTime| {
            SystemTime::now().duration_since(written).is_ok_and(|since| since >= age)
        };
        let old = all.into_iter().filter(|object| is_old(object.last_modified.into()));
        Ok(old.map(|object| object.location.to_string()).collect())
    }
}

impl Draft {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
