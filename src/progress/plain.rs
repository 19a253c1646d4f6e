//! Progress as lines, each with its step's number, in the form that BuildKit's plain progress has.
//!
//! ```text
//! #3 [build 2/4] RUN make
//! #3 0.412 cc -o hello hello.c
//! #3 DONE 0.6s
//! ```
//! A step's own output passes as it came, colours included; the names of steps and transfers do not.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use builder::{Event, VertexId};

use super::Lines;
use crate::text;

/// A transfer says how far it is this often.
const TRANSFER_INTERVAL: Duration = Duration::from_secs(5);

/// Writes lines.
pub(super) struct Plain<W> {
    out: W,
    steps: HashMap<VertexId, Step>,
    /// How many steps have begun: they are numbered in this order.
    count: usize,
}

struct Step {
    number: usize,
    started: Duration,
    lines: Lines,
    /// When each transfer was last shown; none when it is shown to be complete.
    transfers: HashMap<String, Option<Duration>>,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(out: W) -> Plain<W> {
        Plain { out, steps: HashMap::new(), count: 0 }
    }

    /// Shows an event of the time `now` since the beginning.
    pub(super) fn show(&mut self, now: Duration, event: Event) {
        let shown = match event {
            Event::Started { vertex, name } => self.start(now, vertex, &name),
            Event::Cached { vertex } => self.end(now, vertex, "CACHED"),
            Event::Finished { vertex, elapsed } => {
                self.end(now, vertex, &format!("DONE {}", text::seconds(elapsed)))
            }
            Event::Failed { vertex, elapsed } => {
                self.end(now, vertex, &format!("ERROR {}", text::seconds(elapsed)))
            }
            Event::Output { vertex, bytes } => self.output(now, vertex, &bytes),
            Event::Transfer { vertex, label, done_bytes, total_bytes } => {
                self.transfer(now, vertex, label, done_bytes, total_bytes)
            }
            Event::Warning { .. } => Ok(()),
        };
        // Whoever closed standard error wants no progress.
        shown.ok();
    }

    fn start(&mut self, now: Duration, vertex: VertexId, name: &str) -> std::io::Result<()> {
        self.count += 1;
        let number = self.count;
        let step = Step { number, started: now, lines: Lines::default(), transfers: HashMap::new() };
        self.steps.insert(vertex, step);
        let gap = if number > 1 { "\n" } else { "" };
        write_line(&mut self.out, format!("{gap}#{number} {}", text::printable(name)).as_bytes())
    }

    fn end(&mut self, now: Duration, vertex: VertexId, how: &str) -> std::io::Result<()> {
        let Some(mut step) = self.steps.remove(&vertex) else { return Ok(()) };
        let mut rest = Vec::new();
        step.lines.flush(&mut |line| rest = log_line(step.number, now - step.started, line));
        rest.extend_from_slice(format!("#{} {how}", step.number).as_bytes());
        write_line(&mut self.out, &rest)
    }

    fn output(&mut self, now: Duration, vertex: VertexId, bytes: &[u8]) -> std::io::Result<()> {
        let Some(step) = self.steps.get_mut(&vertex) else { return Ok(()) };
        let (number, elapsed) = (step.number, now.saturating_sub(step.started));
        let mut shown = Vec::new();
        step.lines.push(bytes, &mut |line| shown.extend(log_line(number, elapsed, line)));
        self.out.write_all(&shown)
    }

    fn transfer(
        &mut self,
        now: Duration,
        vertex: VertexId,
        label: String,
        done: u64,
        total: u64,
    ) -> std::io::Result<()> {
        let Some(step) = self.steps.get_mut(&vertex) else { return Ok(()) };
        let is_complete = done >= total;
        let is_due = match step.transfers.get(&label) {
            None => is_complete || now.saturating_sub(step.started) >= TRANSFER_INTERVAL,
            Some(None) => false,
            Some(Some(shown)) => is_complete || now.saturating_sub(*shown) >= TRANSFER_INTERVAL,
        };
        if !is_due {
            return Ok(());
        }
        let progress = if is_complete {
            format!("{} done", text::size(total))
        } else {
            format!("{} / {}", text::size(done), text::size(total))
        };
        let line = format!("#{} {} {progress}", step.number, text::printable(&label));
        step.transfers.insert(label, (!is_complete).then_some(now));
        write_line(&mut self.out, line.as_bytes())
    }
}

/// One write a line, so that lines of several processes stay whole.
fn write_line(out: &mut impl Write, line: &[u8]) -> std::io::Result<()> {
    out.write_all(&[line, b"\n"].concat())
}

/// What a carriage return would overwrite on a terminal is left out.
fn log_line(number: usize, elapsed: Duration, line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let shown = line.rsplit(|&byte| byte == b'\r').find(|part| !part.is_empty()).unwrap_or_default();
    let mut log = format!("#{number} {:.3} ", elapsed.as_secs_f64()).into_bytes();
    log.extend_from_slice(shown);
    log.push(b'\n');
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(events: Vec<(u64, Event)>) -> String {
        let mut plain = Plain::new(Vec::new());
        for (millis, event) in events {
            plain.show(Duration::from_millis(millis), event);
        }
        String::from_utf8(plain.out).unwrap()
    }

    fn started(vertex: VertexId, name: &str) -> Event {
        Event::Started { vertex, name: name.into() }
    }

    fn output(vertex: VertexId, bytes: &[u8]) -> Event {
        Event::Output { vertex, bytes: bytes.into() }
    }

    #[test]
    fn lines_carry_the_number_of_their_step() {
        let elapsed = Duration::from_millis(1234);
        let text = shown(vec![
            (0, started(7, "[1/2] FROM scratch")),
            (0, Event::Cached { vertex: 7 }),
            (100, started(3, "[2/2] RUN make\u{1b}[2J")),
            (150, output(3, b"one\ntw")),
            (200, started(4, "other")),
            (250, output(3, b"o\n10%\r50%\r\nrest \x1b[31mred")),
            (300, Event::Finished { vertex: 3, elapsed }),
            (300, Event::Failed { vertex: 4, elapsed }),
            (400, output(3, b"late\n")),
        ]);
        let expected = "#1 [1/2] FROM scratch\n#1 CACHED\n\n#2 [2/2] RUN make\u{fffd}[2J\n#2 0.050 one\n\n#3 other\n\
            #2 0.150 two\n#2 0.150 50%\n#2 0.200 rest \u{1b}[31mred\n#2 DONE 1.2s\n#3 ERROR 1.2s\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn transfers_are_shown_now_and_then_and_at_the_end() {
        let moved =
            |done_bytes| Event::Transfer { vertex: 1, label: "layer".into(), done_bytes, total_bytes: 2000 };
        let text = shown(vec![
            (0, started(1, "pull")),
            (100, moved(10)),
            (5_100, moved(500)),
            (5_200, moved(600)),
            (5_300, moved(2000)),
            (5_400, moved(2000)),
        ]);
        assert_eq!(text, "#1 pull\n#1 layer 500B / 2.00kB\n#1 layer 2.00kB done\n");
    }

    #[test]
    fn endless_lines_are_cut() {
        let text = shown(vec![(0, started(1, "RUN yes")), (0, output(1, &vec![b'y'; Lines::LONGEST + 1]))]);
        assert!(text.ends_with("yyy\n"), "{}", text.len());
    }
}
