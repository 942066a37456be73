//! The exchange's day: the midnight that its timestamps count from, and the names of its epochs.

use fanblade_feed::UnixNs;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Days and epochs of a feed.
#[derive(Debug, Clone)]
pub enum Calendar {
    /// A recording belongs to one day, and has the same epochs each time that it is played.
    Recorded(Day),
    /// A session of a live feed belongs to the day on which it begins, and its name tells it from all others.
    Live,
    /// The same, but on this day whenever the feed is played.
    LiveOf(Day),
    /// Numberings belong to no day: the epoch is the session's name.
    Named,
    /// There is only one numbering, with this name.
    Fixed(String),
}

/// A trading day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    date: Date,
    /// Its midnight.
    pub midnight_ns: UnixNs,
}

/// Why a day cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DayError {
    /// No clock reaches it.
    #[error("{date} has no midnight: {error}")]
    NoMidnight {
        /// The day.
        date: Date,
        /// Why.
        error: jiff::Error,
    },
    /// It is before the Unix epoch.
    #[error("{date} is before 1970")]
    BeforeTime {
        /// The day.
        date: Date,
    },
}

impl Calendar {
    /// The day whose midnight the timestamps of a session that begins at `now_ns` count from.
    #[must_use]
    pub fn day(&self, now_ns: UnixNs) -> Day {
        match self {
            Calendar::Recorded(day) | Calendar::LiveOf(day) => *day,
            Calendar::Live | Calendar::Named | Calendar::Fixed(_) => Day::at(now_ns),
        }
    }

    /// Whether sessions are known by their own names, which upstream may use again.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self, Calendar::Live | Calendar::LiveOf(_))
    }

    /// The epoch of the `number`-th session (from 1; 0: before any).
    #[must_use]
    pub fn epoch(&self, now_ns: UnixNs, number: u32, session: &str) -> String {
        let date = self.day(now_ns).date;
        let (year, month, day) = (date.year(), date.month(), date.day());
        match self {
            Calendar::Fixed(name) => name.clone(),
            Calendar::Live | Calendar::LiveOf(_) if number > 0 => format!("{year:04}{month:02}{day:02}-{session}"),
            Calendar::Named if number > 0 => session.to_owned(),
            Calendar::Live | Calendar::LiveOf(_) | Calendar::Named => format!("{year:04}{month:02}{day:02}-0"),
            // Known before the first session begins, so that early subscribers see no change.
            Calendar::Recorded(_) => format!("{year:04}{month:02}{day:02}-{}", number.max(1)),
        }
    }
}

impl Day {
    /// A calendar day.
    ///
    /// # Errors
    /// Timestamps cannot count from that day.
    pub fn new(date: Date) -> Result<Day, DayError> {
        let midnight = date.to_zoned(new_york()).map_err(|error| DayError::NoMidnight { date, error })?;
        let midnight_ns =
            u64::try_from(midnight.timestamp().as_nanosecond()).map_err(|_| DayError::BeforeTime { date })?;
        Ok(Day { date, midnight_ns: UnixNs(midnight_ns) })
    }

    /// The day in New York at `now_ns`.
    #[must_use]
    pub fn at(now_ns: UnixNs) -> Day {
        let now = Timestamp::from_nanosecond(now_ns.0.into()).unwrap_or(Timestamp::UNIX_EPOCH);
        let date = now.to_zoned(new_york()).date();
        // Only days before 1970 are refused, and `now_ns` cannot name one.
        Day::new(date).unwrap_or(Day { date, midnight_ns: now_ns })
    }

    /// Today in New York.
    #[must_use]
    pub fn today() -> Day {
        Day::at(UnixNs::now())
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.date.fmt(f)
    }
}

/// New York's time zone, by the rule that has held since 2007, so that no time zone database is needed.
fn new_york() -> TimeZone {
    TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_in_new_york() {
        let winter = Day::new(Date::constant(2019, 12, 30)).unwrap();
        assert_eq!(winter.midnight_ns, UnixNs(1_577_682_000_000_000_000), "05:00 UTC");
        let summer = Day::new(Date::constant(2020, 7, 1)).unwrap();
        assert_eq!(summer.midnight_ns.0 % 86_400_000_000_000, 4 * 3_600_000_000_000, "04:00 UTC");
        assert_eq!(Day::at(winter.midnight_ns), winter);
        assert_eq!(Day::at(UnixNs(winter.midnight_ns.0 - 1)).to_string(), "2019-12-29");
        assert!(Day::new(Date::constant(1950, 1, 1)).is_err());
    }

    #[test]
    fn epochs_tell_numberings_apart() {
        let recorded = Calendar::Recorded(Day::new(Date::constant(2019, 12, 30)).unwrap());
        assert_eq!(recorded.epoch(UnixNs(0), 0, ""), "20191230-1");
        assert_eq!(recorded.epoch(UnixNs(0), 1, "12302019"), "20191230-1");
        assert_eq!(recorded.epoch(UnixNs(0), 2, "x"), "20191230-2");
        let noon = UnixNs(1_577_682_000_000_000_000 + 12 * 3_600_000_000_000);
        assert_eq!(Calendar::Live.epoch(noon, 0, ""), "20191230-0");
        assert_eq!(Calendar::Live.epoch(noon, 1, "0L8XQ3Z1AB"), "20191230-0L8XQ3Z1AB");
        assert_eq!(Calendar::Named.epoch(noon, 1, "main"), "main");
    }
}
