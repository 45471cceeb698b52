//! How fast each test gets there.

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{BAND, Drawn, PlotError, draw_svg};
use crate::study::{Findings, Point};

/// The tests that are drawn.
const TESTS: [(&str, RGBColor); 7] = [
    ("published-windows", RGBColor(0x99, 0x99, 0x99)),
    ("closed-cells", RGBColor(0x00, 0x00, 0x00)),
    ("closed-sqrt", RGBColor(0x1b, 0x5e, 0xb3)),
    ("closed-reference", RGBColor(0x2a, 0x8f, 0x5a)),
    ("supervised", RGBColor(0x8e, 0x44, 0xad)),
    ("open-argmax", RGBColor(0xd9, 0x8c, 0x00)),
    ("open-contrast", RGBColor(0xb3, 0x1b, 0x1b)),
];

/// What a curve is cut at.
const FLOOR: f64 = -20.0;

/// log10 p against tokens, a row of panels a share and a column a mark: the median over seeds and orders.
///
/// # Errors
/// The drawing library failed.
pub fn tokens(findings: &Findings) -> Result<String, PlotError> {
    let mut marks: Vec<&str> = Vec::new();
    let mut shares: Vec<f64> = Vec::new();
    for point in &findings.points {
        if !marks.contains(&point.profile.as_str()) {
            marks.push(&point.profile);
        }
        if !shares.contains(&point.share) {
            shares.push(point.share);
        }
    }
    shares.sort_unstable_by(|a, b| b.total_cmp(a));
    let rows: Vec<(f64, &[&str])> = shares
        .iter()
        .flat_map(|&share| marks.chunks(4).map(move |marks| (share, marks)))
        .collect();
    let size = (1280, 210 * rows.len().max(1) as u32 + 60);
    draw_svg(size, |area| {
        let (legend, area) = area.split_vertically(56);
        let what = "log10 p (up is stronger) against tokens of the suspect, or of the neutral text that open tests read; \
                    median over seeds and orders; grey line: 1e-5";
        legend.draw(&Text::new(what, (20, 34), ("sans-serif", 15)))?;
        for (index, (test, colour)) in TESTS.into_iter().enumerate() {
            let x = 20 + 178 * index as i32;
            legend.draw(&Rectangle::new([(x, 16), (x + 22, 20)], colour.filled()))?;
            legend.draw(&Text::new(test, (x + 28, 10), ("sans-serif", 15)))?;
        }
        let areas = area.split_evenly((rows.len().max(1), 4));
        for ((share, marks), areas) in rows.iter().zip(areas.chunks(4)) {
            for (mark, area) in marks.iter().zip(areas) {
                panel(area, findings, mark, *share)?;
            }
        }
        Ok(())
    })
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    findings: &Findings,
    mark: &str,
    share: f64,
) -> Drawn {
    let of = |point: &&Point| point.profile == mark && point.share == share;
    let most = findings.points.iter().filter(of).map(|point| point.tokens);
    let most = most.max().unwrap_or(1).max(20) as f64;
    let title = if share == 0.0 {
        format!("{mark}, control")
    } else {
        format!("{mark}, share {share}")
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(6)
        .x_label_area_size(28)
        .y_label_area_size(36)
        .build_cartesian_2d((10.0..most).log_scale(), 1.0..FLOOR)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(8)
        .y_labels(6)
        .x_label_formatter(&|tokens| match format!("{tokens:.0}") {
            label if label.starts_with('1') => label,
            _ => String::new(),
        })
        .draw()?;
    let level = [(10.0, -5.0), (most, -5.0)];
    chart.draw_series(LineSeries::new(level, BAND.stroke_width(1)))?;
    for (test, colour) in TESTS {
        let points = findings.points.iter().filter(of);
        let line = middle(points.filter(|point| point.test == test));
        chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
    }
    Ok(())
}

/// The median curve: budget by budget over seeds and orders.
fn middle<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<(f64, f64)> {
    let mut curves: BTreeMap<(u64, usize), Vec<&Point>> = BTreeMap::new();
    for point in points {
        let curve = curves.entry((point.seed, point.rotation)).or_default();
        curve.push(point);
    }
    let len = curves.values().map(Vec::len).min().unwrap_or(0);
    (0..len)
        .map(|step| {
            let middle = |value: &dyn Fn(&Point) -> f64| {
                let mut values: Vec<f64> =
                    curves.values().map(|curve| value(curve[step])).collect();
                values.sort_unstable_by(f64::total_cmp);
                values[values.len() / 2]
            };
            let tokens = middle(&|point| point.tokens as f64);
            (tokens, middle(&|point| point.p_log10).clamp(FLOOR, 1.0))
        })
        .collect()
}
