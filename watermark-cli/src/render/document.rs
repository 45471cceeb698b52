//! A report as a document: headings, paragraphs, tables and figures, in one order and one wording for every
//! form that it is printed in.

use maud::PreEscaped;
use watermark_core::report::file::ReportFile;
use watermark_core::report::words::Statement;

use super::figure::{self, FigureError};

mod evidence;
mod material;
mod tests_run;

/// A report ready to be printed.
pub(crate) struct Document {
    pub(crate) title: String,
    pub(crate) statement: Statement,
    /// Name and value of what stands beside the verdict.
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) sections: Vec<Section>,
}

/// A heading with what belongs to it.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) blocks: Vec<Block>,
}

/// What a section is made of.
pub(crate) enum Block {
    Text(String),
    Table(Table),
    Figure(Box<Figure>),
    /// Points in time with what came about then.
    Timeline(Vec<(String, String)>),
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Text,
    /// Stands to the right.
    Number,
    /// Digests and names of files, which may be broken anywhere.
    Code,
}

/// A table.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) head: Vec<(&'static str, Column)>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// A drawing in two widths, with the same said in words.
pub(crate) struct Figure {
    /// Names it within the page.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    /// What can be seen in it.
    pub(crate) description: String,
    /// Colour class, shape and meaning of what is drawn.
    pub(crate) key: Vec<(&'static str, &'static str, String)>,
    pub(crate) wide: PreEscaped<String>,
    pub(crate) narrow: PreEscaped<String>,
}

impl Table {
    fn new(caption: impl Into<String>, head: &[(&'static str, Column)]) -> Self {
        Self {
            caption: caption.into(),
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    fn row<T: Into<String>, const N: usize>(&mut self, cells: [T; N]) {
        debug_assert_eq!(N, self.head.len());
        self.rows.push(cells.map(Into::into).into());
    }
}

impl Document {
    /// Everything that a report file holds, in order.
    pub(crate) fn of(file: &ReportFile) -> Result<Self, FigureError> {
        let report = &file.report;
        let policy = &file.configuration.policy;
        let mut facts = vec![
            ("Key", report.key.id.clone()),
            (
                "Epoch and slot",
                format!("{}, {}", report.key.epoch, report.key.slot),
            ),
            ("Profile", report.profile.id.clone()),
            (
                "Rejected at",
                format!(
                    "adjusted p of at most {:e}, with at least {} scored cells",
                    policy.alpha, policy.min_cells
                ),
            ),
            (
                "Read",
                format!(
                    "{} tokens of the suspect in {} answers, {} distinct cells",
                    report.suspect.counts.tokens,
                    report.suspect.counts.segments,
                    report.suspect.counts.cells
                ),
            ),
        ];
        if let Some(plan) = &report.plan {
            facts.push(("Plan", format!("{}, SHA-256 {}", plan.id, plan.digest)));
        }
        if let Some(commitment) = &report.commitment {
            facts.push(("Commitment", format!("root {}", commitment.root)));
        }
        Ok(Self {
            title: format!("Is this model independent of key {}?", report.key.id),
            statement: Statement::of(file),
            facts,
            sections: vec![
                evidence::warnings(report),
                evidence::by_cells(file)?,
                tests_run::all(report),
                evidence::unused_keys(file)?,
                evidence::controls(file),
                evidence::effect(file)?,
                evidence::parts(file)?,
                material::materials(file),
                material::custody(file),
                material::reading(),
            ],
        })
    }
}

/// A drawing in both widths.
fn drawing(
    id: &'static str,
    title: String,
    description: String,
    key: Vec<(&'static str, &'static str, String)>,
    draw: impl Fn(figure::Size) -> Result<String, FigureError>,
) -> Result<Block, FigureError> {
    let one = |size| {
        let svg = draw(size)?;
        Ok(PreEscaped(figure::themed(
            &svg,
            id,
            size,
            &title,
            &description,
        )))
    };
    let (wide, narrow) = (one(figure::Size::Wide)?, one(figure::Size::Narrow)?);
    Ok(Block::Figure(Box::new(Figure {
        id,
        title,
        description,
        key,
        wide,
        narrow,
    })))
}
