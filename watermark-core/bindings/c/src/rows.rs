//! Batches without sessions: row seeds, masks, biased logits, chosen tokens; on this thread or on a pool.

use watermark_core::prf::Lane as CoreLane;
use watermark_core::profile::Mark;
use watermark_core::scheme::Biaser;

use crate::batch::{Logits, Matrix, Pool, check_rows, each_row, pool_of};
use crate::candidates::{Checked, Sampling, check_vocabulary, no_candidate, with_scratch};
use crate::coins::coins;
use crate::memory::{handle, read, slice, slice_mut, tokens, versioned};
use crate::scheme::{Scheme, seeds_per_row};
use crate::status::{Failure, Status, guard};

/// The windows of a batch, one a row: row i is tokens[i * stride .. i * stride + h].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Windows {
    /// sizeof(wmk_windows).
    pub struct_size: usize,
    /// Ids, those of a window oldest first.
    pub tokens: *const i32,
    /// Number of ids in tokens.
    pub len: usize,
    /// Number of rows.
    pub rows: usize,
    /// From the start of one window to that of the next, at least h.
    pub stride: usize,
    /// One byte a row, or NULL: a row whose byte is 0 has no window (the segment is still too short, or the row is not to be
    /// marked), and its ids are not read.
    pub active: *const u8,
}
versioned!(Windows, "wmk_windows");

/// Windows after the checks.
struct Checks<'a> {
    ids: &'a [u32],
    active: Option<&'a [u8]>,
    stride: usize,
    width: usize,
}

impl<'a> Checks<'a> {
    unsafe fn read(windows: *const Windows, width: usize) -> Result<(Self, usize), Failure> {
        // SAFETY: the caller's promise.
        let given = unsafe { read(windows) }?;
        let rows = given.rows;
        if given.stride < width {
            let message = format!(
                "stride of wmk_windows is {}; the scheme has {width} context tokens",
                given.stride
            );
            return Err(Failure::new(Status::Length, message));
        }
        check_rows("wmk_windows", given.len, rows, width, given.stride)?;
        // SAFETY: the caller's promise; i32 and u32 have one layout.
        let (ids, active) = unsafe {
            let active = match given.active.is_null() {
                true => None,
                false => Some(slice(given.active, rows, "active")?),
            };
            let len = if width == 0 { 0 } else { given.len };
            (
                slice(given.tokens.cast::<u32>(), len, "tokens of wmk_windows")?,
                active,
            )
        };
        let checks = Self {
            ids,
            active,
            stride: given.stride,
            width,
        };
        for row in 0..rows {
            let window = checks.window(row).unwrap_or_default();
            if let Some(at) = window.iter().position(|&id| id > i32::MAX as u32) {
                let message = format!(
                    "row {row}: token {at} of the window is {}; a token id is not negative. Rows without a window are \
                     marked by 0 in active",
                    window[at] as i32
                );
                return Err(Failure::new(Status::Token, message));
            }
        }
        Ok((checks, rows))
    }

    /// The window of an active row.
    fn window(&self, row: usize) -> Option<&'a [u32]> {
        if self.active.is_some_and(|active| active[row] == 0) {
            return None;
        }
        if self.width == 0 {
            return Some(&[]);
        }
        Some(&self.ids[row * self.stride..][..self.width])
    }
}

pub(crate) fn check_width(wanted: usize, given: usize) -> Result<(), Failure> {
    if given == wanted {
        return Ok(());
    }
    let message = format!("the window has {given} tokens; the scheme takes {wanted}");
    Err(Failure::new(Status::Length, message))
}

pub(crate) fn biaser(mark: &Mark) -> Result<&dyn Biaser, Failure> {
    mark.scheme().as_biaser().ok_or_else(|| {
        let id = &mark.profile().id;
        let message = format!(
            "profile `{id}` is no constant on the logits of a set of tokens: choose its tokens by wmk_select_f32 or a \
             session, or use a green list"
        );
        Failure::new(Status::Unsupported, message)
    })
}

/// The seeds of every window, 32 bytes each: seeds_per_row of wmk_scheme_facts a row, one after the other; seeds_len bytes in
/// all, at least rows * seeds_per_row * 32. Inactive rows, and seeds that a window does not have (self-hash has one for each
/// distinct token), are zero.
///
/// A seed is the ChaCha key of one window: whoever has it can compute the coins of this window and of no other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_seed_rows(
    scheme: *const Scheme,
    pool: *const Pool,
    windows: *const Windows,
    seeds: *mut u8,
    seeds_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (mark, pool) = unsafe { (&*handle(scheme, "scheme")?.mark, pool_of(pool)?) };
        let scheme = mark.scheme();
        // SAFETY: the header's conventions.
        let (windows, rows) = unsafe { Checks::read(windows, scheme.context_width()) }?;
        let bytes = 32 * seeds_per_row(mark);
        check_rows("seeds", seeds_len, rows, bytes, bytes)?;
        // SAFETY: the header's conventions.
        let seeds = unsafe { slice_mut(seeds, seeds_len, "seeds") }?;
        each_row(pool, seeds, bytes, rows, |row, out| {
            out[..bytes].fill(0);
            if let Some(window) = windows.window(row) {
                let row = scheme.row(window);
                for (to, seed) in out.chunks_exact_mut(32).zip(row.seeds()) {
                    to.copy_from_slice(&seed.to_bytes());
                }
            }
            Ok(())
        })
    })
}

/// Which of a row's independent word sequences is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Lane {
    /// Membership in the green list.
    Green = 0,
    /// The uniforms of Gumbel-max.
    Gumbel = 1,
    /// The layers of a tournament.
    Tournament = 2,
    /// Choices that must be independent of the score.
    Auxiliary = 3,
}

/// The first words of a wmk_lane of a window's seed number seed, for other implementations to compare with (SPEC.md, section
/// 4): 32 bits a token, tile 1, account 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_words(
    scheme: *const Scheme,
    window: *const i32,
    window_len: usize,
    seed: usize,
    lane: i32,
    words: *mut u32,
    words_len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (mark, window) = unsafe {
            (
                &*handle(scheme, "scheme")?.mark,
                tokens(window, window_len, "window")?,
            )
        };
        check_width(mark.scheme().context_width(), window.len())?;
        let lane = match lane {
            0 => CoreLane::Green,
            1 => CoreLane::Gumbel,
            2 => CoreLane::Tournament,
            3 => CoreLane::Auxiliary,
            other => {
                let message = format!("lane is {other}; a wmk_lane is 0 to 3");
                return Err(Failure::new(Status::Argument, message));
            }
        };
        let row = mark.scheme().row(window);
        let seed = row.seeds().get(seed).ok_or_else(|| {
            let message = format!("seed is {seed}; this window has {}", row.seeds().len());
            Failure::new(Status::Argument, message)
        })?;
        // SAFETY: the header's conventions.
        seed.words(lane, unsafe { slice_mut(words, words_len, "words") }?);
        Ok(())
    })
}

/// The set of tokens that get delta, as bits: token 32 i + j of a row is bit j of its word i, the layout of
/// constrained-decoding engines. Row i is masks[i * stride ..], of which the first (vocabulary + 31) / 32 words are written; bits
/// beyond the vocabulary are 0, and so are inactive rows.
///
/// WMK_STATUS_UNSUPPORTED: the scheme has no such set (Gumbel, tournament, self-hash).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_fill_masks(
    scheme: *const Scheme,
    pool: *const Pool,
    windows: *const Windows,
    masks: *mut u32,
    masks_len: usize,
    vocabulary: usize,
    stride: usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (mark, pool) = unsafe { (&*handle(scheme, "scheme")?.mark, pool_of(pool)?) };
        let biaser = biaser(mark)?;
        // SAFETY: the header's conventions.
        let (windows, rows) = unsafe { Checks::read(windows, biaser.context_width()) }?;
        check_vocabulary(vocabulary)?;
        let words = vocabulary.div_ceil(32);
        check_rows("masks", masks_len, rows, words, stride)?;
        // SAFETY: the header's conventions.
        let masks = unsafe { slice_mut(masks, masks_len, "masks") }?;
        each_row(pool, masks, stride, rows, |row, mask| {
            let mask = &mut mask[..words];
            match windows.window(row) {
                None => mask.fill(0),
                Some(window) => {
                    biaser.fill_mask(&biaser.row(window), mask);
                    if let (Some(last), 1..) = (mask.last_mut(), vocabulary % 32) {
                        *last &= u32::MAX >> (32 - vocabulary % 32);
                    }
                }
            }
            Ok(())
        })
    })
}

/// Adds delta to the logits of the set, in place; the logits are those before temperature. Row i is logits[i * stride ..], of
/// which the first vocabulary are changed; inactive rows are not.
///
/// WMK_STATUS_UNSUPPORTED: as wmk_fill_masks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_bias_rows(
    scheme: *const Scheme,
    pool: *const Pool,
    windows: *const Windows,
    logits: *mut f32,
    logits_len: usize,
    vocabulary: usize,
    stride: usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (mark, pool) = unsafe { (&*handle(scheme, "scheme")?.mark, pool_of(pool)?) };
        let biaser = biaser(mark)?;
        // SAFETY: the header's conventions.
        let (windows, rows) = unsafe { Checks::read(windows, biaser.context_width()) }?;
        check_vocabulary(vocabulary)?;
        check_rows("logits", logits_len, rows, vocabulary, stride)?;
        // SAFETY: the header's conventions.
        let logits = unsafe { slice_mut(logits, logits_len, "logits") }?;
        each_row(pool, logits, stride, rows, |row, logits| {
            if let Some(window) = windows.window(row) {
                biaser.bias(&biaser.row(window), &mut logits[..vocabulary]);
            }
            Ok(())
        })
    })
}

/// Chooses a token for every row by the mark, into chosen, with the row's entry of coins; both have as many entries as there are
/// rows. An inactive row and one without a candidate get -1. For coins see wmk_session_decide.
///
/// WMK_STATUS_NO_CANDIDATE: the first row without a candidate is named; the other rows are done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_select_f32(
    scheme: *const Scheme,
    pool: *const Pool,
    windows: *const Windows,
    logits: *const Logits,
    sampling: *const Sampling,
    coins: *const u64,
    chosen: *mut i32,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (mark, pool, matrix, checked) = unsafe {
            (
                &*handle(scheme, "scheme")?.mark,
                pool_of(pool)?,
                Matrix::read(logits)?,
                Checked::read(sampling)?,
            )
        };
        let scheme = mark.scheme();
        // SAFETY: the header's conventions.
        let (windows, rows) = unsafe { Checks::read(windows, scheme.context_width()) }?;
        matrix.check_rows("wmk_windows", rows)?;
        // SAFETY: the header's conventions.
        let (numbers, chosen) = unsafe {
            (
                slice(coins, rows, "coins")?,
                slice_mut(chosen, rows, "chosen")?,
            )
        };
        each_row(pool, chosen, 1, rows, |row, chosen| {
            chosen[0] = -1;
            let Some(window) = windows.window(row) else {
                return Ok(());
            };
            with_scratch(|scratch| {
                let candidates = scratch
                    .dense(matrix.row(row), &checked, mark)
                    .map_err(|_| no_candidate(Some(row)))?
                    .candidates;
                let index = scheme.choose(
                    &scheme.row(window),
                    &candidates,
                    &mut self::coins(numbers[row]),
                );
                chosen[0] = candidates.get(index).0 as i32;
                Ok(())
            })
        })
    })
}
