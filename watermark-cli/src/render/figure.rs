//! Figures of a report, as SVG within a page.
//!
//! Drawn by plotters in fixed colours; every colour is then given a class, so that the page's style decides and a
//! figure follows light, dark and paper. Without the style the colours drawn remain.

use plotters::coord::Shift;
use plotters::prelude::*;
use watermark_core::report::file::ReportFile;
use watermark_core::report::series::Point;
use watermark_core::stats::LnP;

/// Why a figure could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FigureError(String);

/// For a page, and for a telephone: letters keep their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Wide,
    Narrow,
}

impl Size {
    fn pixels(self) -> (u32, u32) {
        match self {
            Self::Wide => (760, 380),
            Self::Narrow => (340, 300),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    fn ticks(self) -> usize {
        match self {
            Self::Wide => 10,
            Self::Narrow => 5,
        }
    }
}

const INK: RGBColor = RGBColor(0x1c, 0x1c, 0x1e);
const RULE: RGBColor = RGBColor(0xd4, 0xd4, 0xda);
const MUTED: RGBColor = RGBColor(0x5c, 0x5c, 0x63);
const SUSPECT: RGBColor = RGBColor(0xa3, 0x17, 0x2f);
const CONTROL: RGBColor = RGBColor(0x15, 0x59, 0xa5);
const BAND: RGBColor = RGBColor(0x8e, 0x8e, 0x96);
/// The colours with their names in the style.
const NAMES: [(RGBColor, &str); 6] = [
    (INK, "ink"),
    (RULE, "rule"),
    (MUTED, "muted"),
    (SUSPECT, "suspect"),
    (CONTROL, "control"),
    (BAND, "band"),
];
/// As plotters counts it: 1.24 of a pixel.
const FONT: u32 = 16;

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_svg(size: Size, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, FigureError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size.pixels()).into_drawing_area();
        draw(&area)
            .and_then(|()| area.present().map_err(Into::into))
            .map_err(|error| FigureError(error.to_string()))?;
    }
    Ok(svg)
}

/// The drawing as a part of a page: it has a name and a description, fits its column, and takes the page's
/// colours.
pub(crate) fn themed(svg: &str, id: &str, size: Size, title: &str, description: &str) -> String {
    let (width, height) = size.pixels();
    let name = size.name();
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let escape = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let mut out = format!(
        "<svg class=\"{name}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-{name}-t {id}-{name}-d\">\n<title id=\"{id}-{name}-t\">{}</title>\n<desc id=\"{id}-{name}-d\">{}</desc>{body}",
        escape(title),
        escape(description)
    );
    for (RGBColor(r, g, b), class) in NAMES {
        for attribute in ["fill", "stroke"] {
            let drawn = format!("{attribute}=\"#{r:02X}{g:02X}{b:02X}\"");
            out = out.replace(&drawn, &format!("{drawn} class=\"{attribute}-{class}\""));
        }
    }
    out
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// log10 p against cells: suspect, control, band of the unused keys, alpha.
pub(crate) fn by_cells(file: &ReportFile, size: Size) -> Result<String, FigureError> {
    let series = &file.series;
    let both = || series.suspect.iter().chain(&series.control);
    let alpha = file.configuration.policy.alpha.log10();
    let first = both().map(|point| point.cells).min().unwrap_or(1).max(1) as f64;
    let last = both().map(|point| point.cells).max().unwrap_or(2) as f64;
    let last = last.max(first * 1.5);
    let lowest = both()
        .flat_map(|point| [Some(point.p), point.decoys.map(|band| band[0])])
        .flatten()
        .map(LnP::log10)
        .fold(alpha * 1.4, f64::min);
    draw_svg(size, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(48)
            .y_label_area_size(58)
            .build_cartesian_2d((first..last).log_scale(), -lowest * 0.04..lowest * 1.05)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RULE)
            .axis_style(MUTED)
            .label_style(text(FONT))
            .axis_desc_style(text(FONT))
            .x_desc("scored cells")
            .y_desc("log10 p")
            .x_labels(size.ticks() + 2)
            .y_labels(6)
            .x_label_formatter(&|cells| round_label(*cells, size))
            .y_label_formatter(&|p| format!("{p:.0}").replace("-0", "0"))
            .draw()?;
        let banded = |low: usize, high: usize| -> Vec<(f64, f64)> {
            let at = |index: usize| {
                let points = series.suspect.iter();
                points.filter_map(move |point| {
                    Some((point.cells as f64, point.decoys?[index].log10()))
                })
            };
            at(low)
                .chain(at(high).collect::<Vec<_>>().into_iter().rev())
                .collect()
        };
        for (low, high, strength) in [(0, 4, 0.3), (1, 3, 0.4)] {
            let band = banded(low, high);
            if !band.is_empty() {
                chart.draw_series([Polygon::new(band, BAND.mix(strength))])?;
            }
        }
        chart.draw_series(DashedLineSeries::new(
            [(first, alpha), (last, alpha)],
            3,
            4,
            MUTED.stroke_width(1),
        ))?;
        let line = |points: &[Point]| -> Vec<(f64, f64)> {
            let points = points.iter();
            points
                .map(|point| (point.cells as f64, point.p.log10()))
                .collect()
        };
        chart.draw_series(DashedLineSeries::new(
            line(&series.control),
            7,
            4,
            CONTROL.stroke_width(2),
        ))?;
        let suspect = line(&series.suspect);
        chart.draw_series(LineSeries::new(suspect.clone(), SUSPECT.stroke_width(2)))?;
        chart.draw_series(
            suspect
                .into_iter()
                .map(|at| Circle::new(at, 3, SUSPECT.filled())),
        )?;
        Ok(())
    })
}

/// Powers of ten, on a page also their doubles and halves; other ticks have no label, which would run into these.
fn round_label(value: f64, size: Size) -> String {
    let label = format!("{value:.0}");
    let zeros = label.len() > 1 && label[1..].bytes().all(|digit| digit == b'0');
    let leading: &[char] = match size {
        Size::Wide => &['1', '2', '5'],
        Size::Narrow => &['1'],
    };
    match label.starts_with(leading) && (zeros || label.len() == 1) {
        true => label,
        false => String::new(),
    }
}

/// Standard scores as a histogram, with the normal curve and a mark.
pub(crate) fn histogram(
    scores: &[f64],
    marked: Option<f64>,
    x: &str,
    y: &str,
    size: Size,
) -> Result<String, FigureError> {
    let fold = |start: f64, pick: fn(f64, f64) -> f64| {
        scores.iter().chain(&marked).copied().fold(start, pick)
    };
    let (low, high) = (fold(-3.0, f64::min) - 0.5, fold(3.0, f64::max) + 0.5);
    // Bins of a quarter, or as wide as a line where the mark is far away.
    let width = (0.25f64).max((high - low) / f64::from(size.pixels().0) * 4.0);
    let bin = |z: f64| ((z - low) / width).floor();
    let mut counts = std::collections::BTreeMap::<i64, u64>::new();
    for &score in scores {
        *counts.entry(bin(score) as i64).or_default() += 1;
    }
    let expected = |z: f64| {
        scores.len() as f64 * width * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
    };
    let most = counts.values().copied().max().unwrap_or(1) as f64;
    let top = most.max(expected(0.0)) * 1.1;
    draw_svg(size, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(48)
            .y_label_area_size(58)
            .build_cartesian_2d(low..high, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RULE)
            .axis_style(MUTED)
            .label_style(text(FONT))
            .axis_desc_style(text(FONT))
            .x_desc(x)
            .y_desc(y)
            .x_labels(size.ticks())
            .y_labels(5)
            .x_label_formatter(&|z| format!("{z:.0}").replace("-0", "0"))
            .y_label_formatter(&|count| format!("{count:.0}"))
            .draw()?;
        chart.draw_series(counts.iter().map(|(&bin, &count)| {
            let left = low + bin as f64 * width;
            Rectangle::new(
                [(left, 0.0), (left + width, count as f64)],
                BAND.mix(0.6).filled(),
            )
        }))?;
        let (from, to) = (low.max(-4.5), high.min(4.5));
        let curve = (0..=90).map(|step| {
            let z = from + (to - from) * f64::from(step) / 90.0;
            (z, expected(z))
        });
        chart.draw_series(LineSeries::new(curve, MUTED.stroke_width(2)))?;
        if let Some(z) = marked {
            chart.draw_series(LineSeries::new(
                [(z, 0.0), (z, top * 0.9)],
                SUSPECT.stroke_width(3),
            ))?;
            chart.draw_series([Circle::new((z, top * 0.9), 5, SUSPECT.filled())])?;
        }
        Ok(())
    })
}

/// Points of a quantile plot at most: all of the smallest p, which matter, and fewer of the rest.
const QUANTILES: usize = 160;

/// -log10 of ascending p-values against that of the uniform law.
pub(crate) fn quantiles(p: &[LnP], size: Size) -> Result<String, FigureError> {
    let count = p.len() as f64;
    let every = |index: usize| {
        let step = p.len().div_ceil(QUANTILES);
        index < QUANTILES / 4 || index.is_multiple_of(step)
    };
    let points: Vec<(f64, f64)> = p
        .iter()
        .enumerate()
        .filter(|&(index, _)| every(index))
        .map(|(index, p)| (-((index as f64 + 0.5) / count).log10(), 0.0 - p.log10()))
        .collect();
    let most = points
        .iter()
        .fold(1.0, |most: f64, &(x, y)| most.max(x).max(y))
        * 1.05;
    draw_svg(size, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(48)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..most, 0.0..most)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RULE)
            .axis_style(MUTED)
            .label_style(text(FONT))
            .axis_desc_style(text(FONT))
            .x_desc("-log10 p, uniform")
            .y_desc("-log10 p, found")
            .x_labels(5)
            .y_labels(5)
            .x_label_formatter(&|p| format!("{p:.1}"))
            .y_label_formatter(&|p| format!("{p:.1}"))
            .draw()?;
        chart.draw_series(LineSeries::new(
            [(0.0, 0.0), (most, most)],
            MUTED.stroke_width(1),
        ))?;
        chart.draw_series(
            points
                .into_iter()
                .map(|at| Circle::new(at, 3, BAND.filled())),
        )?;
        Ok(())
    })
}

/// The effect with its interval, beside chance; over the curve of calibration students where there is one.
pub(crate) fn effect(file: &ReportFile, size: Size) -> Result<String, FigureError> {
    let effect = &file.report.effect;
    let [low, high] = effect.interval.unwrap_or([effect.excess; 2]);
    let chance = 2.0 * effect.null_sd;
    let curve = file.dose.as_ref().map(|dose| &dose.curve.points[..]);
    let points = curve.unwrap_or_default();
    let excesses = || points.iter().map(|&(_, excess)| excess);
    let least = excesses().fold(low.min(-chance), f64::min);
    let most = excesses().fold(high.max(chance), f64::max);
    let room = ((most - least) * 0.08).max(1e-6);
    let range = least - room..most + room;
    // Rows of the figure without a curve: chance and suspect on one line.
    let share = file.dose.as_ref().map(|dose| dose.exposure.share);
    let (x_range, at) = match share {
        Some(share) => (0.0..1.0, share),
        None => (0.0..1.0, 0.5),
    };
    draw_svg(size, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_right(16)
            .x_label_area_size(if curve.is_some() { 48 } else { 8 })
            .y_label_area_size(76)
            .build_cartesian_2d(x_range, range)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT)
            .bold_line_style(RULE)
            .axis_style(MUTED)
            .label_style(text(FONT))
            .axis_desc_style(text(FONT))
            .y_desc("excess score a token")
            .y_labels(6)
            .y_label_formatter(&|excess| format!("{excess:+.3}"));
        match curve {
            Some(_) => mesh
                .x_desc("share of marked training data")
                .x_labels(size.ticks())
                .x_label_formatter(&|share| format!("{share:.1}"))
                .draw()?,
            None => mesh.disable_x_mesh().disable_x_axis().draw()?,
        }
        chart.draw_series([Rectangle::new(
            [(0.0, -chance), (1.0, chance)],
            BAND.mix(0.35).filled(),
        )])?;
        chart.draw_series(DashedLineSeries::new(
            points.to_vec(),
            7,
            4,
            CONTROL.stroke_width(2),
        ))?;
        chart.draw_series(
            points
                .iter()
                .map(|&at| TriangleMarker::new(at, 5, CONTROL.filled())),
        )?;
        chart.draw_series(LineSeries::new(
            [(at, low), (at, high)],
            SUSPECT.stroke_width(2),
        ))?;
        for end in [low, high] {
            let cap = [(at - 0.012, end), (at + 0.012, end)];
            chart.draw_series(LineSeries::new(cap, SUSPECT.stroke_width(2)))?;
        }
        chart.draw_series([Circle::new((at, effect.excess), 5, SUSPECT.filled())])?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_has_its_class_and_nothing_else_is_drawn() {
        let scores: Vec<f64> = (0..200).map(|i| f64::from(i % 41) / 10.0 - 2.0).collect();
        for size in [Size::Wide, Size::Narrow] {
            let svg = histogram(&scores, Some(30.0), "z", "keys", size).unwrap();
            let page = themed(&svg, "decoys", size, "a < b", "c & d");
            assert!(page.contains("role=\"img\"") && page.contains("a &lt; b"));
            assert!(!page.contains("<?xml") && !page.contains("width=\"760\" height"));
            for attribute in ["fill=\"#", "stroke=\"#"] {
                for (at, _) in page.match_indices(attribute) {
                    let rest = &page[at..(at + 40).min(page.len())];
                    assert!(rest.contains("class=\""), "{rest}");
                }
            }
        }
    }

    #[test]
    fn figures_of_extremes_can_be_drawn() {
        for p in [vec![], vec![LnP::ONE], vec![LnP::from_ln(-1e6), LnP::ONE]] {
            quantiles(&p, Size::Narrow).unwrap();
        }
        for (scores, marked) in [(vec![], None), (vec![0.0], Some(-400.0)), (vec![1e4], None)] {
            histogram(&scores, marked, "z", "keys", Size::Wide).unwrap();
        }
    }
}
