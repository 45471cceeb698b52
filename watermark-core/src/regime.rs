//! When a p-value holds: three regimes of how a text and a key can meet, kept apart as types.
//!
//! | regime | type | cells are chosen | what may be asked for |
//! |---|---|---|---|
//! | clean | [`Exhibit`], [`Battery`](crate::battery::Battery) | without the key | exact tails, any weights fixed without the key, e-values at any time |
//! | chosen | [`Chosen`] | by logs written under the key | the first n cells, n fixed beforehand; one e-value at the end |
//! | reading | [`Reading`](crate::reading::Reading) | they are the logs themselves | an e-value |
//!
//! In the *clean* regime prompts, text, weights and the decision to stop are independent of the
//! key. Given the text, scores of distinct cells are independent with the scheme's null law, and
//! all of [`stats`](crate::stats) applies.
//!
//! Logs written under a key know something about it: a green list draws text towards windows whose
//! green tokens lead there. *Which* windows the logs reached is therefore informative, and so is
//! their number. A tail that takes the number of cells as given is then no p-value
//! (DESIGN.md has a case with 0.12 false alarms at a level of 0.0625). What remains true is an order:
//! until a window is emitted for the first time,
//! the logs have not seen its row. Taken in the order of first emission, the cells' scores are
//! independent of everything before them. Hence the first n of them, for an n fixed beforehand,
//! have the exact law, and the mixture over all of them is an e-value.
//!
//! The types keep these apart: [`Chosen`] has no tail over all its cells. What no type can see is a number of
//! cells that was "fixed beforehand" after the logs were read; a report therefore says that it is not sealed.
//!
//! ```compile_fail
//! fn tail(chosen: &watermark_core::regime::Chosen, mark: &watermark_core::profile::Mark) {
//!     // Only an exhibit of the clean regime has cells that a tail may be asked for.
//!     watermark_core::battery::Battery::closed(mark, chosen);
//! }
//! ```

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::cells::Cells;
use crate::detect::{Score, Test, TestId};
use crate::profile::Mark;
use crate::sampler::SessionRecord;
use crate::stats::evalue::{LnE, Mixture};
use crate::window::{Exhibit, window};

/// Under which conditions a result holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Regime {
    /// Prompts, text, weights and stopping are independent of the key.
    Clean,
    /// Cells were chosen by logs written under the key.
    Chosen,
    /// The cells are those of logs written under the key.
    Reading,
}

/// What logs written under a key say about windows: which were emitted, and in what order.
///
/// The logs must be complete, up to the last moment from which the suspect can have learned and before it was
/// questioned: the token ids (not text tokenised again) of everything that was drawn under the key, with
/// retries, drafts and tokens that a stop string cut off. Segments come in an order in which none
/// depends on a later one: a session that reads another's output is split where it does.
/// Splitting less than the writer did, and positions that it skipped, are harmless.
pub trait WindowCounts: Sync {
    /// h.
    fn context_width(&self) -> usize;
    /// Place of the window's first emission in the logs; `None` if it was never emitted.
    fn first_emission(&self, window: &[u32]) -> Option<u64>;
    /// How often it was emitted.
    fn count(&self, window: &[u32]) -> u64;
}

/// [`WindowCounts`] in memory, exact.
#[derive(Clone, Debug)]
pub struct ExactWindows {
    context_width: usize,
    windows: HashMap<Box<[u32]>, (u64, u64)>,
    emitted: u64,
}

impl ExactWindows {
    /// No logs yet.
    pub fn new(context_width: usize) -> Self {
        Self {
            context_width,
            windows: HashMap::new(),
            emitted: 0,
        }
    }

    /// Takes in a segment as it was written, after those before it.
    ///
    /// The window after the last token counts as emitted: the end of the text, or the token that
    /// stood there and was cut off, was drawn from its row.
    pub fn push(&mut self, segment: &[u32]) {
        for at in 0..=segment.len() {
            let Some(window) = window(segment, at, self.context_width) else {
                continue;
            };
            let place = self.emitted;
            self.emitted += 1;
            match self.windows.get_mut(window) {
                Some((_, count)) => *count += 1,
                None => {
                    self.windows.insert(window.into(), (place, 1));
                }
            }
        }
    }

    /// Takes in a writer's own record.
    pub fn push_record(&mut self, record: &SessionRecord) {
        let ends = record.segments.iter().skip(1).copied();
        let ends = ends.chain([record.tokens.len()]);
        for (&start, end) in record.segments.iter().zip(ends) {
            self.push(record.tokens.get(start..end).unwrap_or_default());
        }
    }

    /// Windows emitted, repeats counted.
    pub fn emitted(&self) -> u64 {
        self.emitted
    }

    /// Distinct windows.
    pub fn distinct(&self) -> usize {
        self.windows.len()
    }
}

impl WindowCounts for ExactWindows {
    fn context_width(&self) -> usize {
        self.context_width
    }

    fn first_emission(&self, window: &[u32]) -> Option<u64> {
        self.windows.get(window).map(|&(first, _)| first)
    }

    fn count(&self, window: &[u32]) -> u64 {
        self.windows.get(window).map_or(0, |&(_, count)| count)
    }
}

/// The cells of a clean exhibit whose windows the logs emitted, in the order of first emission.
///
/// H0: the suspect's text is independent of the key; the logs may depend on it in any way. Cells
/// of one window stand together, by ascending token.
#[derive(Clone, Debug)]
pub struct Chosen {
    cells: Cells,
}

impl Chosen {
    /// The exhibit's cells that `logs` chose. Distinct cells of a self-hash mark can share a coin
    /// across windows, and a coin would be met before its place in the order: such marks have no
    /// supervised test.
    ///
    /// # Errors
    /// The mark is one of self-hash, or the logs have windows of another width.
    pub fn of(
        mark: &Mark,
        exhibit: &Exhibit,
        logs: &dyn WindowCounts,
    ) -> Result<Self, ChosenError> {
        check(mark, exhibit, logs)?;
        let cells = exhibit.cells();
        let mut order: Vec<(u64, u32, usize)> = cells
            .iter()
            .enumerate()
            .filter_map(|(index, (window, token))| {
                Some((logs.first_emission(window)?, token, index))
            })
            .collect();
        order.sort_unstable();
        let mut chosen = Cells::new(cells.context_width());
        for (_, token, index) in order {
            let (window, _) = cells.get(index);
            chosen.push(&[window, &[token]].concat());
        }
        Ok(Self { cells: chosen })
    }

    /// How many there are. The number depends on the key: it may not enter a tail.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// SHA-256 of the cells, in hexadecimal.
    pub fn digest(&self) -> String {
        crate::hex(&self.cells.digest())
    }

    /// The exact test on the first `planned` cells, where `planned` was fixed before the logs were
    /// read: with fewer cells p is 1.
    pub fn first(&self, mark: &Mark, planned: u64) -> Test {
        let null = mark.scheme().null();
        let reached = self.cells.len() as u64 >= planned;
        let score = if reached {
            let cells = self.cells.filter(|index| (index as u64) < planned);
            Score::of(&cells.scores(mark))
        } else {
            Score::default()
        };
        Test {
            regime: Regime::Chosen,
            ..Test::from_score(TestId::Supervised, null, score).under(mark)
        }
    }

    /// The e-value of all cells, looked at once: 1 / E is a p-value.
    pub fn e_value(&self, mark: &Mark) -> LnE {
        let score = Score::of(&self.cells.scores(mark));
        Mixture::standard(mark.scheme().null())
            .ln_e(score.cells, score.sum)
            .of_key_bits(mark.scheme().key_bits())
    }
}

/// The cells of an exhibit whose windows the logs never emitted: a control. Their rows were never used, so
/// given the logs and the text their scores follow the null law exactly, even for a suspect that
/// was trained on the logs.
///
/// If they fire, the logs are not all that was drawn under the key: the suspect's answers were written under it
/// after the logs end (a relay of the service), or it learned from traffic that is not in
/// them, or the slot is in use elsewhere. If they do not, that excludes none of these where the answers
/// themselves are in the logs; and they say nothing about marked text that came in through
/// the prompts, whose windows are emitted ones.
///
/// # Errors
/// The mark is one of self-hash, or the logs have windows of another width.
pub fn never_emitted(
    mark: &Mark,
    exhibit: &Exhibit,
    logs: &dyn WindowCounts,
) -> Result<Test, ChosenError> {
    check(mark, exhibit, logs)?;
    let cells = exhibit.cells();
    let unseen = cells.filter(|index| logs.first_emission(cells.get(index).0).is_none());
    let score = Score::of(&unseen.scores(mark));
    let test = Test::from_score(TestId::NeverEmitted, mark.scheme().null(), score).under(mark);
    Ok(Test {
        regime: Regime::Chosen,
        ..test
    })
}

fn check(mark: &Mark, exhibit: &Exhibit, logs: &dyn WindowCounts) -> Result<(), ChosenError> {
    if !mark.scheme().cells_are_pairs() {
        return Err(ChosenError::SharedCoins);
    }
    if logs.context_width() != exhibit.context_width() {
        return Err(ChosenError::ContextWidth {
            logs: logs.context_width(),
            exhibit: exhibit.context_width(),
        });
    }
    Ok(())
}

/// Why logs cannot choose cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChosenError {
    /// Self-hash, or another engine's function.
    #[error(
        "a self-hash mark, or one of another engine, has no test by emitted windows: one coin can be shared by many windows, so none of them is sure to be fresh when it is first emitted"
    )]
    SharedCoins,
    /// Other windows.
    #[error("the logs were counted with {logs} context tokens, the exhibit has {exhibit}")]
    ContextWidth {
        /// h of the logs.
        logs: usize,
        /// h of the exhibit.
        exhibit: usize,
    },
}
