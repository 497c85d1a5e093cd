//! Posts that arrive at the same time share one transaction, and so one wait for the disk.
//!
//! For SQLite, which has one writer. Postgres does the same by itself, for transactions that commit at the same time.

use std::sync::Arc;

use record::Moment;
use tokio::sync::{mpsc, oneshot};

use crate::{
    call::Call,
    calls::{self, Kept},
    store::{Dialect, Store, StoreError},
};

/// Calls of one transaction at most.
const TOGETHER: usize = 64;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper {
    store: Arc<dyn Store>,
    /// `None`: each call has a transaction of its own.
    to: Option<mpsc::Sender<Order>>,
}

struct Order {
    call: Call,
    received_at: Moment,
    done: oneshot::Sender<Result<Kept, StoreError>>,
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let to = (store.dialect() == Dialect::Sqlite).then(|| {
            let (to, orders) = mpsc::channel(TOGETHER);
            tokio::spawn(keep_all(store.clone(), orders));
            to
        });
        Self { store, to }
    }

    /// Keeps a call. When it returns, the call is on disk.
    ///
    /// # Errors
    /// If the database did not do it; then nothing is kept.
    pub(crate) async fn keep(&self, call: Call, received_at: Moment) -> Result<Kept, StoreError> {
        let Some(to) = &self.to else {
            return calls::keep(&*self.store, call, received_at).await;
        };
        let (done, is_done) = oneshot::channel();
        let order = Order { call, received_at, done };
        let gone = || StoreError::Unexpected("the writer has ended");
        to.send(order).await.map_err(|_| gone())?;
        is_done.await.map_err(|_| gone())?
    }
}

async fn keep_all(store: Arc<dyn Store>, mut orders: mpsc::Receiver<Order>) {
    let mut some = Vec::with_capacity(TOGETHER);
    while orders.recv_many(&mut some, TOGETHER).await > 0 {
        match together(&*store, &some).await {
            Ok(kept) => {
                for (order, kept) in some.drain(..).zip(kept) {
                    // An error means that the client has gone.
                    let _ = order.done.send(Ok(kept));
                }
            }
            // Nothing of it is kept. One of them may be the reason: each by itself.
            Err(_) => {
                for Order { call, received_at, done } in some.drain(..) {
                    let _ = done.send(calls::keep(&*store, call, received_at).await);
                }
            }
        }
    }
}

async fn together(store: &dyn Store, orders: &[Order]) -> Result<Vec<Kept>, StoreError> {
    let mut transaction = store.begin().await?;
    let mut all = Vec::with_capacity(orders.len());
    for order in orders {
        let call = order.call.clone();
        let kept = calls::keep_in(&mut *transaction, store.dialect(), call, order.received_at);
        all.push(kept.await?);
    }
    transaction.commit().await?;
    Ok(all)
}
