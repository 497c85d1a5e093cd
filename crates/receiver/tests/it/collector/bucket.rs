//! Recordings in a bucket, on an S3 that is not ours: `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`, keys, and an empty bucket
//! `recordings` must be there, as `moto_server` from PyPI gives them.

use receiver::collector::Recordings;
use reqwest::header;

use super::{
    agents::{on, recorded},
    bad::{form, header_of},
};
use crate::rig::{Engine, Rig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3"]
async fn a_recording_is_kept_in_a_bucket() {
    let rig = Rig::with(Engine::Sqlite, |settings| {
        on(settings);
        settings.recordings = Recordings::parse("s3://recordings/some/prefix").unwrap();
    })
    .await;
    let call = recorded("py-1.8.9-sip");
    rig.replay(call).await;
    // In several parts.
    let large: Vec<u8> = (0..12_000_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    let header = header_of(call.room_id, "AJ_large", 1_795_694_999, false);
    let request = form(&[("header", &header), ("audio", &large)]);
    assert_eq!(rig.upload(&request).send().await.unwrap().status(), 200);
    rig.keep(&call.record()).await;
    let mut record = call.record();
    record["call_id"] = "large".into();
    record["details"] = serde_json::json!({"participants": [{"identity": "agent-AJ_large"}]});
    rig.keep(&record).await;
    assert_eq!(rig.files(), [], "nothing beside the database");

    let paths = [call.call_id(), "large".into()].map(|id| format!("/api/calls/{id}/recordings/0"));
    let sizes = [156_513, 12_000_000];
    for (path, size) in paths.iter().zip(sizes) {
        let whole = rig.client.get(rig.url(path)).send().await.unwrap();
        assert_eq!(whole.headers()[header::CONTENT_LENGTH], size.to_string().as_str());
        let whole = whole.bytes().await.unwrap();
        assert_eq!(whole.len(), size);
        let get = rig.client.get(rig.url(path)).header(header::RANGE, "bytes=1000-1999");
        let part = get.send().await.unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(part.bytes().await.unwrap(), whole[1_000..2_000]);
    }
    assert_eq!(
        rig.client.get(rig.url(&paths[1])).send().await.unwrap().bytes().await.unwrap(),
        large
    );
    assert_eq!(rig.delete("/api/calls/large").await.0, 200);
    assert_eq!(rig.get(&paths[1]).await.0, 404);
    assert_eq!(rig.get(&paths[0]).await.0, 200);
}
