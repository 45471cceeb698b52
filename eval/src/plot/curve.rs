//! The demo's figure.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{BAND, CONTROL, PlotError, SUSPECT, draw_svg};
use crate::demo::Outcome;

const SIZE: (u32, u32) = (760, 480);

/// log10 p against observed tokens: suspect, control, and the band of the decoys.
///
/// # Errors
/// The drawing library failed.
pub fn curve(outcome: &Outcome) -> Result<String, PlotError> {
    draw_svg(SIZE, |area| draw(area, outcome))
}

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    outcome: &Outcome,
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let points = &outcome.curve;
    let tokens = |index: usize| points[index].tokens as f64;
    let (first, last) = match points.len() {
        0 => (1.0, 2.0),
        // From a power of ten, which has a label.
        len => (tokens(0).clamp(1.0, 1000.0), tokens(len - 1).max(2.0)),
    };
    let lowest = points
        .iter()
        .flat_map(|point| [point.suspect, point.control, point.decoys[0]])
        .fold(-10.0, f64::min);
    let decoys = outcome.plan.decoys;
    let mut chart = ChartBuilder::on(area)
        .caption(
            format!(
                "p against the suspect's tokens, profile {}",
                outcome.plan.profile.id
            ),
            ("sans-serif", 18),
        )
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((first..last).log_scale(), 2.0..lowest * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("tokens observed")
        .y_desc("log10 p (lower is stronger)")
        .x_labels(12)
        // The others would run into each other near the next power of ten.
        .x_label_formatter(&|tokens| match format!("{tokens:.0}") {
            label if label.starts_with(['1', '2', '5']) => label,
            _ => String::new(),
        })
        .draw()?;

    let line = |value: &dyn Fn(usize) -> f64| -> Vec<(f64, f64)> {
        (0..points.len())
            .map(|index| (tokens(index), value(index)))
            .collect()
    };
    let mut band = line(&|index| points[index].decoys[0]);
    band.extend(line(&|index| points[index].decoys[4]).into_iter().rev());
    let entry = |colour: RGBColor| {
        move |(x, y): (i32, i32)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], colour.filled())
    };
    chart
        .draw_series(std::iter::once(Polygon::new(band, BAND.mix(0.45))))?
        .label(format!("{decoys} keys that nobody used, all of them"))
        .legend(entry(BAND));
    for (name, colour, values) in [
        (
            "student trained on marked text",
            SUSPECT,
            line(&|i| points[i].suspect),
        ),
        ("control student", CONTROL, line(&|i| points[i].control)),
    ] {
        let marks: Vec<_> = values
            .iter()
            .map(|&at| Circle::new(at, 3, colour.filled()))
            .collect();
        chart
            .draw_series(LineSeries::new(values, colour.stroke_width(2)))?
            .label(name)
            .legend(entry(colour));
        chart.draw_series(marks)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
