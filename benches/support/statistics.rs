//! Medians, spreads, the slope of a line.

/// What the rounds of one entrant amount to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Summary {
    /// Of all rounds after the warm-up.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
}

impl Summary {
    /// None without values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Summary> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[half] } else { (values[half - 1] + values[half]) / 2.0 };
        Some(Summary { median, min, max })
    }
}

/// Seconds with three digits that count, in the unit that suits them.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        long if long >= 0.9995 => format!("{} s", digits(long)),
        middle if middle >= 0.000_999_5 => format!("{} ms", digits(middle * 1e3)),
        short => format!("{} µs", digits(short * 1e6)),
    }
}

/// Three digits that count, at most two behind the point.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 99.95 => format!("{value:.0}"),
        middle if middle >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `(a, b)` of the straight line `y = a x^b` through points in logarithmic paper, by least squares.
pub(crate) fn power_law(points: &[(f64, f64)]) -> (f64, f64) {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let (slope, offset) = line(&logs);
    (offset.exp(), slope)
}

/// Slope and offset of the straight line through points, by least squares.
pub(crate) fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let above = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    let below = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    (above / below, mean_y - above / below * mean_x)
}
