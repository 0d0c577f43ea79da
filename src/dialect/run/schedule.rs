use crate::terms::{Object, Timestamp};
use chrono::{TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;

/// When a `CronJob` is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

/// Why a schedule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not a cron expression.
    #[error("spec.schedule `{0}`: {1}")]
    Cron(String, String),
    /// Not a time zone.
    #[error("spec.timeZone `{0}` is not in the time zone database")]
    Zone(String),
}

impl Schedule {
    /// The schedule of a `CronJob`. Without `spec.timeZone` the controller manager's zone counts, which is taken to be UTC.
    ///
    /// # Errors
    /// [`ScheduleError`].
    pub fn of(cronjob: &Object) -> Result<Self, ScheduleError> {
        let (text, zone) = (cronjob.text("/spec/schedule"), cronjob.text("/spec/timeZone"));
        let cron =
            text.parse().map_err(|error: croner::errors::CronError| ScheduleError::Cron(text.to_owned(), error.to_string()))?;
        let zone = if zone.is_empty() { Tz::UTC } else { zone.parse().map_err(|_| ScheduleError::Zone(zone.to_owned()))? };
        Ok(Self { cron, zone })
    }

    /// The last time at or before `at` when it was due.
    #[must_use]
    pub fn last(&self, at: Timestamp) -> Option<Timestamp> {
        let there = self.zone.from_utc_datetime(&at.naive_utc());
        self.cron.find_previous_occurrence(&there, true).ok().map(|due| due.with_timezone(&Utc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn last(schedule: &str, zone: &str, at: &str) -> String {
        let cronjob = Object::new(json!({"spec": {"schedule": schedule, "timeZone": zone}}));
        Schedule::of(&cronjob).unwrap().last(at.parse().unwrap()).unwrap().to_rfc3339()
    }

    #[test]
    fn the_last_run_is_found_in_the_zone_of_the_cronjob() {
        assert_eq!(last("*/5 * * * *", "", "2026-12-08T10:04:59Z"), "2026-12-08T10:00:00+00:00");
        assert_eq!(last("*/5 * * * *", "", "2026-12-08T10:05:00Z"), "2026-12-08T10:05:00+00:00");
        assert_eq!(last("30 2 * * *", "Europe/Berlin", "2026-12-08T10:00:00Z"), "2026-12-08T01:30:00+00:00");
        assert_eq!(last("@hourly", "", "2026-12-08T10:59:00Z"), "2026-12-08T10:00:00+00:00");
        assert_eq!(last("0 3 * * MON", "", "2026-12-08T10:00:00Z"), "2026-12-07T03:00:00+00:00");
    }

    #[test]
    fn what_cannot_be_read_says_which_field() {
        let of = |schedule: &str, zone: &str| {
            Schedule::of(&Object::new(json!({"spec": {"schedule": schedule, "timeZone": zone}}))).unwrap_err().to_string()
        };
        assert!(of("every day", "").starts_with("spec.schedule `every day`"));
        assert!(of("* * * * *", "Atlantis").starts_with("spec.timeZone `Atlantis`"));
    }
}
