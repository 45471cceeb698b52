//! A step of writing does not allocate once its thread has its memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use watermark_core::batch::{bias_rows, bias_sessions, windows_of};
use watermark_core::candidates::{CandidateBuffer, Sampling};
use watermark_core::key::{Epoch, MasterKey};
use watermark_core::profile::{BUILT_IN, Profile, Vocabulary};
use watermark_core::sampler::{Outcome, Session, TokenRole};
use watermark_core::speculative::{Residual, Settled, settle};

/// The system's allocator, counting this thread's calls.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VOCABULARY: usize = 40_000;

#[test]
fn steps_do_not_allocate() {
    let slot = MasterKey::from_bytes([1; 32]).slot(&Epoch::new("t").unwrap(), 0);
    let logits: Vec<f32> = (0..VOCABULARY)
        .map(|i| -((i * 7919 % VOCABULARY) as f32) / 100.0)
        .collect();
    for name in BUILT_IN {
        let mark = Profile::built_in(name).unwrap().bind(&slot).unwrap();
        for sampling in [
            Sampling::default(),
            Sampling {
                top_k: 50,
                top_p: 0.95,
                ..Sampling::default()
            },
        ] {
            let mut session = Session::new(&mark);
            session.reserve(100);
            let mut buffer = CandidateBuffer::default();
            let mut coins = ChaCha8Rng::seed_from_u64(1);
            let mut step = || {
                session
                    .sample(&logits, &sampling, &mut buffer, &mut coins)
                    .unwrap()
            };
            let mut steps = || (0..20).map(|_| u64::from(step())).sum::<u64>();
            steps();
            let before = CALLS.get();
            steps();
            assert_eq!(CALLS.get() - before, 0, "{name}, {sampling:?}");
        }
        if let Some(biaser) = mark.scheme().as_biaser() {
            let mut rows = Array2::zeros((3, VOCABULARY));
            let windows = Array2::from_elem((3, biaser.context_width()), 7);
            let before = CALLS.get();
            bias_rows(biaser, windows.view(), rows.view_mut()).unwrap();
            assert_eq!(CALLS.get() - before, 0, "{name}, a batch");
        }
    }
}

/// Of a profile with all that a server may ask for: a pinned vocabulary, special tokens, least entropy.
#[test]
fn neither_do_drafts_and_batches_of_sessions() {
    let slot = MasterKey::from_bytes([1; 32]).slot(&Epoch::new("t").unwrap(), 0);
    let logits: Vec<f32> = (0..VOCABULARY)
        .map(|i| -((i * 7919 % VOCABULARY) as f32) / 100.0)
        .collect();
    let top = Sampling {
        top_k: 50,
        ..Sampling::default()
    };
    for name in BUILT_IN {
        let mut profile = Profile::built_in(name).unwrap();
        profile.special_tokens = vec![1, 2, 30_000];
        profile.min_entropy = 0.1;
        profile.vocabulary = Some(Vocabulary {
            size: 39_000,
            sha256: String::new(),
        });
        let mark = profile.bind(&slot).unwrap();
        let mut session = Session::new(&mark);
        session.reserve(200);
        session.follow(&[5, 6, 7, 8], None);
        let mut buffer = CandidateBuffer::default();
        let candidates = buffer.fill(&logits, &top).unwrap();
        let mut residual = Residual::default();
        let mut coins = ChaCha8Rng::seed_from_u64(1);
        // The target's candidates are the draft's without the likeliest.
        let mut other = CandidateBuffer::default();
        let target = other.fill(&logits[1..], &top).unwrap();
        let mut round = || {
            for _ in 0..3 {
                let drafted = session.step_as(TokenRole::Draft, &candidates, 1.0, &mut coins);
                session.accept(drafted.0, drafted.1);
            }
            for left in (1..=3).rev() {
                let settled = settle(
                    &mut session,
                    left,
                    &target,
                    &candidates,
                    1.0,
                    &mut residual,
                    &mut coins,
                );
                if settled != Settled::Kept {
                    break;
                }
            }
        };
        (0..10).for_each(|_| round());
        let before = CALLS.get();
        (0..10).for_each(|_| round());
        assert_eq!(CALLS.get() - before, 0, "{name}, drafts");

        let rows = [&session, &session];
        let mut windows = Array2::zeros((2, session.context_width()));
        let mut outcomes = [Outcome::Marked; 2];
        let mut batch = Array2::zeros((2, VOCABULARY));
        let before = CALLS.get();
        windows_of(&rows, windows.view_mut(), &mut outcomes).unwrap();
        if session.biaser().is_some() {
            bias_sessions(&rows, &[1.0; 2], batch.view_mut(), &mut outcomes).unwrap();
        }
        assert_eq!(CALLS.get() - before, 0, "{name}, sessions");
    }
}
