//! A step's random bits as a generator.

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

/// ChaCha8 under the key `coin as 8 bytes LE || 24 zero bytes`: what a step draws, of any number.
///
/// A number a row rather than a callback: batches can be spread over threads, a step can be asked again and gives
/// the same answer, nothing foreign runs (and unwinds) inside the library, and the caller's generator stays its own.
pub(crate) fn coins(coin: u64) -> ChaCha8Rng {
    coins_of([coin, 0, 0, 0])
}

/// ChaCha8 under four numbers.
pub(crate) fn coins_of(numbers: [u64; 4]) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, number) in key.as_chunks_mut().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
    ChaCha8Rng::from_seed(key)
}
