//! Memory that calls have used is given back to the system after they have ended.

use std::time::Duration;

use tokio::{sync::watch, task::spawn_blocking, time::sleep};

/// Calls often end together, and their connections close a little later.
const AFTER: Duration = Duration::from_secs(20);

/// Gives memory back some time after calls have ended. `calls`: how many are on.
pub(crate) async fn give_back(mut calls: watch::Receiver<usize>) {
    let mut most = *calls.borrow_and_update();
    while calls.changed().await.is_ok() {
        let now = *calls.borrow_and_update();
        if now >= most {
            most = now;
            continue;
        }
        most = now;
        loop {
            sleep(AFTER).await;
            // A thread of its own: it locks the heap for some milliseconds.
            let _ = spawn_blocking(heap::give_back).await;
            let before = std::mem::replace(&mut most, *calls.borrow_and_update());
            // More have ended since, perhaps a moment ago.
            if most >= before {
                break;
            }
        }
    }
}
