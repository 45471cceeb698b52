//! Batches: rows of logits as ndarray views, one sequence a row, on this thread or on a [`Pool`].

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::thread::JoinHandle;

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis};
use rand_core::Rng;

use crate::candidates::{CandidateBuffer, NoCandidate, Sampling};
use crate::sampler::{Outcome, Session};
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
    /// A row whose scheme chooses tokens itself.
    #[error("row {row}: its scheme is no bias of logits; sample the row instead")]
    NoBias {
        /// The row.
        row: usize,
    },
    /// A row without a candidate.
    #[error("row {row}: no candidate has a positive, finite weight")]
    NoCandidate {
        /// The row.
        row: usize,
    },
}

/// Adds a green list's bonus to every row of `logits` (rows x vocabulary), in place;
/// `windows` is rows x h. Rows may lie in any memory order; those in one piece are not copied.
///
/// # Errors
/// The parts do not fit together; then nothing is changed.
pub fn bias_rows(
    scheme: &dyn Biaser,
    windows: ArrayView2<'_, u32>,
    mut logits: ArrayViewMut2<'_, f32>,
) -> Result<(), BatchError> {
    check_windows(scheme, windows, logits.nrows())?;
    for (window, row) in windows.rows().into_iter().zip(logits.rows_mut()) {
        bias_row(scheme, window, row);
    }
    Ok(())
}

/// What the next position of every sequence needs, whatever their lengths and segments: `outcomes[i]` says whether it is
/// [due](Session::due), and then row i of `windows` (rows x h) is its window. Other rows are left as they were.
///
/// For engines that look up masks or bias logits elsewhere. Temperature and entropy may give further reasons to skip.
///
/// # Errors
/// The parts do not fit together; then nothing is changed.
pub fn windows_of(
    sessions: &[&Session<'_>],
    mut windows: ArrayViewMut2<'_, u32>,
    outcomes: &mut [Outcome],
) -> Result<(), BatchError> {
    let rows = sessions.len();
    check_rows("windows", windows.nrows(), rows)?;
    check_rows("outcomes", outcomes.len(), rows)?;
    for session in sessions {
        check_width(windows.ncols(), session.context_width())?;
    }
    let rows = sessions.iter().zip(windows.rows_mut()).zip(outcomes);
    for ((session, mut row), outcome) in rows {
        *outcome = match session.due() {
            Ok(window) => {
                row.iter_mut()
                    .zip(window)
                    .for_each(|(to, &from)| *to = from);
                Outcome::Marked
            }
            Err(reason) => Outcome::Skipped(reason),
        };
    }
    Ok(())
}

/// [`Session::bias`] on every row of `logits` (rows x vocabulary), in place: row i is that of `sessions[i]`, at
/// `temperatures[i]`, and `outcomes[i]` says whether the mark is in it. A row that is not due keeps its logits.
///
/// # Errors
/// The parts do not fit together, or a scheme is no bias; then nothing is changed.
pub fn bias_sessions(
    sessions: &[&Session<'_>],
    temperatures: &[f32],
    logits: ArrayViewMut2<'_, f32>,
    outcomes: &mut [Outcome],
) -> Result<(), BatchError> {
    let part = Biased::checked(sessions, temperatures, logits, outcomes)?;
    part.each();
    Ok(())
}

/// Some rows of a batch of biases.
struct Biased<'a, 'm> {
    sessions: &'a [&'a Session<'m>],
    temperatures: &'a [f32],
    logits: ArrayViewMut2<'a, f32>,
    outcomes: &'a mut [Outcome],
}

impl<'a, 'm> Biased<'a, 'm> {
    fn checked(
        sessions: &'a [&'a Session<'m>],
        temperatures: &'a [f32],
        logits: ArrayViewMut2<'a, f32>,
        outcomes: &'a mut [Outcome],
    ) -> Result<Self, BatchError> {
        check_rows("sessions", sessions.len(), logits.nrows())?;
        check_rows("temperatures", temperatures.len(), logits.nrows())?;
        check_rows("outcomes", outcomes.len(), logits.nrows())?;
        if let Some(row) = sessions
            .iter()
            .position(|session| session.biaser().is_none())
        {
            return Err(BatchError::NoBias { row });
        }
        Ok(Self {
            sessions,
            temperatures,
            logits,
            outcomes,
        })
    }

    fn each(mut self) {
        let rows = self
            .sessions
            .iter()
            .zip(self.temperatures)
            .zip(self.outcomes);
        for (((session, &temperature), outcome), mut row) in rows.zip(self.logits.rows_mut()) {
            let biased = match row.as_slice_mut() {
                Some(row) => session.bias(row, temperature),
                None => {
                    let mut copy = row.to_vec();
                    let biased = session.bias(&mut copy, temperature);
                    row.iter_mut().zip(copy).for_each(|(to, from)| *to = from);
                    biased
                }
            };
            *outcome = biased.expect("every session has a bias");
        }
    }

    fn halve(self) {
        let rows = self.sessions.len();
        if rows < 2 {
            return self.each();
        }
        let (sessions, other_sessions) = self.sessions.split_at(rows / 2);
        let (temperatures, other_temperatures) = self.temperatures.split_at(rows / 2);
        let (logits, other_logits) = self.logits.split_at(Axis(0), rows / 2);
        let (outcomes, other_outcomes) = self.outcomes.split_at_mut(rows / 2);
        let one = Self {
            sessions,
            temperatures,
            logits,
            outcomes,
        };
        let other = Self {
            sessions: other_sessions,
            temperatures: other_temperatures,
            logits: other_logits,
            outcomes: other_outcomes,
        };
        rayon::join(|| one.halve(), || other.halve());
    }
}

fn check_windows(
    scheme: &dyn Biaser,
    windows: ArrayView2<'_, u32>,
    rows: usize,
) -> Result<(), BatchError> {
    check_rows("windows", windows.nrows(), rows)?;
    check_width(windows.ncols(), scheme.context_width())
}

fn check_width(given: usize, wanted: usize) -> Result<(), BatchError> {
    if given == wanted {
        Ok(())
    } else {
        Err(BatchError::ContextWidth { given, wanted })
    }
}

fn bias_row(scheme: &dyn Biaser, window: ArrayView1<'_, u32>, mut row: ArrayViewMut1<'_, f32>) {
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

/// One step of every sequence: row i of `logits` (rows x vocabulary) to the next token of
/// `sessions[i]`, drawn with `coins[i]` and accepted; `tokens` gets one token a row.
///
/// # Errors
/// The parts do not fit together, and nothing has changed; or a row has no candidate: then the rows before it have
/// been accepted and the others not.
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

/// Threads of its own for batches: no other pool of the process is used or waited for. Dropping it waits until they have
/// ended, so that a library can be unloaded afterwards.
#[derive(Debug)]
pub struct Pool {
    /// Some until it is dropped.
    threads: Option<rayon::ThreadPool>,
    handles: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn new(threads: NonZeroUsize) -> Result<Self, PoolError> {
        let mut handles = Vec::new();
        let builder = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .spawn_handler(|thread| {
                let name = format!("watermark-{}", thread.index());
                let builder = std::thread::Builder::new().name(name);
                handles.push(builder.spawn(|| thread.run())?);
                Ok(())
            });
        let threads = builder
            .build()
            .map_err(|error| PoolError(error.to_string()))?;
        Ok(Self {
            threads: Some(threads),
            handles,
        })
    }

    /// Runs `work` on the threads: what rayon splits in it is spread over them and over no others.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let threads = self.threads.as_ref().expect("there until it is dropped");
        threads.install(work)
    }

    /// [`bias_rows`] with the rows spread over the threads: the same result.
    ///
    /// # Errors
    /// As [`bias_rows`].
    pub fn bias_rows(
        &self,
        scheme: &dyn Biaser,
        windows: ArrayView2<'_, u32>,
        logits: ArrayViewMut2<'_, f32>,
    ) -> Result<(), BatchError> {
        check_windows(scheme, windows, logits.nrows())?;
        self.run(|| halve(scheme, windows, logits));
        Ok(())
    }

    /// [`bias_sessions`] with the rows spread over the threads: the same result.
    ///
    /// # Errors
    /// As [`bias_sessions`].
    pub fn bias_sessions(
        &self,
        sessions: &[&Session<'_>],
        temperatures: &[f32],
        logits: ArrayViewMut2<'_, f32>,
        outcomes: &mut [Outcome],
    ) -> Result<(), BatchError> {
        let part = Biased::checked(sessions, temperatures, logits, outcomes)?;
        self.run(|| part.halve());
        Ok(())
    }

    /// [`sample_rows`] with the rows spread over the threads; every thread keeps a buffer.
    ///
    /// The tokens are those of [`sample_rows`]. `tokens` has one entry a row.
    ///
    /// # Errors
    /// The parts do not fit together, and nothing has changed; or rows have no candidate: the first of them is
    /// named, and every row that has a candidate has been accepted.
    pub fn sample_rows<R: Rng + Send>(
        &self,
        sessions: &mut [Session<'_>],
        logits: ArrayView2<'_, f32>,
        sampling: &Sampling,
        coins: &mut [R],
        tokens: &mut [u32],
    ) -> Result<(), BatchError> {
        check_rows("sessions", sessions.len(), logits.nrows())?;
        check_rows("coins", coins.len(), logits.nrows())?;
        check_rows("tokens", tokens.len(), logits.nrows())?;
        let part = Part {
            first: 0,
            sessions,
            logits,
            coins,
            tokens,
        };
        match self.run(|| part.sample(sampling)) {
            None => Ok(()),
            Some(row) => Err(BatchError::NoCandidate { row }),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.threads.take());
        let this = std::thread::current().id();
        for handle in self.handles.drain(..) {
            // One of its own threads cannot wait for itself; a thread that panicked has ended as well.
            if handle.thread().id() != this {
                let _ = handle.join();
            }
        }
    }
}

/// The system gives no threads.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the threads of a pool cannot be started: {0}")]
pub struct PoolError(String);

/// Rows by halves: no list of jobs, and so no allocation.
fn halve(scheme: &dyn Biaser, windows: ArrayView2<'_, u32>, mut logits: ArrayViewMut2<'_, f32>) {
    let rows = logits.nrows();
    if rows > 1 {
        let (windows, other_windows) = windows.split_at(Axis(0), rows / 2);
        let (logits, other_logits) = logits.split_at(Axis(0), rows / 2);
        rayon::join(
            || halve(scheme, windows, logits),
            || halve(scheme, other_windows, other_logits),
        );
    } else if rows == 1 {
        bias_row(scheme, windows.row(0), logits.row_mut(0));
    }
}

/// Some rows of a batch.
struct Part<'a, 'm, R> {
    first: usize,
    sessions: &'a mut [Session<'m>],
    logits: ArrayView2<'a, f32>,
    coins: &'a mut [R],
    tokens: &'a mut [u32],
}

thread_local! {
    static BUFFER: RefCell<CandidateBuffer> = RefCell::new(CandidateBuffer::default());
}

impl<R: Rng + Send> Part<'_, '_, R> {
    /// The first row without a candidate.
    fn sample(self, sampling: &Sampling) -> Option<usize> {
        let rows = self.sessions.len();
        if rows > 1 {
            let half = rows / 2;
            let (sessions, other_sessions) = self.sessions.split_at_mut(half);
            let (logits, other_logits) = self.logits.split_at(Axis(0), half);
            let (coins, other_coins) = self.coins.split_at_mut(half);
            let (tokens, other_tokens) = self.tokens.split_at_mut(half);
            let one = Part {
                first: self.first,
                sessions,
                logits,
                coins,
                tokens,
            };
            let other = Part {
                first: self.first + half,
                sessions: other_sessions,
                logits: other_logits,
                coins: other_coins,
                tokens: other_tokens,
            };
            let (one, other) = rayon::join(|| one.sample(sampling), || other.sample(sampling));
            return one.or(other);
        }
        let session = self.sessions.first_mut()?;
        let logits = contiguous(self.logits.row(0));
        let sampled = BUFFER.with_borrow_mut(|buffer| {
            session.sample(&logits, sampling, buffer, &mut self.coins[0])
        });
        match sampled {
            Ok(token) => {
                self.tokens[0] = token;
                None
            }
            Err(NoCandidate) => Some(self.first),
        }
    }
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
    use crate::sampler::SkipReason;
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
        let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
        batch.assign(&plain);
        pool.bias_rows(biaser, windows.view(), batch.view_mut())
            .unwrap();
        assert_eq!(batch, rows);
        let mut strided = Array2::zeros((3, 45).f());
        strided.assign(&plain);
        bias_rows(biaser, windows.view(), strided.view_mut()).unwrap();
        assert_eq!(strided, rows);
    }

    #[test]
    fn a_dropped_pool_has_no_threads_left() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
        /// Counts the threads that have ended.
        struct Local(Arc<AtomicUsize>);
        impl Drop for Local {
            fn drop(&mut self) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        thread_local! {
            static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
        }
        let ended = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new(NonZeroUsize::new(3).unwrap()).unwrap();
        pool.run(|| {
            rayon::broadcast(|_| LOCAL.set(Some(Local(ended.clone()))));
        });
        assert_eq!(ended.load(SeqCst), 0);
        drop(pool);
        assert_eq!(ended.load(SeqCst), 3);
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

    /// Rows of different lengths and segments, one of them switched off.
    #[test]
    fn rows_that_are_not_due_are_left_alone() {
        let mark = mark();
        let texts: [&[u32]; 5] = [&[1, 2], &[1], &[], &[7, 1, 2], &[1, 2]];
        let mut sessions = texts.map(|text| {
            let mut session = Session::new(&mark);
            session.follow(text, None);
            session
        });
        sessions[3].begin_segment();
        sessions[4].set_enabled(false).unwrap();
        let rows = sessions.each_ref();
        let mut windows = Array2::from_elem((5, 2), 99);
        let mut outcomes = [Outcome::Marked; 5];
        windows_of(&rows, windows.view_mut(), &mut outcomes).unwrap();
        let partial = Outcome::Skipped(SkipReason::PartialContext);
        let off = Outcome::Skipped(SkipReason::Disabled);
        assert_eq!(outcomes, [Outcome::Marked, partial, partial, partial, off]);
        assert_eq!(windows.row(0).to_vec(), [1, 2]);
        assert!(
            windows
                .rows()
                .into_iter()
                .skip(1)
                .flatten()
                .all(|&id| id == 99)
        );

        let plain = Array2::from_shape_fn((5, 45), |(i, j)| (i * j) as f32 * 0.1);
        let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
        for threads in [false, true] {
            let mut logits = Array2::zeros((5, 45).f());
            logits.assign(&plain);
            let mut biased = [off; 5];
            let view = logits.view_mut();
            match threads {
                false => bias_sessions(&rows, &[1.0; 5], view, &mut biased).unwrap(),
                true => pool
                    .bias_sessions(&rows, &[1.0; 5], view, &mut biased)
                    .unwrap(),
            }
            assert_eq!(biased, outcomes);
            let mut first = plain.row(0).to_vec();
            sessions[0].bias(&mut first, 1.0);
            assert_eq!(logits.row(0).to_vec(), first);
            assert_ne!(logits.row(0), plain.row(0));
            for row in 1..5 {
                assert_eq!(logits.row(row), plain.row(row));
            }
        }
        let race = Profile::built_in("gumbel-h2").unwrap();
        let key = SlotKey::from_parts([3; 32], Epoch::new("t").unwrap(), 0);
        let race = race.bind(&key).unwrap();
        let other = Session::new(&race);
        let mut logits = plain.clone();
        let refused = bias_sessions(
            &[rows[0], &other],
            &[1.0; 2],
            logits.slice_mut(ndarray::s![..2, ..]),
            &mut outcomes[..2],
        );
        assert_eq!(refused, Err(BatchError::NoBias { row: 1 }));
        let narrow = windows_of(&rows, Array2::zeros((5, 3)).view_mut(), &mut outcomes);
        assert!(matches!(
            narrow,
            Err(BatchError::ContextWidth { given: 3, .. })
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
        let pool = Pool::new(NonZeroUsize::new(2).unwrap()).unwrap();
        let mut pooled = [0; 2];
        pool.sample_rows(
            &mut [fresh(), fresh()],
            logits.view(),
            &sampling,
            &mut [0, 1].map(ChaCha8Rng::seed_from_u64),
            &mut pooled,
        )
        .unwrap();
        assert_eq!(pooled[..], tokens);
        let none = Array2::from_elem((2, 40), f32::NEG_INFINITY);
        let stopped = pool.sample_rows(
            &mut [fresh(), fresh()],
            none.view(),
            &sampling,
            &mut coins,
            &mut pooled,
        );
        assert_eq!(stopped, Err(BatchError::NoCandidate { row: 0 }));
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
