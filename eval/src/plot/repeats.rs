//! What becomes of an innocent model when repeats are counted.

use plotters::coord::Shift;
use plotters::prelude::*;
use statrs::distribution::{Beta, ContinuousCDF};

use super::{BAND, Drawn, PlotError, SUSPECT, draw_svg};
use crate::study::{Calibration, Findings, REPEATS, Suspect};

/// Marks with a panel each, where the study has them.
const PANELS: [&str; 2] = ["greenlist-h1", "gumbel-dual-h1"];

/// The valid tests, in colours that can be told apart without hue.
const TESTS: [(&str, RGBColor); 4] = [
    ("closed-cells", RGBColor(0x00, 0x00, 0x00)),
    ("closed-sqrt", RGBColor(0x1b, 0x5e, 0xb3)),
    ("closed-reference", RGBColor(0x2a, 0x8f, 0x5a)),
    ("open-contrast", RGBColor(0xd9, 0x8c, 0x00)),
];

/// p-values of keys that nobody used on the text of a control student, observed against expected, both as
/// -log10: valid tests follow the diagonal, the count of repeats leaves it.
///
/// # Errors
/// The drawing library failed.
pub fn repeats(findings: &Findings) -> Result<String, PlotError> {
    let panels: Vec<&str> = PANELS
        .into_iter()
        .filter(|name| sample(findings, name, REPEATS).is_some())
        .collect();
    draw_svg((480 * panels.len().max(1) as u32 + 20, 500), |area| {
        let areas = area.split_evenly((1, panels.len().max(1)));
        for (area, name) in areas.iter().zip(&panels) {
            panel(area, findings, name)?;
        }
        Ok(())
    })
}

fn sample<'a>(findings: &'a Findings, profile: &str, test: &str) -> Option<&'a Calibration> {
    findings.calibrations.iter().find(|calibration| {
        calibration.suspect == Suspect::Control
            && calibration.profile == profile
            && calibration.test == test
            && !calibration.p_log10.is_empty()
    })
}

/// The i-th smallest of n uniform numbers, i from 1: its median, and the ends of its 99 % interval.
fn order(i: usize, n: usize) -> Option<[f64; 3]> {
    let law = Beta::new(i as f64, (n + 1 - i) as f64).ok()?;
    Some([0.5, 0.005, 0.995].map(|part| -law.inverse_cdf(part).log10()))
}

fn panel(area: &DrawingArea<SVGBackend<'_>, Shift>, findings: &Findings, name: &str) -> Drawn {
    let Some(invalid) = sample(findings, name, REPEATS) else {
        return Ok(());
    };
    let n = invalid.p_log10.len();
    let top = invalid
        .p_log10
        .iter()
        .fold(4.0f64, |top, &p| top.max(-f64::from(p)));
    let right = (n as f64 + 1.0).log10() + 0.1;
    // All of the strong end, every twentieth beyond the hundredth.
    let kept = (1..=n).filter(|&i| i <= 100 || i % 20 == 0);
    let places: Vec<(usize, [f64; 3])> = kept.filter_map(|i| Some((i, order(i, n)?))).collect();
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!("{n} keys nobody used, innocent student, {name}"),
            ("sans-serif", 15),
        )
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..right, 0.0..top * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("-log10 p expected")
        .y_desc("-log10 p observed")
        .draw()?;
    let mut band: Vec<(f64, f64)> = places.iter().map(|(_, [x, low, _])| (*x, *low)).collect();
    band.extend(places.iter().rev().map(|(_, [x, _, high])| (*x, *high)));
    chart
        .draw_series(std::iter::once(Polygon::new(band, BAND.mix(0.35))))?
        .label("uniform p, 99 % pointwise")
        .legend(|(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], BAND.mix(0.6).filled()));
    let of = |calibration: &Calibration| -> Vec<(f64, f64)> {
        places
            .iter()
            .map(|(i, [x, ..])| (*x, -f64::from(calibration.p_log10[i - 1])))
            .collect()
    };
    let mut series = vec![("repeats counted (invalid)", SUSPECT, 4, invalid)];
    for (test, colour) in TESTS {
        series.extend(sample(findings, name, test).map(|found| (test, colour, 2, found)));
    }
    for (label, colour, size, calibration) in series {
        chart
            .draw_series(
                of(calibration)
                    .into_iter()
                    .map(|at| Circle::new(at, size, colour.filled())),
            )?
            .label(label)
            .legend(move |(x, y)| Circle::new((x + 6, y), size, colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
