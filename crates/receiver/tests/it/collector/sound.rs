//! The recording, as readers get it.

use receiver::{
    access::{self, Scope},
    store,
};
use record::Moment;
use reqwest::{StatusCode, header};

use super::{
    agents::{Recorded, on, recorded},
    poster::collecting,
};
use crate::rig::{Engine, Rig, on_both};

/// The bytes of the sound in the body of the upload.
fn sent(call: &Recorded) -> Vec<u8> {
    let requests = call.requests();
    let body = &requests.iter().find(|r| r.path.contains("recordings")).unwrap().body;
    let at = body.windows(4).position(|bytes| bytes == b"OggS").unwrap();
    body[at..at + usize::try_from(call.sound.unwrap()).unwrap()].to_vec()
}

async fn with_recording(engine: Engine) -> (Rig, &'static Recorded, String) {
    let rig = collecting(engine).await;
    let call = recorded("py-1.8.9-sip");
    rig.keep(&call.record()).await;
    rig.replay(call).await;
    let path = format!("/api/calls/{}/recordings/0", call.call_id());
    assert_eq!(rig.uploads(&call.call_id()).await["recordings"][0]["href"], path);
    (rig, call, path)
}

async fn the_sound_is_that_which_was_sent_as_a_whole_and_in_parts(engine: Engine) {
    let (rig, call, path) = with_recording(engine).await;
    let sent = sent(call);
    let get = |range: Option<&str>| {
        let mut get = rig.client.get(rig.url(&path));
        if let Some(range) = range {
            get = get.header(header::RANGE, range);
        }
        get.send()
    };
    let whole = get(None).await.unwrap();
    assert_eq!(whole.status(), StatusCode::OK);
    assert_eq!(whole.headers()[header::CONTENT_TYPE], "audio/ogg");
    assert_eq!(whole.headers()[header::ACCEPT_RANGES], "bytes");
    assert_eq!(whole.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(whole.headers()[header::CACHE_CONTROL], "no-store");
    let tag = whole.headers()[header::ETAG].clone();
    assert_eq!(whole.bytes().await.unwrap(), sent);

    let part = get(Some("bytes=1000-1999")).await.unwrap();
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    let range = format!("bytes 1000-1999/{}", sent.len());
    assert_eq!(part.headers()[header::CONTENT_RANGE], range.as_str());
    assert_eq!(part.headers()[header::CONTENT_LENGTH], "1000");
    assert_eq!(part.bytes().await.unwrap(), sent[1_000..2_000]);

    let end = get(Some("bytes=-10")).await.unwrap();
    assert_eq!(end.bytes().await.unwrap(), sent[sent.len() - 10..]);
    let beyond = get(Some("bytes=99999999-")).await.unwrap();
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let range = format!("bytes */{}", sent.len());
    assert_eq!(beyond.headers()[header::CONTENT_RANGE], range.as_str());
    let request = rig.client.get(rig.url(&path)).header(header::RANGE, "bytes=0-0");
    let same = request.header(header::IF_RANGE, tag).send().await.unwrap();
    assert_eq!(same.status(), StatusCode::PARTIAL_CONTENT);
    let head = rig.client.head(rig.url(&path)).send().await.unwrap();
    assert_eq!(head.headers()[header::CONTENT_LENGTH], sent.len().to_string().as_str());

    for path in
        [path.replace("/0", "/1"), path.replace("/0", "/x"), "/api/calls/x/recordings/0".into()]
    {
        assert!(rig.get(&path).await.0 >= 400, "{path}");
    }
}

on_both! { the_sound_is_that_which_was_sent_as_a_whole_and_in_parts }

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_readers_hear_it() {
    let (rig, _, path) = with_recording(Engine::Sqlite).await;
    let store = store::open(&rig.home.place).await.unwrap();
    let token = async |scopes: &[Scope]| {
        access::create(&*store, "test", scopes, Moment::MIN).await.unwrap().1
    };
    let (read, ingest) = (token(&[Scope::Read]).await, token(&[Scope::Ingest]).await);
    let uploads = path.replace("recordings/0", "uploads");
    for path in [&path, &uploads] {
        let get = |token: &str| {
            let get = rig.client.get(rig.url(path));
            if token.is_empty() { get.send() } else { get.bearer_auth(token).send() }
        };
        assert_eq!(get("").await.unwrap().status(), 401);
        assert_eq!(get("chr_unknown").await.unwrap().status(), 401);
        assert_eq!(get(&ingest).await.unwrap().status(), 403);
        assert_eq!(get(&super::agents::token()).await.unwrap().status(), 401);
        assert_eq!(get(&read).await.unwrap().status(), 200);
    }
    // The page plays it for whoever may read the page.
    let form = rig
        .client
        .post(rig.url("/login"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let no_redirect =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let client = no_redirect.build().unwrap();
    let form = form.body(format!("secret={read}")).build().unwrap();
    let entered = client.execute(form).await.unwrap();
    let cookie = entered.headers()[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let heard = client.get(rig.url(&path)).header(header::COOKIE, &cookie).send().await.unwrap();
    assert_eq!(heard.status(), 200);
    let listed =
        client.get(rig.url(&uploads)).header(header::COOKIE, &cookie).send().await.unwrap();
    assert_eq!(listed.status(), 401, "the API shows numbers whole");
}

/// On another address than loopback everybody needs a token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_it_without_a_login_on_a_public_address() {
    let rig = Rig::with(Engine::Sqlite, |settings| {
        on(settings);
        settings.addr = "0.0.0.0:0".parse().unwrap();
    })
    .await;
    let call = recorded("py-1.8.9-sip");
    rig.replay(call).await;
    let path = format!("/api/calls/{}/recordings/0", call.call_id());
    assert_eq!(rig.get(&path).await.0, 401);
    assert_eq!(rig.get(&path.replace("recordings/0", "uploads")).await.0, 401);
}
