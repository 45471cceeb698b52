//! Token ids to a p-value.

use std::sync::{Arc, Mutex};

use watermark_core::detect::Test;
use watermark_core::profile::Mark;
use watermark_core::window::Exhibit as CoreExhibit;

use crate::memory::{handle, lock, put, tokens, versioned, write};
use crate::scheme::Scheme;
use crate::status::{Failure, Status, guard};

/// The text of one suspect: every cell (a window with the token after it) counts once over all of it. Serves one call at a
/// time.
#[derive(Debug)]
pub struct Exhibit {
    mark: Arc<Mark>,
    cells: Mutex<CoreExhibit>,
}

/// The test of a text under one key: numbers, and no opinion about them.
///
/// H0: prompts and text together are independent of the key. Under H0 the probability of so large a sum is exp(ln_p),
/// exactly, or at most that where scores are rounded down.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Detection {
    /// sizeof(wmk_detection).
    pub struct_size: usize,
    /// ln P(S >= sum): the evidence. Not above 0, and never minus infinity.
    pub ln_p: f64,
    /// The same to base 10.
    pub log10_p: f64,
    /// log10 P(S <= sum): a small value means a mark that is being avoided. A diagnostic.
    pub lower_log10_p: f64,
    /// Standard score: a figure, not the evidence.
    pub z: f64,
    /// Mean score of a cell: a share of ones, or nats.
    pub mean: f64,
    /// That expected under the null hypothesis.
    pub null_mean: f64,
    /// Distinct cells that were scored.
    pub n_scored: u64,
    /// Sum of their scores, in units of the null's lattice (SPEC.md, section 7).
    pub sum: u64,
    /// Segments taken in.
    pub segments: u64,
    /// Their tokens, without special ones: partial + excluded + repeated + cells.
    pub tokens: u64,
    /// Without a full window: the first h of a segment.
    pub partial: u64,
    /// In a window that stands in a prompt.
    pub excluded: u64,
    /// Cells met before.
    pub repeated: u64,
    /// Distinct cells. More than n_scored where the scheme maps several of them to one coin.
    pub cells: u64,
}
versioned!(Detection, "wmk_detection");

impl Detection {
    fn of(mark: &Mark, exhibit: &CoreExhibit) -> Result<Self, Failure> {
        let test = Test::of(mark, exhibit);
        let counts = exhibit.counts();
        let sum = u64::try_from(test.sum);
        let sum = sum.map_err(|_| {
            Failure::new(Status::Length, "the text is longer than its score can be")
        })?;
        Ok(Self {
            struct_size: 0,
            ln_p: test.p.ln(),
            log10_p: test.p.log10(),
            lower_log10_p: test.lower_p.log10(),
            z: test.z,
            mean: test.mean,
            null_mean: test.null_mean,
            n_scored: test.n_scored,
            sum,
            segments: counts.segments,
            tokens: counts.tokens,
            partial: counts.partial,
            excluded: counts.excluded,
            repeated: counts.repeated,
            cells: counts.cells,
        })
    }
}

/// Tests one answer: wmk_exhibit_new, wmk_exhibit_push, wmk_exhibit_test. No tokens at all are a test with
/// n_scored 0 and ln_p 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_detect(
    scheme: *const Scheme,
    tokens: *const i32,
    len: usize,
    detection: *mut Detection,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (mark, segment) = unsafe {
            (
                &*handle(scheme, "scheme")?.mark,
                self::tokens(tokens, len, "tokens")?,
            )
        };
        let mut exhibit = CoreExhibit::new(mark.scheme().context_width());
        push(&mut exhibit, mark, segment)?;
        // SAFETY: the header's conventions.
        unsafe { write(detection, Detection::of(mark, &exhibit)?) }
    })
}

/// An empty exhibit; *exhibit is to be freed by wmk_exhibit_free. It keeps what it needs of the scheme.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_exhibit_new(
    scheme: *const Scheme,
    exhibit: *mut *mut Exhibit,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let mark = unsafe { Arc::clone(&handle(scheme, "scheme")?.mark) };
        let cells = Mutex::new(CoreExhibit::new(mark.scheme().context_width()));
        let raw = Box::into_raw(Box::new(Exhibit { mark, cells }));
        // SAFETY: the header's conventions; and where it cannot be put, the exhibit was this function's alone.
        unsafe { put(exhibit, raw, "exhibit").inspect_err(|_| drop(Box::from_raw(raw))) }
    })
}

/// Frees an exhibit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_exhibit_free(exhibit: *mut Exhibit) -> Status {
    guard(|| {
        if !exhibit.is_null() {
            // SAFETY: the header's conventions: a live handle, which `wmk_exhibit_new` made by `Box::into_raw`.
            drop(unsafe { Box::from_raw(exhibit) });
        }
        Ok(())
    })
}

/// Excludes every window of a prompt (or system prompt, or turn of a conversation): a model may repeat from it without
/// having learned it. Call it for all prompts before the first wmk_exhibit_push: exclusion does not reach back.
///
/// WMK_STATUS_ARGUMENT: text was taken in already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_exhibit_exclude(
    exhibit: *mut Exhibit,
    prompt: *const i32,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (exhibit, prompt) =
            unsafe { (handle(exhibit, "exhibit")?, tokens(prompt, len, "prompt")?) };
        let mut cells = lock(&exhibit.cells, "exhibit")?;
        if cells.counts().segments > 0 {
            let message = "exclusion does not reach back: exclude all prompts before the first wmk_exhibit_push";
            return Err(Failure::new(Status::Argument, message));
        }
        cells.exclude(prompt);
        Ok(())
    })
}

/// Takes in one answer: no window crosses its ends, nor a special token of the profile.
///
/// WMK_STATUS_TOKEN: an id is negative, or outside the vocabulary that the profile pins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_exhibit_push(
    exhibit: *mut Exhibit,
    segment: *const i32,
    len: usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (exhibit, segment) = unsafe {
            (
                handle(exhibit, "exhibit")?,
                tokens(segment, len, "segment")?,
            )
        };
        let mut cells = lock(&exhibit.cells, "exhibit")?;
        push(&mut cells, &exhibit.mark, segment)
    })
}

/// The segments between the profile's special tokens; ids outside its vocabulary are those of another tokenizer.
fn push(exhibit: &mut CoreExhibit, mark: &Mark, tokens: &[u32]) -> Result<(), Failure> {
    let profile = mark.profile();
    profile
        .check_ids("tokens", tokens)
        .map_err(|error| Failure::new(Status::Token, error.to_string()))?;
    for segment in profile.segments(tokens) {
        exhibit.push(segment);
    }
    Ok(())
}

/// Tests what was taken in. More may be pushed afterwards; a decision to stop that looks at these numbers makes them invalid as
/// p-values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_exhibit_test(
    exhibit: *const Exhibit,
    detection: *mut Detection,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let exhibit = unsafe { handle(exhibit, "exhibit") }?;
        let tested = Detection::of(&exhibit.mark, &*lock(&exhibit.cells, "exhibit")?)?;
        // SAFETY: the header's conventions.
        unsafe { write(detection, tested) }
    })
}
