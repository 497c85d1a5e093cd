//! A TCP relay whose connections can be cut: what a network between the worker and its server does now and then.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

pub struct Relay {
    pub addr: SocketAddr,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Leads to `to`, a host and port.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start(to: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let cuts = watch::Sender::new(0);
        let cut = cuts.subscribe();
        let task = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Files may have run out for a moment.
                    sleep(Duration::from_millis(100)).await;
                    continue;
                };
                // An error ends the connection, which is all that its client sees.
                tokio::spawn(carry(stream, to.clone(), cut.clone()));
            }
        });
        Ok(Self { addr, cuts, task })
    }

    /// Ends all connections, and returns their number. New ones are accepted at once.
    pub fn cut(&self) -> usize {
        self.cuts.send_modify(|n| *n += 1);
        // One of the receivers belongs to who accepts connections.
        self.cuts.receiver_count().saturating_sub(1)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut stream: TcpStream, to: String, mut cut: watch::Receiver<u64>) -> Result<()> {
    cut.mark_unchanged();
    let mut server = TcpStream::connect(to).await?;
    tokio::select! {
        done = copy_bidirectional(&mut stream, &mut server) => drop(done?),
        _ = cut.changed() => {}
    }
    Ok(())
}
