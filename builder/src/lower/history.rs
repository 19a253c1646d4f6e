//! How history spells an instruction: the texts that BuildKit writes, which other tools show and match.

use super::Lowering;

/// Marks instructions that made a layer, as BuildKit does.
pub(super) const SUFFIX: &str = " # buildkit";

/// A list as Go prints one with `%q`: `["/bin/sh" "-c" "x"]`.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A list as Go prints one with `%v`: `[/a /b]`.
pub(super) fn plain_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A duration as Go prints one: `1m30s`, `500ms`, `0s`.
pub(super) fn duration(nanoseconds: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    let fraction = |count: i64, unit: i64, name: &str| {
        let (whole, rest) = (count / unit, count % unit);
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        let point = if unit == 1 || rest.is_empty() { String::new() } else { format!(".{rest}") };
        format!("{whole}{point}{name}")
    };
    match nanoseconds {
        0 => "0s".to_owned(),
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => fraction(n, 1_000, "µs"),
        n if n < SECOND => fraction(n, 1_000_000, "ms"),
        n => {
            let (hours, minutes) = (n / (3600 * SECOND), n / (60 * SECOND) % 60);
            let seconds = fraction(n % (60 * SECOND), SECOND, "s");
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, _) => format!("{minutes}m{seconds}"),
                _ => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

impl Lowering<'_> {
    /// `RUN |2 a=1 b=2 /bin/sh -c cmd # buildkit`: every argument in scope, then the command.
    pub(super) fn run_history(&self, args: &[String]) -> String {
        let mut words: Vec<String> = Vec::new();
        for (name, value) in &self.arguments {
            let value = self.variables.get(name).or(value.as_deref()).unwrap_or_default();
            let word = format!("{name}={value}");
            match words.iter_mut().find(|known| known.split('=').next() == Some(name)) {
                Some(known) => *known = word,
                None => words.push(word),
            }
        }
        if !words.is_empty() {
            words.insert(0, format!("|{}", words.len()));
        }
        words.extend(args.iter().cloned());
        format!("RUN {}{SUFFIX}", words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go_does() {
        let words: Vec<String> = ["/bin/sh", "-c", "echo \"a\tb\" \\ é\u{1}"].map(str::to_owned).into();
        assert_eq!(quoted_list(&words), r#"["/bin/sh" "-c" "echo \"a\tb\" \\ é\x01"]"#);
        for (nanoseconds, text) in [
            (0, "0s"),
            (1_500_000, "1.5ms"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_010_000_000, "1.01s"),
            (2_500, "2.5µs"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }
}
