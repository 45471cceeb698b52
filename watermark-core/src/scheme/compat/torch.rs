//! What PyTorch's generator on a CPU gives, without PyTorch: MT19937 (M. Matsumoto and T. Nishimura, ACM Trans.
//! Model. Comput. Simul. 8, 3, 1998) seeded with the low 32 bits of the seed.
//!
//! | call | gives |
//! |---|---|
//! | `randint(0, 2)` | the lowest bit of each word |
//! | `rand`, 32-bit | the lowest 24 bits of each word, times 2^-24 |
//! | `randperm(n)`, n below 2^32 / 20 | r = 0, 1, ..; for i from 0 to n - 2: exchange r\[i\] and r\[i + word mod (n - i)\] |
//!
//! Generators on a GPU give other numbers.

const N: usize = 624;
const M: usize = 397;

/// MT19937 as `torch.Generator` seeds it.
#[derive(Clone)]
pub struct Generator {
    state: [u32; N],
    at: usize,
}

impl core::fmt::Debug for Generator {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Generator(..)")
    }
}

impl Generator {
    /// `manual_seed(seed)`: only the low 32 bits count.
    pub fn new(seed: u64) -> Self {
        let mut state = [0; N];
        state[0] = seed as u32;
        for i in 1..N {
            let before = state[i - 1];
            state[i] = (before ^ before >> 30)
                .wrapping_mul(1_812_433_253)
                .wrapping_add(i as u32);
        }
        Self { state, at: N }
    }

    fn advance(&mut self) {
        let twist = |high: u32, low: u32| {
            let mixed = high & 0x8000_0000 | low & 0x7fff_ffff;
            mixed >> 1 ^ (0x9908_b0df & (low & 1).wrapping_neg())
        };
        for i in 0..N {
            let next = self.state[(i + 1) % N];
            self.state[i] = self.state[(i + M) % N] ^ twist(self.state[i], next);
        }
        self.at = 0;
    }

    /// The next 32 bits.
    #[inline]
    pub fn word(&mut self) -> u32 {
        if self.at == N {
            self.advance();
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// Passes over `words` words.
    pub fn skip(&mut self, mut words: usize) {
        while words > 0 {
            if self.at == N {
                self.advance();
            }
            let step = words.min(N - self.at);
            self.at += step;
            words -= step;
        }
    }

    /// One of `randint(0, 2)`.
    pub fn bit(&mut self) -> bool {
        self.word() & 1 == 1
    }

    /// One of `rand`, as its 24 bits.
    pub fn uniform24(&mut self) -> u32 {
        self.word() & 0x00ff_ffff
    }
}

/// `randperm(n)`.
pub fn permutation(seed: u64, n: u32) -> Vec<u32> {
    shuffled(seed, n, n.saturating_sub(1))
}

/// The numbers below n after the first `steps` exchanges: the first `steps` of them are final.
fn shuffled(seed: u64, n: u32, steps: u32) -> Vec<u32> {
    let mut generator = Generator::new(seed);
    let mut numbers: Vec<u32> = (0..n).collect();
    for i in 0..steps {
        let other = i + generator.word() % (n - i);
        numbers.swap(i as usize, other as usize);
    }
    numbers
}

/// The first `size` entries of `randperm(of)`, as a set.
///
/// Membership of one token needs no permutation: the exchanges move it, and it is in the set as soon
/// as it comes to a place that is final. `targets[i]` is the place with which place i is exchanged.
#[derive(Clone, Debug)]
pub struct List {
    targets: Vec<u32>,
}

impl List {
    /// The list of a seed; `size` is below `of`.
    pub fn new(seed: u64, size: u32, of: u32) -> Self {
        let mut generator = Generator::new(seed);
        let targets = (0..size).map(|i| i + generator.word() % (of - i)).collect();
        Self { targets }
    }

    /// Whether a token stands in it.
    pub fn holds(&self, token: u32) -> bool {
        let (mut place, mut from) = (token, 0);
        loop {
            let end = (place as usize).min(self.targets.len());
            // An exchange with an earlier place brings it there, for good.
            if from < end && self.targets[from..end].contains(&place) {
                return true;
            }
            let Some(&target) = self.targets.get(place as usize) else {
                return false;
            };
            // Its own exchange: it stays, or goes on to a later place.
            if target == place {
                return true;
            }
            from = place as usize + 1;
            place = target;
        }
    }

    /// The set as bits, token `32 i + j` in bit `j` of word `i`, for tokens below `of`.
    pub fn mask(seed: u64, size: u32, of: u32) -> Vec<u32> {
        let mut mask = vec![0; of.div_ceil(32) as usize];
        for &token in &shuffled(seed, of, size)[..size as usize] {
            mask[token as usize / 32] |= 1 << (token % 32);
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the ten-thousandth word of seed 5489, from the C++ standard's requirement on mt19937.
    #[test]
    fn the_words_are_those_of_the_standard() {
        let mut generator = Generator::new(5489);
        assert_eq!(generator.word(), 3_499_211_612);
        generator.skip(9998);
        assert_eq!(generator.word(), 4_123_659_995);
        assert_eq!(Generator::new(5489 + (7 << 32)).word(), 3_499_211_612);
    }

    #[test]
    fn a_list_is_the_head_of_the_permutation() {
        for (seed, size, of) in [(1, 10, 40), (2, 1, 2), (77, 500, 1003), (9, 39, 40)] {
            let head = &permutation(seed, of)[..size as usize];
            let (list, mask) = (List::new(seed, size, of), List::mask(seed, size, of));
            for token in 0..of {
                let expected = head.contains(&token);
                assert_eq!(list.holds(token), expected, "{seed} {token}");
                let bit = mask[token as usize / 32] >> (token % 32) & 1;
                assert_eq!(bit == 1, expected, "{seed} {token}");
            }
            assert!(!list.holds(of) && !list.holds(u32::MAX));
        }
    }
}
