//! Keyed sampling marks for language models, and the exact tests that read them back.
//!
//! ```text
//! WRITE   key -> prf -> scheme -> sampler -> marked tokens
//! READ    tokens -> windows (each cell once) -> scores -> test -> ln p -> report -> verdict
//! ```
//!
//! Writer and reader share every line that must agree: [`key`], [`prf`], [`window`],
//! [`scheme`]. Statistics ([`stats`]) know nothing of marks, the [`sampler`] nothing of tests,
//! and neither of [`text`]. They meet in [`scheme::Null`]: a scheme names the law of its scores.
//!
//! How to use it:
//! 1. Make a [`key::MasterKey`], derive a [`key::SlotKey`], and pick a [`profile::Profile`];
//!    [`Profile::bind`](profile::Profile::bind) joins them into a [`profile::Mark`].
//! 2. To write, keep a [`sampler::Session`] a sequence and give it each step's candidates.
//! 3. To read, collect a suspect's tokens in a [`window::Exhibit`] and test it:
//!    [`detect::Test`], or [`distill::distill`] with decoys and a control.
//! 4. Apply a [`verdict::Policy`].
//!
//! A corpus under one key is read by a [`stream::Stream`], in bounded memory if need be; whose copy of a text leaked, by
//! [`accounts`]; batches of rows are written by [`batch::Pool`], and drafts by [`speculative`]. The machine code is
//! chosen at run time ([`kernel`]).
//! With the feature `evidence`, plans are sealed before anything is collected, and keys committed to before their first use.
//!
//! ```
//! use rand_chacha::ChaCha8Rng;
//! use rand_core::SeedableRng;
//! use watermark_core::candidates::{CandidateBuffer, Sampling};
//! use watermark_core::detect::Test;
//! use watermark_core::key::{Epoch, MasterKey};
//! use watermark_core::profile::Profile;
//! use watermark_core::sampler::Session;
//! use watermark_core::verdict::{Policy, Verdict};
//! use watermark_core::window::Exhibit;
//!
//! // 32 bytes of the system's generator in earnest.
//! let slot_key = MasterKey::from_bytes([7; 32]).slot(&Epoch::new("2026q4")?, 0);
//! let mark = Profile::built_in("gumbel-dual-h2").expect("built in").bind(&slot_key)?;
//!
//! // WRITE: a "model" whose next-token logits are always the same.
//! let logits: Vec<f32> = (0..500).map(|token| -(token as f32) / 100.0).collect();
//! let mut session = Session::new(&mark);
//! let mut coins = ChaCha8Rng::seed_from_u64(1);
//! let mut buffer = CandidateBuffer::default();
//! for _ in 0..300 {
//!     session.sample(&logits, &Sampling::default(), &mut buffer, &mut coins)?;
//! }
//!
//! // READ.
//! let mut exhibit = Exhibit::new(mark.profile().context_width());
//! exhibit.push(session.tokens());
//! let test = Test::of(&mark, &exhibit);
//! assert_eq!(Verdict::of(&test, &Policy::default()), Verdict::Rejected);
//! assert!(test.p.log10() < -50.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod accounts;
pub mod anytime;
pub mod batch;
pub mod battery;
pub mod candidates;
pub mod cells;
pub mod detect;
pub mod distill;
pub mod effect;
#[cfg(feature = "evidence")]
pub mod evidence;
pub mod explain;
pub mod fixed;
mod json;
pub mod kernel;
pub mod key;
pub mod openweights;
mod parallel;
pub mod prf;
pub mod profile;
pub mod reading;
pub mod regime;
pub mod report;
pub mod sampler;
pub mod scan;
#[cfg(feature = "schema")]
pub mod schema;
pub mod scheme;
pub mod speculative;
pub mod stats;
pub mod stream;
pub mod text;
pub mod verdict;
pub mod warning;
pub mod window;

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
