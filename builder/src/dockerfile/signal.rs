//! The signals that `STOPSIGNAL` may name.

use super::diagnostic::suggest;

/// Linux's names without `SIG`, see signal(7).
const NAMES: [&str; 36] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS", "RTMIN", "RTMAX",
];

/// Whether `text` is a signal of Linux: a number up to 64, or a name in any case, with or without `SIG`.
pub fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |sign| name.strip_prefix(sign).and_then(|rest| rest.parse::<u8>().ok());
    let real_time = |number: Option<u8>, most| number.is_some_and(|number| (1..=most).contains(&number));
    NAMES.contains(&name) || real_time(offset("RTMIN+"), 15) || real_time(offset("RTMAX-"), 14)
}

/// The signal that was probably meant by `text`, with `SIG`.
pub fn nearest_signal(text: &str) -> Option<String> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    suggest(name, NAMES).map(|near| format!("SIG{near}"))
}

#[cfg(test)]
mod tests {
    use super::{is_signal, nearest_signal};

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["9", "1", "64", "TERM", "SIGTERM", "sigterm", "Quit", "RTMIN", "SIGRTMIN+3", "RTMAX-14"]
        {
            assert!(is_signal(text), "{text}");
        }
        for text in ["", "0", "65", "-9", "SIG", "SIGNO", "RTMIN+16", "RTMAX-15", "RTMAX+1", "TERM "] {
            assert!(!is_signal(text), "{text}");
        }
    }

    #[test]
    fn a_misspelt_signal_has_a_neighbour() {
        for (text, near) in [
            ("SIGTREM", Some("SIGTERM")),
            ("kil", Some("SIGKILL")),
            ("SIGHUPP", Some("SIGHUP")),
            ("99", None),
        ] {
            assert_eq!(nearest_signal(text).as_deref(), near, "{text}");
        }
    }
}
