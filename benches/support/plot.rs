//! A picture of straight lines in logarithmic paper, as SVG: a panel for each series, with the exponent of its slope.

use std::fmt::Write as _;

use super::statistics::{power_law, time};

/// One line of points: size and seconds.
pub(crate) struct Series {
    pub(crate) title: &'static str,
    pub(crate) units: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const COLUMNS: usize = 3;
const PANEL: (f64, f64) = (330.0, 250.0);
/// Left, top, right and bottom of what is round a panel's paper.
const MARGIN: (f64, f64, f64, f64) = (62.0, 40.0, 18.0, 44.0);

/// The whole picture.
pub(crate) fn svg(series: &[Series]) -> String {
    let rows = series.len().div_ceil(COLUMNS);
    let (width, height) = (COLUMNS as f64 * PANEL.0, rows as f64 * PANEL.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#fbfcfd\"/>\n"
    );
    for (number, series) in series.iter().enumerate() {
        let (x, y) = ((number % COLUMNS) as f64 * PANEL.0, (number / COLUMNS) as f64 * PANEL.1);
        writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", panel(series)).expect("a string");
    }
    svg + "</svg>\n"
}

/// Logarithmic axes from one power of ten to another.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Holds all `values`, drawn from `from` to `to`.
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min).log10();
        let high = values.fold(0.0, f64::max).log10();
        let (low, high) = ((low - 0.05).floor(), (high + 0.05).ceil());
        Axis { low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value.log10() - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let high = self.high;
        std::iter::successors(Some(self.low), |power| Some(power + 1.0))
            .take_while(move |power| *power <= high)
            .map(|power| 10_f64.powf(power))
    }
}

fn panel(series: &Series) -> String {
    let (left, top, right, bottom) = MARGIN;
    let (right, bottom) = (PANEL.0 - right, PANEL.1 - bottom);
    let x = Axis::over(series.points.iter().map(|point| point.0), left, right);
    let y = Axis::over(series.points.iter().map(|point| point.1), bottom, top);
    let mut out = String::new();
    let mut add = |line: String| {
        out += &line;
        out.push('\n');
    };
    add(text(left, 22.0, "start", "#20242c", "bold", series.title));
    for tick in x.ticks() {
        let at = x.place(tick);
        add(format!("<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#e3e6ea\"/>"));
        add(text(at, bottom + 16.0, "middle", "#5b6470", "normal", &count(tick)));
    }
    for tick in y.ticks() {
        let at = y.place(tick);
        add(format!("<path d=\"M{left} {at:.1}H{right}\" stroke=\"#e3e6ea\"/>"));
        add(text(left - 6.0, at + 4.0, "end", "#5b6470", "normal", &round_time(tick)));
    }
    add(text(f64::midpoint(left, right), bottom + 34.0, "middle", "#5b6470", "normal", series.units));
    let places: Vec<(f64, f64)> =
        series.points.iter().map(|point| (x.place(point.0), y.place(point.1))).collect();
    let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    add(format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#3b6ea5\" stroke-width=\"2\"/>",
        line.join(" ")
    ));
    for ((x, y), (_, seconds)) in places.iter().zip(&series.points) {
        add(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"#3b6ea5\"/>"));
        // Left of a line that rises.
        add(text(x - 7.0, y - 5.0, "end", "#20242c", "normal", &time(*seconds)));
    }
    let (_, exponent) = power_law(&series.points);
    add(text(right - 6.0, bottom - 8.0, "end", "#3b6ea5", "normal", &format!("time ~ n^{exponent:.2}")));
    out
}

fn text(x: f64, y: f64, anchor: &str, fill: &str, weight: &str, text: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{fill}\" font-weight=\"{weight}\">{text}</text>"
    )
}

/// A power of ten as people write it.
fn count(value: f64) -> String {
    match value {
        large if large >= 1e6 => format!("{:.0}M", value / 1e6),
        middle if middle >= 1e3 => format!("{:.0}k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

fn round_time(seconds: f64) -> String {
    if seconds < 0.9 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.0} s") }
}
