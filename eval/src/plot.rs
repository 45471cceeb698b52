//! Figures, as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;

mod curve;
mod repeats;
mod tokens;

pub use curve::curve;
pub use repeats::repeats;
pub use tokens::tokens;

/// Why a figure could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlotError(String);

const SUSPECT: RGBColor = RGBColor(0xb3, 0x1b, 0x1b);
const CONTROL: RGBColor = RGBColor(0x1b, 0x5e, 0xb3);
const BAND: RGBColor = RGBColor(0x99, 0x99, 0x99);

/// The drawing's error, of whatever kind.
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_svg(
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Drawn,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(Into::into);
        drawn
            .and_then(|()| draw(&area))
            .and_then(|()| area.present().map_err(Into::into))
            .map_err(|error| PlotError(error.to_string()))?;
    }
    Ok(svg)
}
