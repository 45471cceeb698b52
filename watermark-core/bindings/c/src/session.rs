//! The state of one sequence.

use std::ffi::c_char;
use std::sync::{Arc, Mutex};

use watermark_core::profile::Mark;
use watermark_core::sampler as core;
use watermark_core::sampler::{Decision as CoreDecision, Enforced};
use watermark_core::scheme::TokenRole;

use crate::candidates::{Candidates, Checked, Made, Sampling, role, with_scratch};
use crate::coins::coins;
use crate::memory::{handle, lock, put, put_text, read, slice_mut, token, write};
use crate::outcome::{Counts, Decision, Outcome, count, outcome};
use crate::scheme::Scheme;
use crate::status::{Failure, Status, guard};

/// One sequence: its tokens since the prompt, and the windows met. Serves one call at a time.
#[derive(Debug)]
pub struct Session {
    pub(crate) mark: Arc<Mark>,
    pub(crate) state: Mutex<core::Session<'static>>,
}

/// An empty sequence. The prompt stays outside: it never enters a window. *session is to be freed by wmk_session_free; it
/// keeps what it needs of the scheme.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_new(
    scheme: *const Scheme,
    session: *mut *mut Session,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let mark = unsafe { Arc::clone(&handle(scheme, "scheme")?.mark) };
        // SAFETY: the header's conventions.
        unsafe { put_new(&mark, core::Session::shared(Arc::clone(&mark)), session) }
    })
}

/// # Safety
/// A pointer can be written at `to`, unless it is null.
pub(crate) unsafe fn put_new(
    mark: &Arc<Mark>,
    session: core::Session<'static>,
    to: *mut *mut Session,
) -> Result<(), Failure> {
    let raw = Box::into_raw(Box::new(Session {
        mark: Arc::clone(mark),
        state: Mutex::new(session),
    }));
    // SAFETY: the caller's promise; and where it cannot be put, the session was this function's alone.
    unsafe { put(to, raw, "session").inspect_err(|_| drop(Box::from_raw(raw))) }
}

/// A copy that goes on independently: for beams, drafts and forks. *copy is to be freed as well.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_clone(
    session: *const Session,
    copy: *mut *mut Session,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let session = unsafe { handle(session, "session") }?;
        let state = lock(&session.state, "session")?.clone();
        // SAFETY: the header's conventions.
        unsafe { put_new(&session.mark, state, copy) }
    })
}

/// Frees a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_free(session: *mut Session) -> Status {
    guard(|| {
        if !session.is_null() {
            // SAFETY: the header's conventions: a live handle, which came from `Box::into_raw`.
            drop(unsafe { Box::from_raw(session) });
        }
        Ok(())
    })
}

/// # Safety
/// As [`handle`].
unsafe fn with<R>(
    session: *const Session,
    work: impl FnOnce(&mut core::Session<'static>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: the caller's promise.
    let state = unsafe { &handle(session, "session")?.state };
    let mut session = lock(state, "session")?;
    work(&mut session)
}

/// The next token by the mark, or the reason to sample ordinarily: *decision. Changes nothing, and gives the same answer to
/// the same question.
///
/// coin: 64 random bits of the caller's generator, fresh for every step of every sequence. They become the key of ChaCha8,
/// from which a green list, a tournament, and the choice between dual keys draw; Gumbel under one key draws nothing. The
/// library keeps no generator: seeds, replay and reproducibility stay with the engine that has them. Coins that repeat
/// where windows repeat make text repeat.
///
/// WMK_STATUS_NO_CANDIDATE: all candidates are NaN, minus infinity or zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_decide(
    session: *const Session,
    candidates: *const Candidates,
    sampling: *const Sampling,
    coin: u64,
    decision: *mut Decision,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe { asked(session, candidates, sampling, coin, decision, false) }
}

/// As wmk_session_decide, but where the mark skips, a candidate is drawn by its probability with the coin: the decision always
/// has a token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_step(
    session: *const Session,
    candidates: *const Candidates,
    sampling: *const Sampling,
    coin: u64,
    decision: *mut Decision,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe { asked(session, candidates, sampling, coin, decision, true) }
}

/// The mark's choice; where it skips, an ordinary draw with the same generator if `draw` says so.
pub(crate) fn decide(
    session: &core::Session<'_>,
    made: &Made<'_>,
    (role, temperature): (TokenRole, f32),
    coins: &mut rand_chacha::ChaCha8Rng,
    draw: bool,
) -> Decision {
    let decided = session.decide_as(role, &made.candidates, temperature, coins);
    let index = match decided {
        CoreDecision::Marked(index) => Some(index),
        CoreDecision::Skip(_) => draw.then(|| made.candidates.sample(coins)),
    };
    let (index, token) = match index.map(|index| made.get(index)) {
        Some((place, token)) => (place as i64, token as i32),
        None => (-1, -1),
    };
    Decision {
        index,
        token,
        outcome: Outcome::from(decided.outcome()) as i32,
    }
}

/// # Safety
/// The header's conventions.
unsafe fn asked(
    session: *const Session,
    candidates: *const Candidates,
    sampling: *const Sampling,
    coin: u64,
    decision: *mut Decision,
    draw: bool,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (session, given, checked) = unsafe {
            (
                handle(session, "session")?,
                read(candidates)?,
                Checked::read(sampling)?,
            )
        };
        let how = (role(given.role)?, checked.sampling.temperature);
        let state = lock(&session.state, "session")?;
        with_scratch(|scratch| {
            // SAFETY: the caller's promise.
            let made = unsafe { scratch.fill(&given, &checked, &session.mark) }?;
            let decided = decide(&state, &made, how, &mut coins(coin), draw);
            // SAFETY: the caller's promise.
            unsafe { put(decision, decided, "decision") }
        })
    })
}

/// Adds delta to the next token's logits in place where the position is to be marked, for engines that draw themselves under a
/// green list; *outcome gets the wmk_outcome to accept the token with. The logits are those before temperature; those beyond the
/// profile's vocabulary become minus infinity in any case. Greedy decoding is no reason to skip here: the largest logit is looked
/// for after the bonus.
///
/// WMK_STATUS_UNSUPPORTED: the scheme is no bias, and nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_bias(
    session: *const Session,
    logits: *mut f32,
    len: usize,
    temperature: f32,
    outcome: *mut i32,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (session, logits) = unsafe {
            (
                handle(session, "session")?,
                slice_mut(logits, len, "logits")?,
            )
        };
        // Refuses the schemes that are no bias.
        crate::rows::biaser(&session.mark)?;
        // SAFETY: the header's conventions.
        unsafe { put(outcome, Outcome::None as i32, "outcome") }?;
        let biased = lock(&session.state, "session")?.bias(logits, temperature);
        let biased = biased.map_or(Outcome::None, Outcome::from) as i32;
        // SAFETY: the header's conventions.
        unsafe { put(outcome, biased, "outcome") }
    })
}

/// Appends the token that the engine took, with the outcome of its decision; with WMK_OUTCOME_REPLACED if the engine took
/// another token than the mark chose.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_accept(
    session: *mut Session,
    token: i32,
    outcome: i32,
) -> Status {
    guard(|| {
        let token = self::token(token, "token")?;
        let outcome = self::outcome(outcome)?;
        // SAFETY: the header's conventions.
        unsafe {
            with(session, |session| {
                session.accept(token, outcome);
                Ok(())
            })
        }
    })
}

/// Takes back the last tokens accepted; all, if there are fewer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_rollback(session: *mut Session, tokens: usize) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        change(session, |session| {
            session.rollback(tokens);
            Ok(())
        })
    }
}

/// Back to an empty sequence; switch and budget stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_reset(session: *mut Session) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        change(session, |session| {
            session.reset();
            Ok(())
        })
    }
}

/// Starts a segment (after hidden reasoning or a tool call): no window crosses this point.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_begin_segment(session: *mut Session) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        change(session, |session| {
            session.begin_segment();
            Ok(())
        })
    }
}

/// Makes room for so many more tokens, so that accepting them does not allocate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_reserve(session: *mut Session, tokens: usize) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        change(session, |session| {
            session.reserve(tokens);
            Ok(())
        })
    }
}

/// Switches marking off (0) or on from here on.
///
/// WMK_STATUS_ENFORCED: the profile does not allow it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_set_enabled(session: *mut Session, enabled: i32) -> Status {
    // SAFETY: the header's conventions.
    unsafe { change(session, |session| session.set_enabled(enabled != 0)) }
}

/// Marks at most this many tokens of the sequence; UINT64_MAX is no limit.
///
/// WMK_STATUS_ENFORCED: the profile does not allow a limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_set_budget(
    session: *mut Session,
    marked_tokens: u64,
) -> Status {
    let budget = (marked_tokens != u64::MAX).then_some(marked_tokens);
    // SAFETY: the header's conventions.
    unsafe { change(session, |session| session.set_budget(budget)) }
}

unsafe fn change(
    session: *mut Session,
    work: impl FnOnce(&mut core::Session<'static>) -> Result<(), Enforced>,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            with(session, |session| {
                work(session).map_err(|error| Failure::new(Status::Enforced, error.to_string()))
            })
        }
    })
}

/// Counts the tokens of a session by outcome. Goes through all of them: not for every step.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_counts(
    session: *const Session,
    counts: *mut Counts,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let counted = unsafe { with(session, |session| Ok(count(session))) }?;
        // SAFETY: the header's conventions.
        unsafe { write(counts, counted) }
    })
}

/// The tokens of a session: *len gets their number, and up to capacity of them are written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_tokens(
    session: *const Session,
    tokens: *mut i32,
    capacity: usize,
    len: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        unsafe {
            with(session, |session| {
                let out = slice_mut(tokens, capacity, "tokens")?;
                for (to, &token) in out.iter_mut().zip(session.tokens()) {
                    *to = token as i32;
                }
                put(len, session.tokens().len(), "len")
            })
        }
    })
}

/// The record of a session as JSON, for a log of what was written: token ids, slot, skips; no text, no key. With a NUL, into a
/// buffer of len bytes; *needed, unless it is NULL, gets the length with the NUL.
///
/// WMK_STATUS_BUFFER: the buffer is too small, and *needed says how long it must be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wmk_session_record(
    session: *const Session,
    buffer: *mut c_char,
    len: usize,
    needed: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: the header's conventions.
        let record = unsafe { with(session, |session| Ok(session.record())) }?;
        let json = serde_json::to_string(&record).expect("a record is plain data");
        // SAFETY: the header's conventions.
        unsafe { put_text(&json, buffer, len, needed) }
    })
}
