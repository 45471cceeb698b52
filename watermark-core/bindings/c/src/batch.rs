//! Rows of numbers, the threads that they are spread over, and a step of many sequences at once.

use std::num::NonZeroUsize;

use rayon::prelude::*;
use watermark_core::batch::Pool as CorePool;
use watermark_core::scheme::TokenRole;

use crate::candidates::{Checked, Sampling, check_vocabulary, no_candidate, with_scratch};
use crate::coins::coins;
use crate::memory::{handle, lock, put, read, slice, slice_mut, versioned};
use crate::outcome::Decision;
use crate::session::{Session, decide};
use crate::status::{Failure, Status, guard};

/// Threads for batches, of their own: no other pool of the process is used or waited for.
#[derive(Debug)]
pub struct Pool {
    threads: CorePool,
}

/// Starts a pool of so many threads; *pool is to be freed by wmk_pool_free. Any threads may use it at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_pool_new(threads: usize, pool: *mut *mut Pool) -> Status {
    guard(|| {
        let threads = NonZeroUsize::new(threads).filter(|threads| threads.get() <= 1024);
        let threads = threads.ok_or_else(|| {
            let message =
                "threads must be 1 to 1024; to use the calling thread, pass NULL for the pool";
            Failure::new(Status::Argument, message)
        })?;
        let threads = CorePool::new(threads)
            .map_err(|error| Failure::new(Status::Threads, error.to_string()))?;
        let raw = Box::into_raw(Box::new(Pool { threads }));
        // SAFETY: the header's conventions; and where it cannot be put, the pool was this function's alone.
        unsafe { put(pool, raw, "pool").inspect_err(|_| drop(Box::from_raw(raw))) }
    })
}

/// Frees a pool, and waits until its threads have ended: then the library may be unloaded.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_pool_free(pool: *mut Pool) -> Status {
    guard(|| {
        if !pool.is_null() {
            // SAFETY: the header's conventions: a live handle, which `wmk_pool_new` made by `Box::into_raw`.
            drop(unsafe { Box::from_raw(pool) });
        }
        Ok(())
    })
}

/// The numbers of a batch: row i is values[i * stride .. i * stride + vocabulary].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Logits {
    /// sizeof(wmk_logits).
    pub struct_size: usize,
    /// The numbers.
    pub values: *const f32,
    /// Number of values.
    pub len: usize,
    /// Number of rows.
    pub rows: usize,
    /// Tokens a row.
    pub vocabulary: usize,
    /// From the start of one row to that of the next, at least vocabulary.
    pub stride: usize,
}
versioned!(Logits, "wmk_logits");

/// Whether `len` elements hold `rows` of `width` at a distance of `stride`.
pub(crate) fn check_rows(
    what: &str,
    len: usize,
    rows: usize,
    width: usize,
    stride: usize,
) -> Result<(), Failure> {
    if stride < width {
        let message =
            format!("{what}: the stride {stride} is less than the {width} elements of a row");
        return Err(Failure::new(Status::Length, message));
    }
    let needed = match rows {
        0 => Some(0),
        _ => (rows - 1)
            .checked_mul(stride)
            .and_then(|start| start.checked_add(width)),
    };
    match needed {
        Some(needed) if needed <= len => Ok(()),
        _ => {
            let message = format!(
                "{what} has {len} elements: {rows} rows of {width} at a distance of {stride} need more"
            );
            Err(Failure::new(Status::Length, message))
        }
    }
}

/// Rows of the caller's numbers after the checks.
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    pub(crate) rows: usize,
    vocabulary: usize,
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// # Safety
    /// As [`read`] and [`slice`].
    pub(crate) unsafe fn read(logits: *const Logits) -> Result<Self, Failure> {
        // SAFETY: the caller's promise.
        let given = unsafe { read(logits) }?;
        check_vocabulary(given.vocabulary)?;
        check_rows(
            "wmk_logits",
            given.len,
            given.rows,
            given.vocabulary,
            given.stride,
        )?;
        // SAFETY: the caller's promise.
        let values = unsafe { slice(given.values, given.len, "values of wmk_logits") }?;
        Ok(Self {
            values,
            rows: given.rows,
            vocabulary: given.vocabulary,
            stride: given.stride,
        })
    }

    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        // Without a vocabulary there are no values to stand anywhere.
        self.values
            .get(row * self.stride..)
            .map_or(&[], |values| &values[..self.vocabulary])
    }

    pub(crate) fn check_rows(&self, what: &str, rows: usize) -> Result<(), Failure> {
        if rows == self.rows {
            return Ok(());
        }
        let message = format!("{what} has {rows} rows, wmk_logits {}", self.rows);
        Err(Failure::new(Status::Length, message))
    }
}

/// Does the work of every row, on this thread or the pool; the failure is that of the first row that has one.
pub(crate) fn each_row<T: Send>(
    pool: Option<&Pool>,
    out: &mut [T],
    stride: usize,
    rows: usize,
    work: impl Fn(usize, &mut [T]) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let failure = match pool {
        None => {
            let rows = out.chunks_mut(stride.max(1)).take(rows).enumerate();
            rows.fold(None, |first, (row, out)| first.or(work(row, out).err()))
        }
        Some(pool) => pool.threads.run(|| {
            let rows = out.par_chunks_mut(stride.max(1)).take(rows).enumerate();
            rows.map(|(row, out)| work(row, out).err())
                .reduce(|| None, Option::or)
        }),
    };
    failure.map_or(Ok(()), Err)
}

/// A pool or none.
///
/// # Safety
/// As [`handle`].
pub(crate) unsafe fn pool_of<'a>(pool: *const Pool) -> Result<Option<&'a Pool>, Failure> {
    if pool.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { handle(pool, "pool") }.map(Some)
}

/// One step of every sequence of a batch: a row of the logits to the next token of its session, drawn with its coin and accepted.
/// The arrays have as many entries as the logits have rows; no session may stand twice.
///
/// WMK_STATUS_NO_CANDIDATE, _BUSY or _POISONED: the first row that failed is named; its outcome is WMK_OUTCOME_NONE, and the
/// other rows are done. Any other failure: nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_sample_rows(
    pool: *const Pool,
    sessions: *const *mut Session,
    logits: *const Logits,
    sampling: *const Sampling,
    coins: *const u64,
    decisions: *mut Decision,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (pool, matrix, checked) = unsafe {
            (
                pool_of(pool)?,
                Matrix::read(logits)?,
                Checked::read(sampling)?,
            )
        };
        let rows = matrix.rows;
        // SAFETY: the header's conventions. A pointer that is null is no reference, and a session is one through its lock.
        let (sessions, numbers, decisions) = unsafe {
            (
                slice(sessions.cast::<Option<&Session>>(), rows, "sessions")?,
                slice(coins, rows, "coins")?,
                slice_mut(decisions, rows, "decisions")?,
            )
        };
        check_sessions(sessions)?;
        each_row(pool, decisions, 1, rows, |row, decision| {
            decision[0] = Decision::NONE;
            let Some(session) = sessions[row] else {
                return Ok(());
            };
            let (mark, mut session) = (&session.mark, lock(&session.state, "session")?);
            let how = (TokenRole::Ordinary, checked.sampling.temperature);
            decision[0] = with_scratch(|scratch| {
                let made = scratch
                    .dense(matrix.row(row), &checked, mark)
                    .map_err(|_| no_candidate(Some(row)))?;
                let coins = &mut self::coins(numbers[row]);
                Ok(decide(&session, &made, how, coins, true))
            })?;
            session.accept(decision[0].token as u32, decision[0].core_outcome());
            Ok(())
        })
    })
}

/// All there, and none twice.
fn check_sessions(sessions: &[Option<&Session>]) -> Result<(), Failure> {
    thread_local! {
        static PLACES: std::cell::RefCell<Vec<usize>> = std::cell::RefCell::default();
    }
    PLACES.with_borrow_mut(|places| {
        places.clear();
        for (row, session) in sessions.iter().enumerate() {
            let session = session.ok_or_else(|| {
                Failure::new(Status::NullPointer, format!("sessions[{row}] is NULL"))
            })?;
            places.push(std::ptr::from_ref(session) as usize);
        }
        places.sort_unstable();
        if places.windows(2).any(|two| two[0] == two[1]) {
            let message = "a session stands twice in the batch: one session is one sequence";
            return Err(Failure::new(Status::Argument, message));
        }
        Ok(())
    })
}
