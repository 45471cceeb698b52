//! Batches: rows of logits as ndarray views, one sequence a row.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};
use rand_core::Rng;

use crate::candidates::{CandidateBuffer, NoCandidate, Sampling};
use crate::sampler::Session;
use crate::scheme::Biaser;

/// A batch whose parts do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Other numbers of rows.
    #[error("{what}: {given} rows for a batch of {rows}")]
    Rows {
        /// Which part.
        what: &'static str,
        /// Its rows.
        given: usize,
        /// Rows of the logits.
        rows: usize,
    },
    /// Windows of another width than the scheme's.
    #[error("windows of {given} tokens for a scheme with {wanted} context tokens")]
    ContextWidth {
        /// Tokens a window.
        given: usize,
        /// The scheme's h.
        wanted: usize,
    },
    /// A row without a candidate.
    #[error("row {row}: no candidate has a positive, finite weight")]
    NoCandidate {
        /// The row.
        row: usize,
    },
}

/// Adds a green list's bonus to every row of `logits` (rows x vocabulary), in place;
/// `windows` is rows x h.
pub fn bias_rows(
    scheme: &dyn Biaser,
    windows: ArrayView2<'_, u32>,
    mut logits: ArrayViewMut2<'_, f32>,
) -> Result<(), BatchError> {
    check_rows("windows", windows.nrows(), logits.nrows())?;
    if windows.ncols() != scheme.context_width() {
        return Err(BatchError::ContextWidth {
            given: windows.ncols(),
            wanted: scheme.context_width(),
        });
    }
    for (window, mut row) in windows.rows().into_iter().zip(logits.rows_mut()) {
        let seed = scheme.row(&contiguous(window));
        match row.as_slice_mut() {
            Some(row) => scheme.bias(&seed, row),
            None => {
                let mut copy = row.to_vec();
                scheme.bias(&seed, &mut copy);
                row.iter_mut().zip(copy).for_each(|(to, from)| *to = from);
            }
        }
    }
    Ok(())
}

/// One step of every sequence: row i of `logits` (rows x vocabulary) to the next token of
/// `sessions[i]`, drawn with `coins[i]` and accepted.
///
/// Where a row has no candidate, the rows before it have been accepted and the others not.
pub fn sample_rows<R: Rng>(
    sessions: &mut [Session<'_>],
    logits: ArrayView2<'_, f32>,
    sampling: &Sampling,
    buffer: &mut CandidateBuffer,
    coins: &mut [R],
    tokens: &mut Vec<u32>,
) -> Result<(), BatchError> {
    check_rows("sessions", sessions.len(), logits.nrows())?;
    check_rows("coins", coins.len(), logits.nrows())?;
    tokens.clear();
    let rows = logits.rows().into_iter().zip(sessions).zip(coins);
    for (row, ((logits, session), coins)) in rows.enumerate() {
        let token = session
            .sample(&contiguous(logits), sampling, buffer, coins)
            .map_err(|NoCandidate| BatchError::NoCandidate { row })?;
        tokens.push(token);
    }
    Ok(())
}

fn check_rows(what: &'static str, given: usize, rows: usize) -> Result<(), BatchError> {
    if given == rows {
        Ok(())
    } else {
        Err(BatchError::Rows { what, given, rows })
    }
}

/// The row itself where it lies in one piece, else a copy.
fn contiguous<'a, T: Clone>(row: ArrayView1<'a, T>) -> std::borrow::Cow<'a, [T]> {
    match row.to_slice() {
        Some(slice) => slice.into(),
        None => row.to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::{Mark, Profile};
    use crate::sampler::Outcome;
    use ndarray::{Array2, ShapeBuilder};
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    fn mark() -> Mark {
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        Profile::built_in("greenlist-h2")
            .unwrap()
            .bind(&key)
            .unwrap()
    }

    #[test]
    fn a_batch_equals_its_rows_in_any_memory_order() {
        let mark = mark();
        let biaser = mark.scheme().as_biaser().unwrap();
        let windows = Array2::from_shape_fn((3, 2), |(i, j)| (7 * i + j) as u32);
        let plain = Array2::from_shape_fn((3, 45), |(i, j)| (i * j) as f32 * 0.1);
        let mut rows = plain.clone();
        for (window, mut row) in windows.rows().into_iter().zip(rows.rows_mut()) {
            let seed = biaser.row(window.as_slice().unwrap());
            biaser.bias(&seed, row.as_slice_mut().unwrap());
        }
        assert_ne!(rows, plain);
        let mut batch = plain.clone();
        bias_rows(biaser, windows.view(), batch.view_mut()).unwrap();
        assert_eq!(batch, rows);
        let mut strided = Array2::zeros((3, 45).f());
        strided.assign(&plain);
        bias_rows(biaser, windows.view(), strided.view_mut()).unwrap();
        assert_eq!(strided, rows);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let mark = mark();
        let biaser = mark.scheme().as_biaser().unwrap();
        let mut logits = Array2::zeros((3, 40));
        let narrow = Array2::zeros((3, 1));
        let few = Array2::zeros((2, 2));
        assert!(matches!(
            bias_rows(biaser, narrow.view(), logits.view_mut()),
            Err(BatchError::ContextWidth {
                given: 1,
                wanted: 2
            })
        ));
        assert!(matches!(
            bias_rows(biaser, few.view(), logits.view_mut()),
            Err(BatchError::Rows {
                given: 2,
                rows: 3,
                ..
            })
        ));
    }

    #[test]
    fn sampled_rows_equal_single_sessions() {
        let mark = mark();
        let logits = Array2::from_shape_fn((2, 40), |(i, j)| ((i + 1) * j) as f32 * 0.05);
        let fresh = || {
            let mut session = Session::new(&mark);
            session.accept(1, Outcome::Marked);
            session.accept(2, Outcome::Marked);
            session
        };
        let mut sessions = [fresh(), fresh()];
        let mut coins = [0, 1].map(ChaCha8Rng::seed_from_u64);
        let mut buffer = CandidateBuffer::default();
        let mut tokens = Vec::new();
        let sampling = Sampling::default();
        sample_rows(
            &mut sessions,
            logits.view(),
            &sampling,
            &mut buffer,
            &mut coins,
            &mut tokens,
        )
        .unwrap();
        for (row, token) in tokens.iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(row as u64);
            let logits = logits.row(row);
            let alone = fresh()
                .sample(logits.as_slice().unwrap(), &sampling, &mut buffer, &mut rng)
                .unwrap();
            assert_eq!(alone, *token);
        }
    }
}
