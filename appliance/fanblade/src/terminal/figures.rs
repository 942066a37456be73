//! Figures as people read them: three or four significant digits and a unit.

use std::time::Duration;

/// `0`, `12.3`, `456`, `7.89k`, `12.3M`.
pub(crate) fn count(value: f64) -> String {
    let (value, unit) = scaled(value, &["", "k", "M", "G", "T"], 1000.0);
    format!("{}{unit}", digits(value, unit.is_empty()))
}

/// `512 B`, `1.50 KiB`, `64.0 MiB`.
pub(crate) fn bytes(value: f64) -> String {
    let (value, unit) = scaled(value, &["B", "KiB", "MiB", "GiB", "TiB"], 1024.0);
    format!("{} {unit}", digits(value, unit == "B"))
}

/// Nanoseconds: `812 ns`, `12.3 µs`, `4.56 ms`, `1.20 s`.
pub(crate) fn nanoseconds(value: u64) -> String {
    if value >= 60_000_000_000 {
        return span(Duration::from_nanos(value));
    }
    let (value, unit) = scaled(value as f64, &["ns", "µs", "ms", "s"], 1000.0);
    format!("{} {unit}", digits(value, unit == "ns"))
}

/// `12 s`, `3 min 05 s`, `2 h 07 min`, `5 d 03 h`.
pub(crate) fn span(value: Duration) -> String {
    let seconds = value.as_secs();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match (hours, minutes) {
        (24.., _) => format!("{} d {:02} h", hours / 24, hours % 24),
        (1.., _) => format!("{hours} h {:02} min", minutes % 60),
        (0, 1..) => format!("{minutes} min {:02} s", seconds % 60),
        (0, 0) => format!("{seconds} s"),
    }
}

fn scaled<'a>(value: f64, units: &[&'a str], step: f64) -> (f64, &'a str) {
    let mut value = value;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or("");
    for next in units {
        // A value that would be shown as 1000 belongs to the next unit.
        if value < step - 0.5 {
            break;
        }
        value /= step;
        unit = next;
    }
    (value, unit)
}

/// Three significant digits; whole values of a quantity that is counted (`is_whole`) have no decimals.
fn digits(value: f64, is_whole: bool) -> String {
    match value {
        value if is_whole && (value.fract() == 0.0 || value >= 99.95) => format!("{value:.0}"),
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_the_right_unit() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (7.0, "7"),
            (12.34, "12.3"),
            (999.0, "999"),
            (999.7, "1.00k"),
            (7890.0, "7.89k"),
            (12_345_678.0, "12.3M"),
        ] {
            assert_eq!(count(value), text);
        }
        assert_eq!((bytes(512.0), bytes(1536.0)), ("512 B".to_owned(), "1.50 KiB".to_owned()));
        assert_eq!(bytes(67_108_864.0), "64.0 MiB");
        for (ns, text) in [
            (0, "0 ns"),
            (812, "812 ns"),
            (12_345, "12.3 µs"),
            (4_560_000, "4.56 ms"),
            (1_200_000_000, "1.20 s"),
            (185_000_000_000, "3 min 05 s"),
        ] {
            assert_eq!(nanoseconds(ns), text);
        }
        assert_eq!(span(Duration::from_secs(7_625)), "2 h 07 min");
        assert_eq!(span(Duration::from_secs(5 * 86_400 + 3 * 3600)), "5 d 03 h");
    }
}
