//! Plain websockets (`ws://`) for LiveKit's SDK in tests and tools.
//!
//! The product brings a transport of its own and builds the SDK without one. The SDK's features are the same for
//! everything that is built together, so callers and agents of tests need a transport too: else what is tested
//! would be another build than what is shipped, with a second HTTP client.

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
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue},
    },
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Makes `livekit` use these websockets in the whole process. Later calls do nothing.
pub fn install() {
    livekit_net::set_ws_client(Arc::new(Sockets));
    livekit_net::set_http_client(Arc::new(NoHttp));
}

struct Sockets;

struct Connection {
    writer: Mutex<SplitSink<Socket, Message>>,
    reader: Mutex<SplitStream<Socket>>,
}

fn failed(e: impl ToString) -> TransportError {
    TransportError::Connection(e.to_string())
}

#[async_trait]
impl WsClient for Sockets {
    async fn connect(
        &self,
        url: String,
        headers: Vec<Header>,
        timeout_ms: u64,
    ) -> Result<WsConnectResult, TransportError> {
        let mut request = url.into_client_request().map_err(failed)?;
        for h in headers {
            let name = h.name.parse::<HeaderName>().map_err(failed)?;
            request.headers_mut().insert(name, HeaderValue::try_from(h.value).map_err(failed)?);
        }
        match timeout(Duration::from_millis(timeout_ms), connect_async(request)).await {
            Ok(Ok((socket, _))) => {
                let (writer, reader) = socket.split();
                let (writer, reader) = (Mutex::new(writer), Mutex::new(reader));
                Ok(WsConnectResult { connection: Arc::new(Connection { writer, reader }) })
            }
            Ok(Err(Error::Http(r))) => Err(TransportError::Http { status: r.status().as_u16() }),
            Ok(Err(e)) => Err(failed(e)),
            Err(_) => Err(TransportError::Timeout),
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
        while let Some(message) = reader.next().await {
            match message.map_err(failed)? {
                Message::Binary(data) => return Ok(Some(data.into())),
                Message::Close(_) => break,
                _ => {}
            }
        }
        Ok(None)
    }

    async fn close(&self) {
        // The server may have closed it first.
        let _ = self.writer.lock().await.close().await;
    }
}

/// The SDK asks by HTTP only why a websocket was refused, goes on if that fails, but wants a client.
struct NoHttp;

#[async_trait]
impl HttpClient for NoHttp {
    async fn request(
        &self,
        _method: HttpMethod,
        _url: String,
        _headers: Vec<Header>,
        _body: Option<Vec<u8>>,
    ) -> Result<HttpResponse, TransportError> {
        Err(TransportError::Other("there is no HTTP client".into()))
    }
}
