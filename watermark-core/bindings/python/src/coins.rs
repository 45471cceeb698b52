//! The caller's randomness, and threads of a batch's own.

use std::num::NonZeroUsize;

use pyo3::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use watermark_core::batch;

use crate::error::value;

/// ChaCha8 from a seed of 64 bits and a stream number: one seed serves many independent rows. Without a seed, from the
/// system's generator.
pub(crate) fn generator(py: Python<'_>, seed: Option<u64>, stream: u64) -> PyResult<ChaCha8Rng> {
    let mut coins = match seed {
        Some(seed) => ChaCha8Rng::seed_from_u64(seed),
        None => {
            let bytes: [u8; 32] = py.import("os")?.call_method1("urandom", (32,))?.extract()?;
            ChaCha8Rng::from_seed(bytes)
        }
    };
    coins.set_stream(stream);
    Ok(coins)
}

/// A generator for calls that draw outside a session.
#[pyclass(module = "watermark")]
pub(crate) struct Coins {
    pub(crate) rng: ChaCha8Rng,
}

#[pymethods]
impl Coins {
    #[new]
    #[pyo3(signature = (seed=None, stream=0))]
    fn new(py: Python<'_>, seed: Option<u64>, stream: u64) -> PyResult<Self> {
        Ok(Self {
            rng: generator(py, seed, stream)?,
        })
    }
}

/// Threads of its own for batches.
#[pyclass(frozen, module = "watermark")]
pub(crate) struct Pool {
    pub(crate) threads: batch::Pool,
    count: usize,
}

#[pymethods]
impl Pool {
    #[new]
    fn new(threads: usize) -> PyResult<Self> {
        let count = NonZeroUsize::new(threads)
            .filter(|count| count.get() <= 1024)
            .ok_or_else(|| value(format!("threads is {threads}; it must be from 1 to 1024")))?;
        Ok(Self {
            threads: batch::Pool::new(count).map_err(value)?,
            count: threads,
        })
    }

    fn __repr__(&self) -> String {
        format!("Pool({})", self.count)
    }
}
