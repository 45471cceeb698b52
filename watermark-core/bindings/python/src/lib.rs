//! Python bindings: arrays and token ids in, arrays and numbers out.
//!
//! ```text
//! arrays    numpy arrays as views: types, shapes and layouts are checked here, and only here
//! keys      key bytes and profiles from what Python passes
//! scheme    a profile under a key: masks, bias, selection, scores
//! session   one sequence being written, and its coins
//! detector  tokens of a suspect -> numbers and a verdict
//! distill   a whole distillation test -> report
//! engines   keys and configurations for engines that make marks themselves
//! ```
//!
//! Every call that works on arrays releases the interpreter lock. Numbers are those of `watermark-core`; nothing is
//! computed here.

mod arrays;
mod coins;
mod detector;
mod distill;
mod engines;
mod error;
mod keys;
mod scheme;
mod session;

use pyo3::prelude::*;

/// The compiled part of the package `watermark`.
#[pymodule]
mod _watermark {
    #[pymodule_export]
    use crate::coins::{Coins, Pool};
    #[pymodule_export]
    use crate::detector::{Detection, Detector};
    #[pymodule_export]
    use crate::distill::distill;
    #[pymodule_export]
    use crate::engines::{compatible_profiles, write_engine_config, write_engine_key};
    #[pymodule_export]
    use crate::keys::{built_in_profiles, new_master_key};
    #[pymodule_export]
    use crate::scheme::Scheme;
    #[pymodule_export]
    use crate::session::{Decision, Session, sample_rows};

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
