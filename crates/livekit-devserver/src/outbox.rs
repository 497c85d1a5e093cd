//! The bounded queue between the senders of a websocket's messages and the task that writes the websocket.
//!
//! In: messages, from any number of clones of [`Outbox`], which never wait. Out: the messages in order from
//! [`Inbox`], or the signal that the connection is cut. A client that reads too slowly is cut: one stuck
//! client must never hold up a room.

use tokio::sync::{mpsc, watch};

/// Messages that may wait for one websocket.
pub(crate) const QUEUE: usize = 4096;

#[derive(Debug)]
pub(crate) struct Outbox<T> {
    tx: mpsc::Sender<T>,
    cut: watch::Sender<bool>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Outbox { tx: self.tx.clone(), cut: self.cut.clone() }
    }
}

pub(crate) struct Inbox<T> {
    pub(crate) rx: mpsc::Receiver<T>,
    pub(crate) cut: Cut,
}

/// The signal to end a connection without a goodbye.
#[derive(Clone)]
pub(crate) struct Cut(watch::Receiver<bool>);

pub(crate) fn channel<T>(queue: usize) -> (Outbox<T>, Inbox<T>) {
    let (tx, rx) = mpsc::channel(queue);
    let (cut, watch) = watch::channel(false);
    (Outbox { tx, cut }, Inbox { rx, cut: Cut(watch) })
}

impl<T> Outbox<T> {
    /// False when the connection is gone, or when this call has cut it because its queue is full.
    pub(crate) fn send(&self, message: T) -> bool {
        match self.tx.try_send(message) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!("websocket client does not read; cut");
                self.cut();
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// Ends the connection without a goodbye.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }
}

impl Cut {
    /// Returns once the connection is cut. Never returns when the connection ends in another way.
    pub(crate) async fn happened(&mut self) {
        if self.0.wait_for(|cut| *cut).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_slower_than_its_queue_is_cut() {
        let (out, mut inbox) = channel(2);
        assert!(out.send(1) && out.send(2));
        assert!(!out.send(3));
        inbox.cut.happened().await;
        assert_eq!(
            inbox.rx.recv().await,
            Some(1),
            "queued messages are not lost for a reader that goes on"
        );
    }

    #[tokio::test]
    async fn the_end_of_all_senders_is_not_a_cut() {
        let (out, mut inbox) = channel::<()>(2);
        drop(out);
        assert_eq!(inbox.rx.recv().await, None);
        let cut =
            tokio::time::timeout(std::time::Duration::from_millis(20), inbox.cut.happened()).await;
        assert!(cut.is_err());
    }
}
