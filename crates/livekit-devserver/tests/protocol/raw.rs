//! Clients without an SDK: a signal connection, an agent worker, plain HTTP.

use std::collections::VecDeque;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{SinkExt, StreamExt};
use livekit_api::access_token::{AccessToken, VideoGrants};
use livekit_devserver::{Server, proto as lk};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::support::PATIENCE;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a websocket. If the server refuses, the error is its HTTP status and text.
pub(crate) async fn websocket(url: &str, jwt: &str) -> Result<Socket, (u16, String)> {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {jwt}").parse().unwrap());
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
        }
        Err(error) => panic!("{url}: {error}"),
    }
}

/// A client's signal connection, without any media.
pub(crate) struct Signal {
    socket: Socket,
    /// Messages that `wait` has read and not picked.
    passed: VecDeque<lk::signal_response::Message>,
}

impl Signal {
    pub(crate) async fn dual(server: &Server, token: &AccessToken) -> Signal {
        Signal::open(server, token, "/rtc?protocol=16&auto_subscribe=1").await
    }

    pub(crate) async fn resume(server: &Server, token: &AccessToken, sid: &str) -> Signal {
        Signal::open(server, token, &format!("/rtc?protocol=16&reconnect=1&sid={sid}")).await
    }

    pub(crate) async fn single(server: &Server, token: &AccessToken) -> Signal {
        let request = lk::JoinRequest {
            connection_settings: Some(lk::ConnectionSettings {
                auto_subscribe: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let wrapped =
            lk::WrappedJoinRequest { join_request: request.encode_to_vec(), compression: 0 };
        let packed = URL_SAFE_NO_PAD.encode(wrapped.encode_to_vec());
        Signal::open(server, token, &format!("/rtc/v1?join_request={packed}")).await
    }

    async fn open(server: &Server, token: &AccessToken, path: &str) -> Signal {
        let url = format!("{}{path}", server.url());
        let socket =
            websocket(&url, &token.clone().to_jwt().unwrap()).await.expect("a signal connection");
        Signal { socket, passed: VecDeque::new() }
    }

    pub(crate) async fn send(&mut self, message: lk::signal_request::Message) {
        let request = lk::SignalRequest { message: Some(message) };
        self.socket.send(Message::Binary(request.encode_to_vec().into())).await.expect("sending");
    }

    /// Waits for the first message for which `pick` returns `Some`.
    pub(crate) async fn wait<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&lk::signal_response::Message) -> Option<T>,
    ) -> T {
        let mut seen = vec![];
        let wait = async {
            loop {
                let message = self.next().await.expect("the connection has ended");
                if let Some(t) = pick(&message) {
                    return t;
                }
                seen.push(format!("{message:?}").chars().take(150).collect::<String>());
                self.passed.push_back(message);
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{what} did not come; seen: {seen:#?}"))
    }

    /// Picks from the messages that `wait` has passed over.
    pub(crate) fn passed<T>(
        &mut self,
        pick: impl FnMut(lk::signal_response::Message) -> Option<T>,
    ) -> Vec<T> {
        self.passed.drain(..).filter_map(pick).collect()
    }

    pub(crate) async fn joined(&mut self) -> lk::JoinResponse {
        self.wait("the join response", |m| match m {
            lk::signal_response::Message::Join(join) => Some(join.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn goodbye(&mut self) -> lk::LeaveRequest {
        self.wait("the goodbye", |m| match m {
            lk::signal_response::Message::Leave(leave) => Some(leave.clone()),
            _ => None,
        })
        .await
    }

    /// How the connection ends: the close frame's code, or `None` without a close frame.
    pub(crate) async fn end(&mut self) -> Option<u16> {
        let end = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map(|f| f.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, end).await.expect("the connection stays open")
    }

    async fn next(&mut self) -> Option<lk::signal_response::Message> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Binary(bytes)) => {
                    let response =
                        lk::SignalResponse::decode(&bytes[..]).expect("a signal response");
                    if response.message.is_some() {
                        return response.message;
                    }
                }
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// An agent worker's connection.
pub(crate) struct Worker {
    socket: Socket,
    json: bool,
}

/// A token that lets a worker register.
pub(crate) fn worker_token(server: &Server) -> String {
    AccessToken::with_api_key(server.api_key(), server.api_secret())
        .with_grants(VideoGrants { agent: true, ..Default::default() })
        .to_jwt()
        .unwrap()
}

pub(crate) fn registration(agent_name: &str) -> lk::RegisterWorkerRequest {
    lk::RegisterWorkerRequest {
        agent_name: agent_name.into(),
        version: "test".into(),
        ..Default::default()
    }
}

impl Worker {
    pub(crate) async fn connect(server: &Server) -> Worker {
        let socket = websocket(&format!("{}/agent", server.url()), &worker_token(server))
            .await
            .expect("a worker");
        Worker { socket, json: false }
    }

    /// Connects and registers.
    pub(crate) async fn register(server: &Server, request: lk::RegisterWorkerRequest) -> Worker {
        let mut worker = Worker::connect(server).await;
        worker.send(lk::worker_message::Message::Register(request)).await;
        worker
            .wait("the registration", |m| {
                matches!(m, lk::server_message::Message::Register(_)).then_some(())
            })
            .await;
        worker
    }

    /// Switches this worker's messages to JSON.
    pub(crate) fn speak_json(&mut self) {
        self.json = true;
    }

    pub(crate) async fn send(&mut self, message: lk::worker_message::Message) {
        let message = lk::WorkerMessage { message: Some(message) };
        let frame = if self.json {
            Message::Text(serde_json::to_string(&message).unwrap().into())
        } else {
            Message::Binary(message.encode_to_vec().into())
        };
        self.socket.send(frame).await.expect("sending");
    }

    pub(crate) async fn send_raw(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::Binary(bytes.into())).await.expect("sending");
    }

    pub(crate) async fn wait<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(lk::server_message::Message) -> Option<T>,
    ) -> T {
        let wait = async {
            loop {
                let message = self.next().await.expect("the connection has ended");
                if let Some(t) = pick(message) {
                    return t;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not come"))
    }

    /// The next message; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<lk::server_message::Message> {
        loop {
            let message = match self.socket.next().await? {
                Ok(Message::Binary(bytes)) if !self.json => {
                    lk::ServerMessage::decode(&bytes[..]).unwrap()
                }
                Ok(Message::Text(text)) if self.json => serde_json::from_str(&text).unwrap(),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(Message::Ping(_) | Message::Pong(_)) => continue,
                Ok(other) => panic!("not the form that was asked for: {other:?}"),
            };
            if message.message.is_some() {
                return message.message;
            }
        }
    }

    pub(crate) async fn offer(&mut self) -> lk::Job {
        self.wait("an offer", |m| match m {
            lk::server_message::Message::Availability(a) => a.job,
            _ => None,
        })
        .await
    }

    pub(crate) async fn accept(&mut self, job: &lk::Job, identity: &str) {
        self.answer(lk::AvailabilityResponse {
            job_id: job.id.clone(),
            available: true,
            participant_identity: identity.into(),
            participant_attributes: [("mine".to_owned(), "yes".to_owned())].into(),
            ..Default::default()
        })
        .await;
    }

    pub(crate) async fn answer(&mut self, answer: lk::AvailabilityResponse) {
        self.send(lk::worker_message::Message::Availability(answer)).await;
    }

    pub(crate) async fn assignment(&mut self) -> lk::JobAssignment {
        self.wait("an assignment", |m| match m {
            lk::server_message::Message::Assignment(a) => Some(a),
            _ => None,
        })
        .await
    }

    /// Waits for the next termination. Returns the job's id.
    pub(crate) async fn termination(&mut self) -> String {
        self.wait("a termination", |m| match m {
            lk::server_message::Message::Termination(t) => Some(t.job_id),
            _ => None,
        })
        .await
    }

    /// Accepts the next offer.
    pub(crate) async fn take(&mut self, identity: &str) -> lk::JobAssignment {
        let job = self.offer().await;
        self.accept(&job, identity).await;
        self.assignment().await
    }

    pub(crate) async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    /// Waits for the server to close.
    pub(crate) async fn closed(mut self) {
        let end = async { while self.next().await.is_some() {} };
        tokio::time::timeout(PATIENCE, end).await.expect("the connection stays open");
    }
}

/// A plain POST: status, content type, body.
pub(crate) async fn post(
    server: &Server,
    path: &str,
    jwt: &str,
    content_type: &str,
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let authority = server.http_url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&authority).await.unwrap();
    let authorization =
        if jwt.is_empty() { String::new() } else { format!("Authorization: Bearer {jwt}\r\n") };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
         {authorization}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = vec![];
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..at]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let kind = head.lines().find_map(|l| l.strip_prefix("content-type: ")).unwrap_or("").to_owned();
    (status, kind, answer[at + 4..].to_vec())
}

/// A Twirp call in JSON: status and answer.
pub(crate) async fn twirp(
    server: &Server,
    method: &str,
    jwt: &str,
    body: serde_json::Value,
) -> (u16, serde_json::Value) {
    let path = format!("/twirp/livekit.{method}");
    let (status, kind, answer) =
        post(server, &path, jwt, "application/json", body.to_string().as_bytes()).await;
    assert_eq!(kind, "application/json", "{}", String::from_utf8_lossy(&answer));
    (status, serde_json::from_slice(&answer).unwrap())
}
