//! Progress on a terminal: what is done scrolls up as lines, what runs is redrawn below.
//!
//! Each running step has a line with its elapsed time, below it the last lines of its output and a bar for
//! each of its transfers. Everything shown has lost its control sequences first.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use builder::{Event, VertexId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Lines;
use crate::text;

/// How many lines of its output a running step shows.
const TAIL_LINES: usize = 4;
/// What stands before each of them.
const MARGIN: &str = "  │ ";
/// How often the spinners turn.
const TICK: Duration = Duration::from_millis(100);

/// A live display on standard error.
pub(super) struct Tty {
    live: MultiProgress,
    steps: HashMap<VertexId, Step>,
    /// Whether a line was written that has no end yet.
    is_behind_line: bool,
}

struct Step {
    name: String,
    head: ProgressBar,
    lines: Lines,
    tail: VecDeque<String>,
    /// Shows `tail`, once there is one: all its lines at once, so that every frame has them as they were together.
    shown: Option<ProgressBar>,
    transfers: HashMap<String, ProgressBar>,
}

impl Tty {
    pub(super) fn new() -> Tty {
        Tty { live: MultiProgress::new(), steps: HashMap::new(), is_behind_line: false }
    }

    pub(super) fn show(&mut self, _now: Duration, event: Event) {
        match event {
            Event::Started { vertex, name } => self.start(vertex, &name),
            Event::Cached { vertex } => self.end(vertex, "✔", "CACHED"),
            Event::Finished { vertex, elapsed } => self.end(vertex, "✔", &text::seconds(elapsed)),
            Event::Failed { vertex, elapsed } => self.end(vertex, "✘", &text::seconds(elapsed)),
            Event::Output { vertex, bytes } => self.output(vertex, &bytes),
            Event::Transfer { vertex, label, done_bytes, total_bytes } => {
                self.transfer(vertex, &label, done_bytes, total_bytes);
            }
            Event::Warning { .. } => {}
        }
    }

    /// Takes away all that is live. Says whether the cursor is at the end of a line, where the library leaves it.
    pub(super) fn finish(&mut self) -> bool {
        for (_, step) in self.steps.drain() {
            step.clear(&self.live);
        }
        // A terminal that is gone needs no clearing.
        self.live.clear().ok();
        std::mem::take(&mut self.is_behind_line)
    }

    fn start(&mut self, vertex: VertexId, name: &str) {
        let name = text::printable(name);
        let head =
            self.live.add(ProgressBar::new_spinner().with_style(style("{spinner} {wide_msg} {elapsed:>5}")));
        head.set_message(name.clone());
        head.enable_steady_tick(TICK);
        let step = Step {
            name,
            head,
            lines: Lines::default(),
            tail: VecDeque::new(),
            shown: None,
            transfers: HashMap::new(),
        };
        self.steps.insert(vertex, step);
    }

    fn end(&mut self, vertex: VertexId, mark: &str, how: &str) {
        let Some(step) = self.steps.remove(&vertex) else { return };
        let line = format!("{mark} {} {how}", step.name);
        step.clear(&self.live);
        // A terminal that is gone shows nothing.
        self.live.println(line).ok();
        self.is_behind_line = true;
    }

    fn output(&mut self, vertex: VertexId, bytes: &[u8]) {
        let Some(step) = self.steps.get_mut(&vertex) else { return };
        let Step { lines, tail, shown, head, .. } = step;
        lines.push(bytes, &mut |line| {
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(text::plain_line(line));
        });
        if tail.is_empty() {
            return;
        }
        let bar = shown.get_or_insert_with(|| {
            self.live.insert_after(head, ProgressBar::new_spinner().with_style(style("{msg}")))
        });
        let width = columns().saturating_sub(MARGIN.chars().count());
        let lines: Vec<String> =
            tail.iter().map(|line| format!("{MARGIN}{}", text::shorten(line, width))).collect();
        bar.set_message(lines.join("\n"));
    }

    fn transfer(&mut self, vertex: VertexId, label: &str, done: u64, total: u64) {
        let Some(step) = self.steps.get_mut(&vertex) else { return };
        if done >= total {
            if let Some(bar) = step.transfers.remove(label) {
                self.live.remove(&bar);
            }
            return;
        }
        let bar = step.transfers.entry(label.to_owned()).or_insert_with(|| {
            let bar = ProgressBar::new(total)
                .with_style(style("  │ {msg:20!} {wide_bar} {decimal_bytes:>9} / {decimal_total_bytes:<9}"));
            let bar = self.live.insert_after(step.shown.as_ref().unwrap_or(&step.head), bar);
            bar.set_message(text::printable(label));
            bar
        });
        bar.set_position(done);
    }
}

impl Step {
    fn clear(self, live: &MultiProgress) {
        for bar in self.shown.iter().chain(self.transfers.values()).chain([&self.head]) {
            live.remove(bar);
        }
    }
}

/// How wide the terminal is now. The library cuts single lines only.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    size.map(|size| size.ws_col).filter(|&columns| columns > 0).unwrap_or(80).into()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are tested")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws on an emulated terminal of 60 columns and 12 lines.
    #[test]
    fn what_runs_is_below_what_is_done() {
        let screen = indicatif::InMemoryTerm::new(12, 60);
        let target = indicatif::ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let mut tty = Tty { live: MultiProgress::with_draw_target(target), ..Tty::new() };
        let now = Duration::ZERO;
        tty.show(now, Event::Started { vertex: 1, name: "FROM scratch".into() });
        tty.show(now, Event::Started { vertex: 2, name: "RUN make".into() });
        tty.show(now, Event::Cached { vertex: 1 });
        let bytes = b"1\n2\n3\n\x1b[31m4\x1b[0m\n5\n".to_vec();
        tty.show(now, Event::Output { vertex: 2, bytes });
        let transfer =
            |done_bytes| Event::Transfer { vertex: 2, label: "layer".into(), done_bytes, total_bytes: 100 };
        tty.show(now, transfer(50));
        for step in tty.steps.values() {
            step.head.disable_steady_tick();
            step.head.tick();
        }
        let drawn = screen.contents();
        assert!(drawn.starts_with("✔ FROM scratch CACHED\n"), "{drawn}");
        assert!(drawn.contains("RUN make"), "{drawn}");
        let lines: Vec<&str> = drawn.lines().map(str::trim).collect();
        assert_eq!(lines[2..6], ["│ 2", "│ 3", "│ 4", "│ 5"], "{drawn}");
        assert!(lines[6].starts_with("│ layer") && lines[6].ends_with("50 B / 100 B"), "{drawn}");

        tty.show(now, transfer(100));
        tty.show(now, Event::Failed { vertex: 2, elapsed: Duration::from_secs(2) });
        assert!(tty.finish());
        assert_eq!(screen.contents(), "✔ FROM scratch CACHED\n✘ RUN make 2.0s");
    }
}
