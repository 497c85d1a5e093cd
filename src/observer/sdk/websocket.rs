//! The SDK's transport, on connections that we open: the signalling websocket has small buffers (the SDK's
//! own zero-fills 128 KiB for each room), and everything uses one TLS configuration.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use livekit_net::{
    Header, HttpClient, HttpMethod, HttpResponse, TransportError, WsClient, WsConnectResult,
    WsConnection,
};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message,
    error::ProtocolError,
    http::{HeaderMap, HeaderName, HeaderValue},
};

use super::gate;
use crate::net::{self, Socket, explain};

/// Timeout of the SDK's own HTTP requests, with which it asks why a connection was refused.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes `livekit` use this transport in the whole process.
pub(in crate::observer) fn install() {
    livekit_net::set_ws_client(Arc::new(Transport));
    match net::http_client(HTTP_TIMEOUT) {
        Ok(client) => livekit_net::set_http_client(Arc::new(Http(client))),
        Err(e) => tracing::warn!(error = %e, "the SDK cannot ask why LiveKit refuses a join"),
    }
}

struct Transport;

struct Connection {
    writer: Mutex<SplitSink<Socket, Message>>,
    reader: Mutex<SplitStream<Socket>>,
}

struct Http(reqwest::Client);

fn bearer(headers: &[Header]) -> &str {
    let authorization = headers.iter().find(|h| h.name.eq_ignore_ascii_case("authorization"));
    authorization.map_or("", |h| h.value.as_str())
}

fn failed(e: impl ToString) -> TransportError {
    TransportError::Connection(e.to_string())
}

#[async_trait]
impl WsClient for Transport {
    async fn connect(
        &self,
        url: String,
        headers: Vec<Header>,
        timeout_ms: u64,
    ) -> Result<WsConnectResult, TransportError> {
        if !gate::allows(&url, bearer(&headers)) {
            return Err(TransportError::Http { status: gate::REFUSED });
        }
        let mut map = HeaderMap::new();
        for h in &headers {
            let name = h.name.parse::<HeaderName>().map_err(failed)?;
            map.insert(name, HeaderValue::from_str(&h.value).map_err(failed)?);
        }
        match net::websocket(&url, map, Duration::from_millis(timeout_ms)).await {
            Ok(socket) => {
                let (writer, reader) = socket.split();
                let (writer, reader) = (Mutex::new(writer), Mutex::new(reader));
                Ok(WsConnectResult { connection: Arc::new(Connection { writer, reader }) })
            }
            // The SDK distinguishes "no such endpoint" and "not allowed" by the status.
            Err(WsError::Http(r)) => Err(TransportError::Http { status: r.status().as_u16() }),
            Err(WsError::Io(e)) if e.kind() == std::io::ErrorKind::TimedOut => {
                Err(TransportError::Timeout)
            }
            Err(e) => Err(failed(explain::livekit(e.to_string(), &url))),
        }
    }
}

#[async_trait]
impl WsConnection for Connection {
    async fn send(&self, frame: Vec<u8>) -> Result<(), TransportError> {
        self.writer.lock().await.send(Message::Binary(frame.into())).await.map_err(failed)
    }

    async fn recv(&self) -> Result<Option<Vec<u8>>, TransportError> {
        let mut reader = self.reader.lock().await;
        loop {
            match reader.next().await {
                Some(Ok(Message::Binary(data))) => return Ok(Some(data.into())),
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(
                    WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)
                    | WsError::ConnectionClosed
                    | WsError::AlreadyClosed,
                )) => return Ok(None),
                Some(Err(WsError::Io(e))) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(None);
                }
                Some(Err(e)) => return Err(failed(e)),
            }
        }
    }

    async fn close(&self) {
        let _ = self.writer.lock().await.close().await;
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn request(
        &self,
        method: HttpMethod,
        url: String,
        headers: Vec<Header>,
        body: Option<Vec<u8>>,
    ) -> Result<HttpResponse, TransportError> {
        // After a refused websocket the SDK sends this request to learn why.
        if !gate::allows(&url, bearer(&headers)) {
            let (status, headers, body) = (gate::REFUSED, vec![], vec![]);
            return Ok(HttpResponse { status, headers, body });
        }
        let mut request = match method {
            HttpMethod::Get => self.0.get(&url),
            HttpMethod::Post => self.0.post(&url),
        };
        for h in &headers {
            request = request.header(&h.name, &h.value);
        }
        let answer = request.body(body.unwrap_or_default()).send().await.map_err(failed)?;
        let headers = answer.headers().iter();
        let headers = headers.filter_map(|(name, value)| {
            let value = value.to_str().ok()?.to_owned();
            Some(Header { name: name.as_str().to_owned(), value })
        });
        Ok(HttpResponse {
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: answer.bytes().await.map_err(failed)?.into(),
        })
    }
}
