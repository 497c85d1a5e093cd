//! Memory that calls have used is given back to the system after they have ended.

use std::time::Duration;

use tokio::{sync::watch, task::spawn_blocking, time::sleep};

/// Calls often end together, and their connections close a little later.
const AFTER: Duration = Duration::from_secs(20);

/// Gives memory back some time after calls have ended. `calls`: how many are on. `give_back` may take some milliseconds.
pub(crate) async fn watch(
    mut calls: watch::Receiver<usize>,
    give_back: impl Fn() -> bool + Copy + Send + 'static,
) {
    let mut most = *calls.borrow_and_update();
    while calls.changed().await.is_ok() {
        let now = *calls.borrow_and_update();
        if now >= most {
            most = now;
            continue;
        }
        loop {
            sleep(AFTER).await;
            let _ = spawn_blocking(give_back).await;
            most = *calls.borrow();
            // Others may have ended meanwhile, perhaps a moment ago.
            if !calls.has_changed().unwrap_or(false) {
                break;
            }
            calls.mark_unchanged();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_once_after_calls_that_end_together() {
        static TIMES: AtomicUsize = AtomicUsize::new(0);
        let calls = watch::Sender::new(0);
        tokio::spawn(watch(calls.subscribe(), || TIMES.fetch_add(1, Relaxed) == 0));
        let set = async |n, then: Duration| {
            let _ = calls.send(n);
            sleep(then).await;
            TIMES.load(Relaxed)
        };
        assert_eq!(set(1, AFTER * 2).await, 0);
        assert_eq!(set(2, AFTER * 2).await, 0);
        assert_eq!(set(1, AFTER / 2).await, 0);
        // The end of this one is seen, though as many calls are on as before.
        assert_eq!(set(2, AFTER / 4).await, 0);
        assert_eq!(set(1, AFTER / 2).await, 1);
        sleep(AFTER * 9).await;
        assert_eq!(TIMES.load(Relaxed), 2);
        assert_eq!(set(2, AFTER * 9).await, 2);
    }
}
