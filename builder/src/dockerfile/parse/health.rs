//! `HEALTHCHECK`, and the durations of its flags.

use std::time::Duration;

use super::{Flags, command, fail};
use crate::dockerfile::diagnostic::Diagnostic;
use crate::dockerfile::instruction::{Healthcheck, HealthcheckCommand, InstructionKind, Word};
use crate::dockerfile::statement::Statement;

/// The shortest time that Docker's engine accepts, except none at all.
const SHORTEST: Duration = Duration::from_millis(1);

pub(super) fn healthcheck(statement: &mut Statement, found: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    if statement.args.is_empty() {
        return fail(found, statement.word.span, "`HEALTHCHECK` needs `CMD` or `NONE`");
    }
    let kind = statement.args.remove(0);
    if kind.text.eq_ignore_ascii_case("none") {
        // Flags are not looked at, as in BuildKit.
        return match statement.args.first() {
            Some(extra) => fail(found, extra.span, "`HEALTHCHECK NONE` takes no arguments"),
            None => Some(InstructionKind::Healthcheck(Healthcheck::None)),
        };
    }
    let mut flags = Flags::new(statement, found);
    let interval = flags.string("interval");
    let timeout = flags.string("timeout");
    let start_period = flags.string("start-period");
    let start_interval = flags.string("start-interval");
    let retries = flags.string("retries");
    flags.finish();
    if !kind.text.eq_ignore_ascii_case("cmd") {
        let message = format!("`HEALTHCHECK` takes `CMD` or `NONE`, not `{}`", kind.text);
        found.push(Diagnostic::error(kind.span, message).did_you_mean(&kind.text, ["CMD", "NONE"]));
        return None;
    }
    if statement.args.is_empty() {
        return fail(found, kind.span, "a command must follow `CMD`");
    }
    let check = HealthcheckCommand {
        interval: time(interval, found),
        timeout: time(timeout, found),
        start_period: time(start_period, found),
        start_interval: time(start_interval, found),
        retries: count(retries, found),
        test: command(statement),
    };
    Some(InstructionKind::Healthcheck(Healthcheck::Check(check)))
}

fn time(word: Option<Word>, found: &mut Vec<Diagnostic>) -> Option<Duration> {
    let word = word?;
    match duration(&word.text) {
        Some(time) if time.is_zero() => None,
        Some(time) if time < SHORTEST => {
            fail(found, word.span, format!("`{}` is too short; at least 1ms is possible", word.text))
        }
        Some(time) => Some(time),
        None => {
            let message = format!("`{}` is no duration", word.text);
            found.push(Diagnostic::error(word.span, message).hint("write for example `30s` or `1m30s`"));
            None
        }
    }
}

fn count(word: Option<Word>, found: &mut Vec<Diagnostic>) -> Option<u32> {
    let word = word?;
    let number: Option<i32> = word.text.parse().ok();
    match number.and_then(|number| u32::try_from(number).ok()) {
        Some(0) => None,
        Some(number) => Some(number),
        None => fail(found, word.span, format!("`--retries` is a number of attempts, not `{}`", word.text)),
    }
}

/// A duration as Go's `time.ParseDuration` reads it, negative ones refused: numbers with a unit each,
/// `1h15m30.5s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        let unit_length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        if whole.len() + fraction.len() == 0 || whole.len() > 19 {
            return None;
        }
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3_600 * 1_000_000_000,
            _ => return None,
        };
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        // More digits than the finest unit can show change nothing.
        let shown = &fraction[..fraction.len().min(18)];
        let part: u128 = if shown.is_empty() { 0 } else { shown.parse().ok()? };
        nanos += whole * unit + part * unit / 10u128.pow(u32::try_from(shown.len()).ok()?);
        rest = after;
    }
    // Go counts in 63 bits.
    let nanos = u64::try_from(nanos).ok().filter(|&nanos| i64::try_from(nanos).is_ok())?;
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_follow_go() {
        let table: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5s", Some(5_000_000_000)),
            ("+5s", Some(5_000_000_000)),
            ("1h15m30.918273645s", Some(4_530_918_273_645)),
            (".5s", Some(500_000_000)),
            ("5.s", Some(5_000_000_000)),
            ("1us", Some(1_000)),
            ("1µs", Some(1_000)),
            ("1μs", Some(1_000)),
            ("10ms3ns", Some(10_000_003)),
            ("9223372036854775807ns", Some(i64::MAX as u64)),
            ("9223372036854775808ns", None),
            ("", None),
            ("3", None),
            ("-1s", None),
            ("s", None),
            (".", None),
            (".s", None),
            ("1d", None),
            ("1s ", None),
            ("99999999999999999999h", None),
        ];
        for &(text, expected) in table {
            assert_eq!(duration(text).map(|time| time.as_nanos()), expected.map(u128::from), "{text}");
        }
    }
}
