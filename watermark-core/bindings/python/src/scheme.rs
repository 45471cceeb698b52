//! A profile under a key, and what it does with rows of windows.

use std::path::PathBuf;
use std::sync::Arc;

use ndarray::{Array1, Array2, Array3, Axis, Ix2};
use numpy::{IntoPyArray, PyArray1, PyArray3};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use watermark_core::batch::bias_rows;
use watermark_core::candidates::Candidates;
use watermark_core::prf::{Lane, Slot};
use watermark_core::profile::{Function, Mark, Profile};
use watermark_core::scheme::{Biaser, Row};

use crate::arrays::{floats, floats_mut, id_rows, ids, in_one_piece, windows, words_mut};
use crate::coins::{Coins, Pool};
use crate::error::value;
use crate::keys::{KeySource, profile, to_python};

/// A mark: profile and key. It never changes, and may be used by any number of threads.
#[pyclass(frozen, module = "watermark")]
pub(crate) struct Scheme {
    pub(crate) mark: Arc<Mark>,
}

impl Scheme {
    fn biaser(&self) -> PyResult<&dyn Biaser> {
        self.mark.scheme().as_biaser().ok_or_else(|| {
            value(format!(
                "profile {} is not a green list: it has no mask and no bias, but chooses a token. Use select() or a Session",
                self.mark.profile().id
            ))
        })
    }

    /// Refuses to give out the inside of another engine's function.
    fn check_function(&self) -> PyResult<()> {
        match self.mark.profile().function {
            Function::Wmk1 => Ok(()),
            other => Err(value(format!(
                "seeds and words are those of function wmk1, and this profile has `{other}`"
            ))),
        }
    }

    fn check_width(&self, windows: ndarray::ArrayView2<'_, u32>) -> PyResult<()> {
        let (given, wanted) = (windows.ncols(), self.mark.scheme().context_width());
        if given == wanted {
            Ok(())
        } else {
            Err(value(format!(
                "windows of {given} tokens for a scheme with {wanted} context tokens"
            )))
        }
    }
}

/// Most words that one call gives out.
const MOST_WORDS: usize = 1 << 28;

#[pymethods]
impl Scheme {
    #[new]
    #[pyo3(signature = (profile, *, key_file=None, key_line=None, slot_key=None, epoch=None, slot=None, account=0))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        profile: &Bound<'_, PyAny>,
        key_file: Option<PathBuf>,
        key_line: Option<&Bound<'_, PyAny>>,
        slot_key: Option<&Bound<'_, PyAny>>,
        epoch: Option<&str>,
        slot: Option<u32>,
        account: u32,
    ) -> PyResult<Self> {
        let profile: Profile = self::profile(profile)?;
        let key = KeySource {
            file: key_file,
            line: key_line,
            slot_key,
            epoch,
            slot,
        }
        .read()?;
        let mark = key.bind(&profile, account)?;
        Ok(Self {
            mark: Arc::new(mark),
        })
    }

    /// The profile, as its JSON form has it.
    #[getter]
    fn profile<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.mark.profile())
    }

    #[getter]
    fn profile_id(&self) -> &str {
        &self.mark.profile().id
    }

    #[getter]
    fn key_id(&self) -> String {
        self.mark.key_id().to_string()
    }

    #[getter]
    fn epoch(&self) -> String {
        self.mark.label().epoch.to_string()
    }

    #[getter]
    fn slot(&self) -> u32 {
        self.mark.label().index
    }

    #[getter]
    fn account(&self) -> u32 {
        self.mark.account()
    }

    #[getter]
    fn context_width(&self) -> usize {
        self.mark.scheme().context_width()
    }

    /// Whether the scheme is a change of logits (a green list); the others choose a token.
    #[getter]
    fn is_bias(&self) -> bool {
        self.mark.scheme().as_biaser().is_some()
    }

    /// The bonus of a green list, in nats.
    #[getter]
    fn delta(&self) -> Option<f32> {
        self.mark.scheme().as_biaser().map(Biaser::delta)
    }

    #[getter]
    fn preserves_distribution(&self) -> bool {
        self.mark.scheme().preserves_distribution()
    }

    /// The green tokens of every window as bits: token `32 i + j` is bit `j` of word `i`.
    #[pyo3(signature = (windows, vocab_size, *, out=None))]
    fn fill_masks<'py>(
        &self,
        py: Python<'py>,
        windows: &Bound<'py, PyAny>,
        vocab_size: u32,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let biaser = self.biaser()?;
        let windows = self::windows(windows)?;
        let windows = windows.view();
        self.check_width(windows)?;
        let words = vocab_size.div_ceil(32) as usize;
        let fill = |mut masks: ndarray::ArrayViewMut2<'_, u32>| {
            for (window, mut mask) in windows.rows().into_iter().zip(masks.rows_mut()) {
                let row = biaser.row(&in_one_piece(window));
                match mask.as_slice_mut() {
                    Some(mask) => fill_mask(biaser, &row, mask, vocab_size),
                    None => {
                        let mut copy = vec![0; words];
                        fill_mask(biaser, &row, &mut copy, vocab_size);
                        mask.iter_mut().zip(copy).for_each(|(to, from)| *to = from);
                    }
                }
            }
        };
        let shape = (windows.nrows(), words);
        if let Some(given) = out {
            let mut masks = words_mut("out", given)?;
            let mut masks = masks.as_array_mut();
            if masks.dim() != shape {
                return Err(value(format!(
                    "out has shape {:?}; the masks have {shape:?}",
                    masks.dim()
                )));
            }
            py.detach(|| fill(masks.view_mut()));
            return Ok(given.clone());
        }
        let mut masks = Array2::zeros(shape);
        py.detach(|| fill(masks.view_mut()));
        Ok(masks.into_pyarray(py).into_any())
    }

    /// Adds the green list's bonus to every row of logits, in place.
    #[pyo3(signature = (logits, windows, *, pool=None))]
    fn bias_(
        &self,
        py: Python<'_>,
        logits: &Bound<'_, PyAny>,
        windows: &Bound<'_, PyAny>,
        pool: Option<&Pool>,
    ) -> PyResult<()> {
        let biaser = self.biaser()?;
        let windows = self::windows(windows)?;
        let windows = windows.view();
        let mut logits = floats_mut::<Ix2>("logits", logits)?;
        let logits = logits.as_array_mut();
        py.detach(|| match pool {
            Some(pool) => pool.threads.bias_rows(biaser, windows, logits),
            None => bias_rows(biaser, windows, logits),
        })
        .map_err(value)
    }

    /// The index of the chosen candidate of every row.
    #[pyo3(signature = (probabilities, windows, coins, *, tokens=None))]
    fn select<'py>(
        &self,
        py: Python<'py>,
        probabilities: &Bound<'py, PyAny>,
        windows: &Bound<'py, PyAny>,
        coins: &mut Coins,
        tokens: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<u32>>> {
        let windows = self::windows(windows)?;
        let windows = windows.view();
        self.check_width(windows)?;
        let probabilities = floats::<Ix2>("probabilities", probabilities)?;
        let probabilities = probabilities.as_array();
        let tokens = tokens.map(|tokens| id_rows("tokens", tokens)).transpose()?;
        let tokens = tokens.as_ref().map(|tokens| tokens.view());
        let rows = probabilities.nrows();
        if windows.nrows() != rows {
            return Err(value(format!(
                "windows: {} rows for a batch of {rows}",
                windows.nrows()
            )));
        }
        if let Some(tokens) = &tokens
            && tokens.dim() != probabilities.dim()
        {
            return Err(value(format!(
                "tokens has shape {:?}; probabilities have {:?}",
                tokens.dim(),
                probabilities.dim()
            )));
        }
        let scheme = self.mark.scheme();
        let rng = &mut coins.rng;
        let chosen = py.detach(|| {
            let choose = |row: usize| {
                let ids_of_row;
                let weights = in_one_piece(probabilities.row(row));
                let candidates = match &tokens {
                    None => Candidates::dense(&weights),
                    Some(tokens) => {
                        ids_of_row = in_one_piece(tokens.row(row));
                        Candidates::pairs(&ids_of_row, &weights)
                    }
                };
                let candidates = candidates.map_err(|error| format!("row {row}: {error}"))?;
                let seed = scheme.row(&in_one_piece(windows.row(row)));
                Ok(scheme.choose(&seed, &candidates, rng) as u32)
            };
            (0..rows)
                .map(choose)
                .collect::<Result<Array1<u32>, String>>()
        });
        Ok(chosen.map_err(value)?.into_pyarray(py))
    }

    /// The score of a token in each window, in units of the null law's lattice.
    fn scores<'py>(
        &self,
        py: Python<'py>,
        windows: &Bound<'py, PyAny>,
        tokens: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let windows = self::windows(windows)?;
        let windows = windows.view();
        self.check_width(windows)?;
        let tokens = ids("tokens", tokens)?;
        let tokens = tokens.to_slice();
        if tokens.len() != windows.nrows() {
            return Err(value(format!(
                "tokens: {} for {} windows",
                tokens.len(),
                windows.nrows()
            )));
        }
        let scheme = self.mark.scheme();
        let scores: Array1<u64> = py.detach(|| {
            let cells = windows.rows().into_iter().zip(tokens.iter());
            cells
                .map(|(window, &token)| scheme.score(&scheme.row(&in_one_piece(window)), token))
                .collect()
        });
        Ok(scores.into_pyarray(py))
    }

    /// The seeds of every window's row, 32 bytes each: for other implementations of the keyed function.
    fn row_seeds<'py>(
        &self,
        py: Python<'py>,
        windows: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray3<u8>>> {
        self.check_function()?;
        let windows = self::windows(windows)?;
        let windows = windows.view();
        self.check_width(windows)?;
        let scheme = self.mark.scheme();
        let rows = windows
            .rows()
            .into_iter()
            .map(|window| scheme.row(&in_one_piece(window)));
        let rows: Vec<_> = rows.collect();
        let seeds = seeds_a_row(&rows)?;
        let mut bytes = Array3::zeros((rows.len(), seeds, 32));
        for (row, mut bytes) in rows.iter().zip(bytes.axis_iter_mut(Axis(0))) {
            for (seed, mut bytes) in row.seeds().iter().zip(bytes.rows_mut()) {
                bytes.assign(&ndarray::aview1(&seed.to_bytes()));
            }
        }
        Ok(bytes.into_pyarray(py))
    }

    /// The first words of every window's row, for each of its seeds: for other implementations of the keyed function.
    #[pyo3(signature = (windows, count, *, lane))]
    fn words<'py>(
        &self,
        py: Python<'py>,
        windows: &Bound<'py, PyAny>,
        count: usize,
        lane: &str,
    ) -> PyResult<Bound<'py, PyArray3<u32>>> {
        self.check_function()?;
        let lane = match lane {
            "green" => Lane::Green,
            "gumbel" => Lane::Gumbel,
            "tournament" => Lane::Tournament,
            "auxiliary" => Lane::Auxiliary,
            other => {
                return Err(value(format!(
                    "lane is `{other}`; it must be green, gumbel, tournament or auxiliary"
                )));
            }
        };
        if self.mark.profile().slot == Slot::Leak {
            return Err(value(
                "the words of a leak slot belong to an account each and are not given out in order",
            ));
        }
        let windows = self::windows(windows)?;
        let windows = windows.view();
        self.check_width(windows)?;
        let scheme = self.mark.scheme();
        let rows: Vec<_> = windows
            .rows()
            .into_iter()
            .map(|window| scheme.row(&in_one_piece(window)))
            .collect();
        let seeds = seeds_a_row(&rows)?;
        let total = rows.len().saturating_mul(seeds).saturating_mul(count);
        if total > MOST_WORDS {
            return Err(value(format!(
                "{total} words are too many for one call; ask for fewer"
            )));
        }
        let words = py.detach(|| {
            let mut words = Array3::zeros((rows.len(), seeds, count));
            for (row, mut words) in rows.iter().zip(words.axis_iter_mut(Axis(0))) {
                for (seed, mut words) in row.seeds().iter().zip(words.rows_mut()) {
                    seed.words(lane, words.as_slice_mut().expect("in standard layout"));
                }
            }
            words
        });
        Ok(words.into_pyarray(py))
    }

    fn __repr__(&self) -> String {
        format!(
            "Scheme(profile='{}', key_id='{}', epoch='{}', slot={})",
            self.mark.profile().id,
            self.mark.key_id(),
            self.mark.label().epoch,
            self.mark.label().index
        )
    }

    fn __copy__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __deepcopy__<'py>(slf: PyRef<'py, Self>, _memo: &Bound<'py, PyAny>) -> PyRef<'py, Self> {
        slf
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a Scheme holds a key and is not pickled; open the key file in the other process",
        ))
    }
}

/// The number of seeds of every row.
fn seeds_a_row(rows: &[Row]) -> PyResult<usize> {
    let seeds = rows.first().map_or(0, |row| row.seeds().len());
    if rows.iter().all(|row| row.seeds().len() == seeds) {
        Ok(seeds)
    } else {
        Err(value(
            "a self-hash window has a seed for each of its distinct tokens, and these windows have not equally many; ask \
             for them one at a time",
        ))
    }
}

/// A mask without bits beyond the vocabulary.
fn fill_mask(biaser: &dyn Biaser, row: &Row, mask: &mut [u32], vocab_size: u32) {
    biaser.fill_mask(row, mask);
    if let (Some(last), 1..) = (mask.last_mut(), vocab_size % 32) {
        *last &= u32::MAX >> (32 - vocab_size % 32);
    }
}
