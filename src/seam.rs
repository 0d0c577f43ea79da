//! All that is not deterministic, in one struct: network, clock, chance. The simulation stands behind it.

use crate::terms::Timestamp;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The seam between the operator and everything outside it.
#[derive(Clone)]
pub struct Seam {
    /// What time it is.
    pub clock: Clock,
    /// What can be reached.
    pub network: Arc<dyn Network>,
    random: Arc<Mutex<fastrand::Rng>>,
}

/// What time it is.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's.
    Wall,
    /// A base plus the runtime's own clock, which tests pause.
    Virtual {
        /// The time at `start`.
        base: Timestamp,
        /// When it began.
        start: tokio::time::Instant,
        /// How far this instance's clock is off.
        skew: chrono::TimeDelta,
    },
}

/// What can be reached: API servers, and HTTP beside them.
pub trait Network: Send + Sync {
    /// A client for one API server.
    ///
    /// # Errors
    /// Why there is none, for people.
    fn client(&self, config: kube::Config) -> Result<kube::Client, String>;

    /// One GET: status and body, cut at `limit` bytes.
    fn get(&self, url: String, limit: usize) -> BoxFuture<'static, Result<(u16, Vec<u8>), String>>;
}

impl Seam {
    /// A seam of these parts; `seed` starts the stream of chance.
    #[must_use]
    pub fn new(clock: Clock, network: Arc<dyn Network>, seed: u64) -> Self {
        Self { clock, network, random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))) }
    }

    /// A duration between half of `most` and `most`, so that instances that failed together do not try again together.
    #[must_use]
    pub fn jitter(&self, most: Duration) -> Duration {
        let share = self.random.lock().map_or(1.0, |mut random| 0.5 + random.f64() / 2.0);
        most.mul_f64(share)
    }
}

impl Clock {
    /// A virtual clock that starts now at `base`.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a virtual clock begins here")]
    pub fn starting(base: Timestamp) -> Self {
        Self::Virtual { base, start: tokio::time::Instant::now(), skew: chrono::TimeDelta::zero() }
    }

    /// The same clock, off by so much more; the machine's cannot be.
    #[must_use]
    pub fn skewed(&self, by: chrono::TimeDelta) -> Self {
        match self {
            Self::Wall => Self::Wall,
            Self::Virtual { base, start, skew } => Self::Virtual { base: *base, start: *start, skew: *skew + by },
        }
    }

    /// The time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Wall => chrono::Utc::now(),
            Self::Virtual { base, start, skew } => {
                *base + chrono::TimeDelta::from_std(start.elapsed()).unwrap_or_default() + *skew
            }
        }
    }

    /// A clock that only goes forward, for durations.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the runtime's clock")]
    pub fn monotonic(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }
}
