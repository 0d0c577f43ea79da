use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// A number that others wait for. Who waits is woken in the order in which it began to wait; `tokio::sync::watch` wakes in a random one, and
/// no run would be like another.
#[derive(Clone)]
pub struct Signal(Arc<Inner>);

struct Inner {
    value: AtomicU64,
    notify: Notify,
}

/// Hears of a [`Signal`].
pub struct Ear {
    signal: Signal,
    seen: u64,
}

impl Signal {
    /// A signal that stands at this.
    #[must_use]
    pub fn new(value: u64) -> Self {
        Self(Arc::new(Inner { value: AtomicU64::new(value), notify: Notify::new() }))
    }

    /// Where it stands.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.value.load(Ordering::SeqCst)
    }

    /// Moves it, and wakes who waits if that is a change.
    pub fn set(&self, value: u64) {
        if self.0.value.swap(value, Ordering::SeqCst) != value {
            self.0.notify.notify_waiters();
        }
    }

    /// Hears of every change from now on.
    #[must_use]
    pub fn listen(&self) -> Ear {
        Ear { signal: self.clone(), seen: self.get() }
    }

    /// Waits until it stands where this is so.
    pub async fn until(&self, is_it: impl Fn(u64) -> bool) {
        let mut ear = self.listen();
        while !is_it(ear.signal.get()) {
            ear.changed().await;
        }
    }
}

impl Ear {
    /// What stands now is known.
    pub fn know(&mut self) {
        self.seen = self.signal.get();
    }

    /// Waits until it stands elsewhere than was known; then that is known.
    pub async fn changed(&mut self) {
        loop {
            let notified = self.signal.0.notify.notified();
            tokio::pin!(notified);
            // Who is enabled is not passed over by what happens between the look and the wait.
            notified.as_mut().enable();
            let value = self.signal.get();
            if value != self.seen {
                self.seen = value;
                return;
            }
            notified.await;
        }
    }
}
