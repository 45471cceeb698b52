//! A sampler for llama.cpp that is linked to nothing: the host passes `llama_sampler_init`.
//!
//! It stands last in the chain, where `dist` stands otherwise, and sets `selected`. llama.cpp's contract, read in its
//! sources of November 2026: `apply` may run several times before `accept`; `accept` is also called for the tokens of the
//! prompt, which were never applied; a sampler without `clone` aborts where it is cloned; `llama_sampler_copy` falls back on
//! clone and free.

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use watermark_core::profile::Mark;
use watermark_core::sampler::{Outcome, Session as CoreSession, SkipReason};
use watermark_core::scheme::TokenRole;

use crate::candidates::{Scratch, TokenData};
use crate::coins::coins_of;
use crate::memory::{handle, put, read, versioned, write};
use crate::outcome::{Counts, Decision, count};
use crate::scheme::Scheme;
use crate::session::{Session, decide, put_new};
use crate::status::{Failure, Status, guard};

/// llama.cpp's `llama_sampler`, of which these two fields are read.
#[derive(Debug)]
#[repr(C)]
pub struct LlamaSampler {
    interface: *const LlamaInterface,
    context: *mut c_void,
}

/// llama.cpp's `llama_token_data_array`.
#[derive(Debug)]
#[repr(C)]
struct TokenDataArray {
    data: *mut TokenData,
    size: usize,
    selected: i64,
    sorted: bool,
}

/// llama.cpp's `llama_sampler_i`: six functions, and NULL for the experimental ones that follow, with room for more than the six
/// of today.
#[derive(Debug)]
#[repr(C)]
pub struct LlamaInterface {
    name: unsafe extern "C" fn(*const LlamaSampler) -> *const c_char,
    accept: unsafe extern "C" fn(*mut LlamaSampler, i32),
    apply: unsafe extern "C" fn(*mut LlamaSampler, *mut TokenDataArray),
    reset: unsafe extern "C" fn(*mut LlamaSampler),
    clone: unsafe extern "C" fn(*const LlamaSampler) -> *mut LlamaSampler,
    free: unsafe extern "C" fn(*mut LlamaSampler),
    experimental: [Option<unsafe extern "C" fn()>; 18],
}

static INTERFACE: LlamaInterface = LlamaInterface {
    name,
    accept,
    apply,
    reset,
    clone,
    free,
    experimental: [None; 18],
};

/// `llama_sampler_init` of llama.cpp.
pub type LlamaInit =
    Option<unsafe extern "C" fn(*mut LlamaInterface, *mut c_void) -> *mut LlamaSampler>;

/// What wmk_llama_sampler_new needs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LlamaOptions {
    /// sizeof(wmk_llama_options).
    pub struct_size: usize,
    /// llama_sampler_init.
    pub init: LlamaInit,
    /// Seed of what is drawn beside the key: give every sequence one of its own.
    pub seed: u64,
}
versioned!(LlamaOptions, "wmk_llama_options");

/// One sampler's state.
#[derive(Clone, Debug)]
struct Context {
    init: unsafe extern "C" fn(*mut LlamaInterface, *mut c_void) -> *mut LlamaSampler,
    seed: u64,
    mark: Arc<Mark>,
    session: CoreSession<'static>,
    /// What the last `apply` chose, since the last `accept`.
    applied: Option<Decision>,
    failures: u64,
}

/// A sampler for the end of a llama.cpp chain, in place of llama_sampler_init_dist: it selects a token by the mark, and draws
/// ordinarily where the mark skips. *sampler belongs to llama.cpp from then on: add it to a chain, or free it by
/// llama_sampler_free. It keeps what it needs of the scheme.
///
/// What is drawn beside the key depends on the seed, the number of tokens accepted, and the candidates: apply changes nothing
/// and may be called again. Tokens that are accepted without having been applied (llama.cpp does so with the prompt) enter no
/// window: a segment starts after them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_llama_sampler_new(
    scheme: *const Scheme,
    options: *const LlamaOptions,
    sampler: *mut *mut LlamaSampler,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (mark, options) =
            unsafe { (Arc::clone(&handle(scheme, "scheme")?.mark), read(options)?) };
        let init = options.init.ok_or_else(|| {
            let message = "init of wmk_llama_options is NULL: pass llama_sampler_init of the llama.cpp that will use the sampler";
            Failure::new(Status::NullPointer, message)
        })?;
        // SAFETY: the header's conventions.
        unsafe { put(sampler, std::ptr::null_mut(), "sampler") }?;
        let context = Context {
            init,
            seed: options.seed,
            session: CoreSession::shared(Arc::clone(&mark)),
            mark,
            applied: None,
            failures: 0,
        };
        // SAFETY: the header's conventions: the function is llama.cpp's.
        let made = unsafe { context.into_sampler() };
        if made.is_null() {
            let message = "llama_sampler_init returned NULL";
            return Err(Failure::new(Status::NullPointer, message));
        }
        // SAFETY: as above.
        unsafe { put(sampler, made, "sampler") }
    })
}

impl Context {
    /// # Safety
    /// `init` is llama.cpp's.
    unsafe fn into_sampler(self) -> *mut LlamaSampler {
        let init = self.init;
        let raw = Box::into_raw(Box::new(self));
        // llama.cpp declares the interface without const, and only reads it.
        let interface = (&raw const INTERFACE).cast_mut();
        // SAFETY: the caller's promise.
        let made = unsafe { init(interface, raw.cast()) };
        if made.is_null() {
            // SAFETY: nobody took it.
            drop(unsafe { Box::from_raw(raw) });
        }
        made
    }

    fn apply(
        &mut self,
        candidates: &mut TokenDataArray,
        data: &[TokenData],
        scratch: &mut Scratch,
    ) {
        let decision = scratch.llama(data, &self.mark).map(|made| {
            let position = self.session.tokens().len() as u64;
            let mut coins = coins_of([self.seed, position, digest(data), LLAMA]);
            let how = (TokenRole::Ordinary, 1.0);
            decide(&self.session, &made, how, &mut coins, true)
        });
        match decision {
            Ok(decision) => {
                candidates.selected = decision.index;
                self.applied = Some(decision);
            }
            Err(_) => {
                // llama.cpp aborts where nothing is selected.
                self.failures += 1;
                self.applied = None;
                candidates.selected = 0;
            }
        }
    }

    fn accept(&mut self, token: u32) {
        match self.applied.take() {
            Some(decision) => {
                let outcome = match decision.token == token as i32 {
                    true => decision.core_outcome(),
                    false => Outcome::Skipped(SkipReason::Replaced),
                };
                self.session.accept(token, outcome);
            }
            None => self.session.begin_segment(),
        }
    }
}

/// Keeps these draws apart from those of other uses of a seed.
const LLAMA: u64 = u64::from_le_bytes(*b"wmkllama");

/// A digest of candidates, so that a position that is sampled again from other candidates (after a grammar refused the first
/// choice) gets a draw that is independent of the first.
fn digest(data: &[TokenData]) -> u64 {
    let mut lanes = [0x243f_6a88_85a3_08d3_u64 ^ data.len() as u64; 4];
    for (at, one) in data.iter().enumerate() {
        let lane = &mut lanes[at % 4];
        let word = u64::from(one.id as u32) << 32 | u64::from(one.logit.to_bits());
        *lane = (*lane ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
    lanes.iter().fold(0, |all, lane| {
        (all ^ lane)
            .wrapping_mul(0xd6e8_feb8_6659_fd93)
            .rotate_left(32)
    })
}

/// # Safety
/// A live sampler of this library.
unsafe fn context<'a>(sampler: *mut LlamaSampler) -> &'a mut Context {
    // SAFETY: the caller's promise; llama.cpp calls one function of a sampler at a time.
    unsafe { &mut *(*sampler).context.cast::<Context>() }
}

unsafe extern "C" fn name(_: *const LlamaSampler) -> *const c_char {
    c"watermark".as_ptr()
}

unsafe extern "C" fn accept(sampler: *mut LlamaSampler, token: i32) {
    // SAFETY: llama.cpp's contract.
    let context = unsafe { context(sampler) };
    caught(|| {
        if let Ok(token) = u32::try_from(token) {
            context.accept(token);
        }
    });
}

unsafe extern "C" fn apply(sampler: *mut LlamaSampler, candidates: *mut TokenDataArray) {
    // SAFETY: llama.cpp's contract.
    let (context, candidates) = unsafe { (context(sampler), &mut *candidates) };
    if candidates.size == 0 || candidates.data.is_null() {
        return;
    }
    // SAFETY: llama.cpp's contract.
    let data = unsafe { std::slice::from_raw_parts(candidates.data, candidates.size) };
    let done = caught(|| {
        crate::candidates::with_scratch(|scratch| context.apply(candidates, data, scratch));
    });
    if done.is_none() {
        context.applied = None;
        context.failures += 1;
        candidates.selected = 0;
    }
}

unsafe extern "C" fn reset(sampler: *mut LlamaSampler) {
    // SAFETY: llama.cpp's contract.
    let context = unsafe { context(sampler) };
    caught(|| {
        context.applied = None;
        context.session.reset();
    });
}

unsafe extern "C" fn clone(sampler: *const LlamaSampler) -> *mut LlamaSampler {
    // SAFETY: llama.cpp's contract; the function is llama.cpp's.
    caught(|| unsafe { context(sampler.cast_mut()).clone().into_sampler() })
        .unwrap_or(std::ptr::null_mut())
}

unsafe extern "C" fn free(sampler: *mut LlamaSampler) {
    // SAFETY: llama.cpp's contract: the sampler is not used again, and its context came from `Box::into_raw`.
    caught(|| drop(unsafe { Box::from_raw((*sampler).context.cast::<Context>()) }));
}

/// Nothing unwinds into llama.cpp.
fn caught<R>(work: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(std::mem::forget)
        .ok()
}

/// # Safety
/// A live sampler of any kind, or null.
unsafe fn own<'a>(sampler: *const LlamaSampler) -> Result<&'a mut Context, Failure> {
    // SAFETY: the caller's promise.
    let interface = unsafe { handle(sampler, "sampler")? }.interface;
    if !std::ptr::eq(interface, &raw const INTERFACE) {
        let message = "the sampler is not one of wmk_llama_sampler_new: of a chain, pass the member (llama_sampler_chain_get)";
        return Err(Failure::new(Status::Argument, message));
    }
    // SAFETY: it is this library's, and live.
    Ok(unsafe { context(sampler.cast_mut()) })
}

/// How the tokens of a sampler's sequence came about, and in *failures (unless it is NULL) how many times apply met candidates
/// without a finite logit, and selected the first.
///
/// WMK_STATUS_ARGUMENT: the sampler is not one of wmk_llama_sampler_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_llama_sampler_counts(
    sampler: *const LlamaSampler,
    counts: *mut Counts,
    failures: *mut u64,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let context = unsafe { own(sampler) }?;
        if !failures.is_null() {
            // SAFETY: the header's conventions.
            unsafe { put(failures, context.failures, "failures") }?;
        }
        // SAFETY: the header's conventions.
        unsafe { write(counts, count(&context.session)) }
    })
}

/// A copy of a sampler's sequence as a session, for its tokens and its record; to be freed by wmk_session_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_llama_sampler_session(
    sampler: *const LlamaSampler,
    session: *mut *mut Session,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        unsafe {
            let context = own(sampler)?;
            put_new(&context.mark, context.session.clone(), session)
        }
    })
}

/// wmk_session_begin_segment for a sampler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_llama_sampler_begin_segment(sampler: *mut LlamaSampler) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        unsafe { own(sampler) }?.session.begin_segment();
        Ok(())
    })
}
