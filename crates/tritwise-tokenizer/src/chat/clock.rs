//! `strftime_now`: the date in a template, as C's `strftime` writes it in the POSIX locale.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time in UTC, in seconds since 1970; this library does not know the user's time zone. `None` on
/// `wasm32-unknown-unknown`, where `std` has no clock and panics if asked.
pub(crate) fn utc_now() -> Option<i64> {
    if cfg!(all(target_family = "wasm", target_os = "unknown")) {
        return None;
    }
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
    Some(now)
}

/// `format` with its directives replaced by parts of `seconds`, counted from the start of 1970 on the clock to be shown.
///
/// Directives of C89 and the common ones since are known; GNU's `-` (no padding) and `_` (blanks) are
/// understood. What is unknown stays as it is, as in the C library.
pub(crate) fn strftime(format: &str, seconds: i64) -> String {
    let time = Time::at(seconds);
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, directive)) = rest.split_once('%') {
        out.push_str(before);
        let mut chars = directive.chars();
        let mut pad = None;
        let mut letter = chars.next();
        if let Some(flag @ ('-' | '_' | '0')) = letter {
            pad = Some(flag);
            letter = chars.next();
        }
        rest = chars.as_str();
        match letter.and_then(|letter| time.part(letter, pad)) {
            Some(part) => out.push_str(&part),
            None => out.extend(["%", directive.strip_suffix(rest).unwrap_or_default()]),
        }
    }
    out + rest
}

struct Time {
    year: i64,
    /// From 0.
    month: i64,
    day: i64,
    /// From 0.
    day_of_year: i64,
    /// From Sunday.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
    seconds: i64,
}

impl Time {
    /// The date by counting from 1 March of year 0, so that leap days come last (H. Hinnant, "chrono-Compatible
    /// Low-Level Date Algorithms").
    fn at(seconds: i64) -> Self {
        // 100,000 years either way are enough, and leave the arithmetic room.
        let seconds = seconds.clamp(-3_155_760_000_000, 3_155_760_000_000);
        let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day + 2) / 153;
        let month = (from_march + 2) % 12;
        let year = year_of_era + era * 400 + i64::from(month < 2);
        let leap = i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        Self {
            year,
            month,
            day: day - (153 * from_march + 2) / 5 + 1,
            day_of_year: if month < 2 { day - 306 } else { day + 59 + leap },
            weekday: (days + 4).rem_euclid(7),
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
            seconds,
        }
    }

    fn part(&self, letter: char, pad: Option<char>) -> Option<String> {
        let number = |value: i64, width: usize, fill: char| match (pad, fill) {
            (Some('-'), _) => value.to_string(),
            (Some('_'), _) | (None, ' ') => format!("{value:>width$}"),
            _ => format!("{value:0width$}"),
        };
        let hour12 = (self.hour + 11) % 12 + 1;
        let name = |names: &[&'static str], index| {
            usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or_default()
        };
        let (weekday, month) = (name(&DAYS, self.weekday), name(&MONTHS, self.month));
        let several = |format| Some(strftime(format, self.seconds));
        Some(match letter {
            'a' => weekday.chars().take(3).collect(),
            'A' => weekday.to_owned(),
            'b' | 'h' => month.chars().take(3).collect(),
            'B' => month.to_owned(),
            'c' => return several("%a %b %e %H:%M:%S %Y"),
            'C' => number(self.year.div_euclid(100), 2, '0'),
            'd' => number(self.day, 2, '0'),
            'D' | 'x' => return several("%m/%d/%y"),
            'e' => number(self.day, 2, ' '),
            'F' => return several("%Y-%m-%d"),
            'H' => number(self.hour, 2, '0'),
            'I' => number(hour12, 2, '0'),
            'j' => number(self.day_of_year + 1, 3, '0'),
            'k' => number(self.hour, 2, ' '),
            'l' => number(hour12, 2, ' '),
            'm' => number(self.month + 1, 2, '0'),
            'M' => number(self.minute, 2, '0'),
            'n' => "\n".to_owned(),
            'p' => if self.hour < 12 { "AM" } else { "PM" }.to_owned(),
            'r' => return several("%I:%M:%S %p"),
            'R' => return several("%H:%M"),
            'S' => number(self.second, 2, '0'),
            't' => "\t".to_owned(),
            'T' | 'X' => return several("%H:%M:%S"),
            'u' => number((self.weekday + 6) % 7 + 1, 1, '0'),
            'U' => number((self.day_of_year + 7 - self.weekday) / 7, 2, '0'),
            'w' => number(self.weekday, 1, '0'),
            'W' => number((self.day_of_year + 7 - (self.weekday + 6) % 7) / 7, 2, '0'),
            'y' => number(self.year.rem_euclid(100), 2, '0'),
            'Y' => self.year.to_string(),
            'z' | 'Z' => String::new(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::strftime;

    /// Expected values by Python's `datetime.datetime.fromtimestamp(s, datetime.UTC).replace(tzinfo=None).strftime`.
    #[test]
    fn dates_are_pythons() {
        let all = "%a %A %b %B %d %e %j %m %y %Y %H %I %M %S %p %u %w %U %W %F %T|%-d %-m %_d %-I";
        for (seconds, expected) in [
            (0, "Thu Thursday Jan January 01  1 001 01 70 1970 00 12 00 00 AM 4 4 00 00 1970-01-01 00:00:00|1 1  1 12"),
            (
                951_782_400,
                "Tue Tuesday Feb February 29 29 060 02 00 2000 00 12 00 00 AM 2 2 09 09 2000-02-29 00:00:00|29 2 29 12",
            ),
            (
                1_735_689_599,
                "Tue Tuesday Dec December 31 31 366 12 24 2024 23 11 59 59 PM 2 2 52 53 2024-12-31 23:59:59|31 12 31 11",
            ),
            (
                -1,
                "Wed Wednesday Dec December 31 31 365 12 69 1969 23 11 59 59 PM 3 3 52 52 1969-12-31 23:59:59|31 12 31 11",
            ),
        ] {
            assert_eq!(strftime(all, seconds), expected);
        }
        assert_eq!(strftime("100%, %Q, %", 0), "100%, %Q, %");
        strftime("%c %Y %j", i64::MAX);
        strftime("%c %Y %j", i64::MIN);
    }
}
