//! Exact tails of weighted sums by inversion of the characteristic function along a tilted line.
//!
//! Let X be the sum in units of the weights' divisor, K its cumulant function, and s = lambda + iu with
//! lambda > 0. For binomial scores X is an integer, and with u_k = 2 pi k / N
//!
//! ```text
//! C = (1/N) sum over k < N of e^(K(s_k) - s_k t) / (1 - e^(-s_k))
//!   = sum over all integers l of e^(lambda l N) P(X >= t + l N),
//! ```
//!
//! because 1 / (1 - e^-s) is the sum of e^(-s j) over j >= 0, and the mean over k keeps those x - t - j that N
//! divides. For gamma scores, by Poisson's summation formula, the trapezoidal rule of step h = 2 pi / N obeys
//! the same with 1 / s in place of 1 / (1 - e^-s) and the integral over the line in place of the mean; there
//! N need not be an integer. For lambda < 0 both give -sum e^(lambda l N) P(X < t + l N), the lower tail.
//!
//! The term l = 0 is the tail. The others are the *aliases*:
//! - on the side where the probabilities approach 1, they are q / (1 - q), q = e^(-|lambda| N), less the opposite
//!   tails; the former is subtracted;
//! - the opposite tails, and the terms on the other side, are bounded by Chernoff's bound at tilts of their
//!   own: for mu > lambda, e^(lambda l N) P(X >= t + l N) <= e^(K(mu) - mu t) e^(-(mu - lambda) l N), a geometric
//!   series in l.
//!
//! N is doubled until that bound is below 1e-13 of the tail, and the bound is compared once more
//! with the tail that came out. lambda is the saddlepoint (but not too near 0, where 1 / s has its pole), so the terms
//! are of the size of the result, and e^(K(lambda) - lambda t) is kept as an exponent.
//!
//! Nodes: on the lattice all of them, since weights with a common factor have peaks far from u = 0. A node whose
//! modulus is below e^-60 of that at u = 0 is left out as soon as the product over the first classes says so;
//! every factor is at most 1. On the gamma line the modulus falls in u, at least like u^(-b(u)) with b
//! growing, so the rest behind a node is at most its modulus over b.

use std::f64::consts::{LN_2, PI, TAU};
use std::sync::OnceLock;

use super::{Null, Point, Saddle, TailMethod, WeightedLaw};
use crate::stats::LnP;
use crate::stats::tail::{ln_1m_exp, ln_add_exp};

/// Evaluations of one class's characteristic function that a tail may cost.
const BUDGET: u64 = 1 << 23;
/// Longest period of a lattice.
const LONGEST: f64 = (1u64 << 22) as f64;
/// Aliases are at most e^-30 of a tail, or the tail is not called exact.
const ALIAS: f64 = -30.0;
/// ln of the modulus at which a node of the lattice is left out.
const NEGLIGIBLE: f64 = -60.0;

/// `ln P(X >= sum)` by a contour of its own; none where that is not feasible.
pub(super) fn upper_tail(law: &WeightedLaw, point: Point) -> Option<LnP> {
    Contour::new(law, point.excess, point.excess > 0.0)?.upper_tail(law, point)
}

/// Characteristic function of a law at the nodes of one line.
#[derive(Debug)]
struct Contour {
    lambda: f64,
    /// K(lambda), of the centred sum.
    k: f64,
    /// N of the module's text.
    period: f64,
    /// Tilts above and below lambda whose Chernoff bounds bound the aliases, each with its K.
    above: (f64, f64),
    below: (f64, f64),
    /// Ends of the support, as distances from the mean.
    least: f64,
    most: f64,
    nodes: Vec<Node>,
}

/// One node s = lambda + iu and, with weight and kernel, e^(K(s) - K(lambda)).
#[derive(Clone, Copy, Debug)]
struct Node {
    /// u is `index` times 2 pi / period.
    index: u32,
    re: f64,
    im: f64,
}

impl Contour {
    /// A line for tails near `excess`: upper tails (lambda > 0) or lower ones.
    fn new(law: &WeightedLaw, excess: f64, upper: bool) -> Option<Self> {
        let lattice = match law.null {
            Null::Binomial { .. } => true,
            Null::List { .. } => return None,
            Null::Gamma { .. } if law.classes[0].weight > 0 => false,
            Null::Gamma { .. } => return None,
        };
        let saddle = law.solve(excess, Null::ideal_cumulant, 1e-16);
        let (lambda, at) = off_the_pole(law, saddle, upper);
        // What the tail will be, roughly: at least a third of this unless the law is very coarse.
        let spread = at.k2.sqrt();
        let expected = at.k - lambda * excess - (1.0 + 2.5 * lambda.abs() * spread).ln();
        let (least, most) = law.support();
        let mut contour = Self {
            lambda,
            k: at.k,
            period: 16.0 * spread,
            above: (0.0, 0.0),
            below: (0.0, 0.0),
            least: least.map_or(f64::NEG_INFINITY, |end| law.excess(end, 1)),
            most: most.map_or(f64::INFINITY, |end| law.excess(end, 1)),
            nodes: Vec::new(),
        };
        if lattice {
            contour.period = contour.period.max(2.0).log2().ceil().exp2();
        }
        loop {
            if contour.period > LONGEST && lattice {
                return None;
            }
            let tilt = |excess: f64| {
                let Saddle { lambda, at } = law.solve(excess, Null::ideal_cumulant, 1e-2);
                (lambda, at.k)
            };
            let (up, down) = (excess + contour.period, excess - contour.period);
            if up <= contour.most {
                contour.above = tilt(up.max(0.0));
            }
            if down >= contour.least {
                contour.below = tilt(down.min(0.0));
            }
            let (known, bound) = contour.ln_aliases(excess);
            // 10 more than is needed, for other sums near by.
            if known <= expected + 2.0 && bound <= expected + ALIAS - 10.0 {
                break;
            }
            contour.period *= 2.0;
        }
        if lattice {
            contour.fill_lattice(law)?;
        } else {
            contour.fill_line(law, -36.0 - (1.0 + 2.5 * lambda.abs() * spread).ln())?;
        }
        Some(contour)
    }

    /// ln of the alias that is subtracted, and ln of the bound of the others.
    fn ln_aliases(&self, excess: f64) -> (f64, f64) {
        let decay = self.lambda.abs() * self.period;
        let known = -decay - ln_1m_exp(-decay);
        let series = |(mu, k): (f64, f64), decay: f64| {
            if decay > LN_2 {
                k - mu * excess - decay - ln_1m_exp(-decay)
            } else {
                f64::INFINITY
            }
        };
        // Half a unit, because the ends are rounded: on the lattice they are whole units away.
        let above = if excess + self.period > self.most + 0.5 {
            f64::NEG_INFINITY
        } else {
            series(self.above, (self.above.0 - self.lambda) * self.period)
        };
        let below = if excess - self.period < self.least - 0.5 {
            f64::NEG_INFINITY
        } else {
            series(self.below, (self.lambda - self.below.0) * self.period)
        };
        (known, ln_add_exp(above, below))
    }

    fn fill_lattice(&mut self, law: &WeightedLaw) -> Option<()> {
        struct Coin {
            step: u64,
            coins: f64,
            tilted: f64,
            spread: f64,
        }
        let Null::Binomial { trials, .. } = law.null else {
            return None;
        };
        let period = self.period as u64;
        let p = law.null.probability();
        let mut coins: Vec<Coin> = law
            .classes
            .iter()
            .map(|class| {
                // p e^t / (q + p e^t) and its complement, neither by subtraction.
                let grown = (self.lambda * class.weight as f64).exp();
                let (tilted, rest) = if grown > 1.0 {
                    let rest = (1.0 - p) / grown;
                    (p / (p + rest), rest / (p + rest))
                } else {
                    let norm = 1.0 - p + p * grown;
                    (p * grown / norm, (1.0 - p) / norm)
                };
                Coin {
                    step: class.weight.rem_euclid(period as i64) as u64,
                    coins: class.cells as f64 * f64::from(trials),
                    tilted,
                    spread: 4.0 * tilted * rest,
                }
            })
            .collect();
        // The most telling first, so that a negligible node is soon found out.
        let weight = |coin: &Coin| coin.coins * coin.spread;
        coins.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        let mut spent = 0;
        for index in 0..=period / 2 {
            let (mut modulus, mut phase) = (0.0, 0.0);
            for coin in &coins {
                spent += 1;
                let (sin, cos) = (0.5 * angle(index * coin.step, period)).sin_cos();
                let squared = sin * sin;
                // |1 - r + r e^(i theta)|^2 = 1 - 4 r (1 - r) sin^2(theta / 2).
                modulus += 0.5 * coin.coins * (-coin.spread * squared).ln_1p();
                if modulus < NEGLIGIBLE {
                    break;
                }
                let real = 1.0 - 2.0 * coin.tilted * squared;
                phase += coin.coins * (2.0 * coin.tilted * sin * cos).atan2(real);
            }
            if spent > BUDGET {
                return None;
            }
            if modulus < NEGLIGIBLE {
                continue;
            }
            let twice = if index == 0 || 2 * index == period {
                1.0
            } else {
                2.0
            };
            let (sin, cos) = (0.5 * angle(index, period)).sin_cos();
            // 1 - e^-s.
            let shrunk = (-self.lambda).exp();
            let kernel = (
                2.0 * shrunk * sin * sin - (-self.lambda).exp_m1(),
                2.0 * shrunk * sin * cos,
            );
            self.push(index as u32, modulus, phase, kernel, twice / self.period);
        }
        Some(())
    }

    fn fill_line(&mut self, law: &WeightedLaw, ln_negligible: f64) -> Option<()> {
        let Null::Gamma { shape } = law.null else {
            return None;
        };
        let step = TAU / self.period;
        let mut spent = 0;
        for index in 0u32.. {
            let u = f64::from(index) * step;
            let (mut modulus, mut phase, mut exponent) = (0.0, 0.0, 0.0);
            for class in &law.classes {
                let (weight, n) = (class.weight as f64, f64::from(shape) * class.cells as f64);
                let y = u * weight / (1.0 - self.lambda * weight);
                modulus -= 0.5 * n * (y * y).ln_1p();
                phase += n * (y.atan() - u * weight);
                exponent += n * y * y / (1.0 + y * y);
            }
            spent += law.classes.len() as u64;
            if spent > BUDGET {
                return None;
            }
            let twice = if index == 0 { 1.0 } else { 2.0 };
            self.push(index, modulus, phase, (self.lambda, u), twice / self.period);
            if index > 0 && modulus - exponent.ln() < ln_negligible {
                break;
            }
        }
        Some(())
    }

    /// Adds the node with e^(modulus + i phase) / kernel times `factor`.
    fn push(&mut self, index: u32, modulus: f64, phase: f64, kernel: (f64, f64), factor: f64) {
        let (sin, cos) = phase.sin_cos();
        let scale = factor * modulus.exp() / (kernel.0 * kernel.0 + kernel.1 * kernel.1);
        self.nodes.push(Node {
            index,
            re: scale * (cos * kernel.0 + sin * kernel.1),
            im: scale * (sin * kernel.0 - cos * kernel.1),
        });
    }

    /// `ln P(X >= point.sum)`; none where this line does not give it to the promised accuracy.
    fn upper_tail(&self, law: &WeightedLaw, point: Point) -> Option<LnP> {
        let upper = self.lambda > 0.0;
        let scale = self.k - self.lambda * point.excess;
        let (mut sum, mut size) = (0.0, 0.0);
        let lattice = matches!(law.null, Null::Binomial { .. });
        let shift = if lattice {
            point.sum.rem_euclid(self.period as i128) as u64
        } else {
            0
        };
        for node in &self.nodes {
            let turn = if lattice {
                angle(u64::from(node.index) * shift, self.period as u64)
            } else {
                f64::from(node.index) * TAU / self.period * point.excess
            };
            let (sin, cos) = turn.sin_cos();
            sum += node.re * cos + node.im * sin;
            size += node.re.abs() + node.im.abs();
        }
        let (known, bound) = self.ln_aliases(point.excess);
        let known = (known - scale).exp();
        let tail = if upper { sum } else { -sum } - known;
        // Cancellation: five digits are lost at most.
        if tail.is_nan() || tail <= 1e-5 * (size + known) {
            return None;
        }
        let ln = tail.ln() + scale;
        if bound > ln + ALIAS {
            return None;
        }
        let ln = ln.min(0.0);
        Some(LnP::from_ln(if upper { ln } else { ln_1m_exp(ln) }))
    }
}

/// The tilt to use: the saddlepoint, but at least one standard deviation's worth from the pole at 0 and, where
/// a weight is large against the standard deviation, less.
fn off_the_pole(law: &WeightedLaw, saddle: Saddle, upper: bool) -> (f64, super::Cumulant) {
    let largest = law
        .classes
        .iter()
        .map(|class| class.weight.unsigned_abs())
        .max()
        .unwrap_or(1) as f64;
    let least = law.variance.sqrt().recip().min(0.5 / largest);
    if saddle.lambda.abs() >= least {
        return (saddle.lambda, saddle.at);
    }
    let lambda = if upper { least } else { -least };
    (lambda, law.cumulant(lambda, Null::ideal_cumulant))
}

/// 2 pi `turns` / `period`, in (-pi, pi].
fn angle(turns: u64, period: u64) -> f64 {
    let rest = turns % period;
    let signed = if 2 * rest > period {
        rest as f64 - period as f64
    } else {
        rest as f64
    };
    signed / period as f64 * 2.0 * PI
}

/// Tails of many sums of one law: [`WeightedLaw::upper_tail`], with the characteristic function computed
/// once for all sums within a standard deviation of each of eight standard scores, when first needed.
///
/// Measured on two cores shared with other work, 20,000 cells with the weights isqrt(64 n) of Zipfian counts n (240
/// distinct): 20 us a sum within 8 standard deviations, after 40 ms for a green list, 100 ms for a tournament of depth
/// 30, and 2 ms for Gumbel scores. Without the table a sum costs 6, 16, and 1.3 ms.
#[derive(Debug)]
pub struct Tails<'a> {
    law: &'a WeightedLaw,
    contours: [OnceLock<Option<Contour>>; 8],
}

impl<'a> Tails<'a> {
    pub(super) fn new(law: &'a WeightedLaw) -> Self {
        Self {
            law,
            contours: [const { OnceLock::new() }; 8],
        }
    }

    /// The law.
    pub fn law(&self) -> &'a WeightedLaw {
        self.law
    }

    /// `ln P(T >= sum)` and how it was computed: the number of [`WeightedLaw::upper_tail`], within the error of
    /// an exact tail. At the edge of what is feasible a line of the table can give the exact tail where the sum's
    /// own line gives up and [`WeightedLaw::upper_tail`] falls back to the bound.
    pub fn upper_tail(&self, sum: i128) -> (LnP, TailMethod) {
        self.law.easy_tail(sum).unwrap_or_else(|| {
            let point = self.law.point(sum);
            match self.by_table(point) {
                Some(p) => (p, TailMethod::Exact),
                None => self.law.inverted_or_bound(sum),
            }
        })
    }

    /// Lines at z = 1, 3, 5, 7 and their negatives.
    fn by_table(&self, point: Point) -> Option<LnP> {
        let z = point.excess / self.law.variance.sqrt();
        let step = (z.abs() / 2.0) as usize;
        if step >= 4 {
            return None;
        }
        let upper = z > 0.0;
        let target = if upper { 1.0 } else { -1.0 } * (2 * step + 1) as f64;
        let contour = self.contours[step + if upper { 0 } else { 4 }].get_or_init(|| {
            let excess = target * self.law.variance.sqrt();
            let (least, most) = self.law.support();
            let inside = least.is_none_or(|least| self.law.excess(least, 1) < excess)
                && most.is_none_or(|most| self.law.excess(most, 1) > excess);
            inside.then(|| Contour::new(self.law, excess, upper))?
        });
        contour.as_ref()?.upper_tail(self.law, point)
    }
}
