//! What runs in one region at a time: how it is stopped and started, and what of it still runs.

mod schedule;
mod workload;

pub use schedule::{Schedule, ScheduleError};
pub use workload::{DEADLINE, EPOCH, Job, Pod, Site, deadline, epoch, lists, started, stopped, switch};
