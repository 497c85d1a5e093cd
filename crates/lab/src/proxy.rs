//! An HTTP proxy: CONNECT for everything encrypted and for websockets, plain requests passed on.
//!
//! It resolves every name to the loopback, so that names that exist nowhere lead to servers of the test: a
//! proxy is never used for the loopback itself.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What a proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Allows,
    /// Asks for this user and password.
    AsksFor(&'static str, &'static str),
    Refuses,
}

pub struct HttpProxy {
    pub addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl HttpProxy {
    /// # Errors
    /// If no port is free.
    pub async fn start(policy: Policy) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let task = tokio::spawn({
            let asked = asked.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    // An error ends the connection, which is all that its client sees.
                    tokio::spawn(serve(stream, policy, asked.clone()));
                }
            }
        });
        Ok(Self { addr, asked, task })
    }

    /// The first line of each connection's first request, also of refused ones.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    policy: Policy,
    asked: Arc<Mutex<Vec<String>>>,
) -> Result<()> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    let first = text.lines().next().context("no request")?.to_owned();
    asked.lock().push(first.clone());
    let answer = match policy {
        Policy::Refuses => Some("403 Forbidden"),
        Policy::AsksFor(user, password) => {
            let credentials = BASE64.encode(format!("{user}:{password}"));
            let expected = format!("proxy-authorization: basic {credentials}").to_lowercase();
            let given = text.lines().any(|line| line.to_lowercase() == expected);
            (!given).then_some("407 Proxy Authentication Required")
        }
        Policy::Allows => None,
    };
    if let Some(status) = answer {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return Ok(client.write_all(answer.as_bytes()).await?);
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().context("no method")?, words.next().context("no target")?);
    let authority = target.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let port = authority.rsplit(':').next().and_then(|p| p.parse().ok()).unwrap_or(80u16);
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    if method == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        // The request names its whole URL, which servers take as well.
        server.write_all(&head).await?;
    }
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
