//! Is some passage of a text marked, and which? A scan over windows, with p corrected for the search.
//!
//! **Null hypothesis.** The text is independent of the key. Then the coins of the text, each at its first
//! occurrence and in that order, are independent with the scheme's null law: which coins there are and where they
//! stand does not depend on the key.
//!
//! **Windows** are runs of consecutive coins, not of tokens, so that none counts a coin twice. Their lengths are the
//! shortest allowed, times powers of the square root of 2, and the whole text; windows of one length start every eighth
//! of it, and one ends with the text. Which windows there are depends on the number of coins alone.
//!
//! **p.** A window of L coins with sum S has the exact tail P(S_L >= S). With K lengths, and M windows of its length,
//! a window's corrected value is `p K M`, at most 1, and the scan's is the smallest of all windows. Valid: by Boole's
//! inequality the probability that some window has p at most alpha / (K M) is at most the sum over windows of
//! alpha / (K M), which is alpha, however much windows overlap. (Dividing alpha over lengths first lets a long window
//! pay for the few that are as long, and not for the many short ones.) Conservative, since neighbours share coins.
//!
//! **Passages.** Windows with a corrected value of at most alpha, best first, each disjoint from those before
//! it. The first one's value is that of the scan: p of "no part of the text depends on the key". The further ones
//! hold with the same alpha for all together (weighted Bonferroni) under the hypothesis that, given the rest of the
//! text, the window's own cells are null. Marked text elsewhere is no reason to be found: it takes cells away that it
//! has met before, and where a token was chosen, others of its row score less.
//!
//! p belongs to the window. Where in it the passage begins and ends is an estimate: the run of tokens, repeats among
//! them, with the largest sum of what their scores exceed the middle between the null mean and the window's mean. A window that
//! reaches beyond a passage, or over text that repeats, is cut down by it.

use std::ops::Range;

use serde::Serialize;

use crate::profile::Mark;
use crate::stats::LnP;
use crate::window::Exhibit;

/// Starts of windows of one length are this share of it apart.
const SHIFTS: usize = 8;

/// The coins of a text at their first occurrences.
///
/// They do not depend on a key, but for marks of which several cells share a coin: there, which cells share one is decided by an
/// independent part of the key ([`Scores::weigh`](crate::cells::Scores::weigh)), so given these the coins are as under the null law.
#[derive(Clone, Debug)]
pub struct Sequence {
    exhibit: Exhibit,
    /// Of every cell the place of its token in the text, counted over all segments.
    places: Vec<usize>,
    /// Every counted token, repeats too: its place and its cell.
    counted: Vec<(usize, u32)>,
}

impl Sequence {
    /// The segments of one text, in its order; the windows of `contexts` do not count.
    pub fn new(context_width: usize, contexts: &[Vec<u32>], segments: &[Vec<u32>]) -> Self {
        let mut exhibit = Exhibit::new(context_width);
        contexts.iter().for_each(|context| exhibit.exclude(context));
        segments.iter().for_each(|segment| exhibit.push(segment));
        let (mut places, mut counted) = (Vec::new(), Vec::new());
        let mut before = 0;
        for (segment, (_, indices)) in segments.iter().zip(exhibit.stretches()) {
            let mut indices = indices.iter();
            for (at, cell) in segment.windows(context_width + 1).enumerate() {
                if exhibit.excludes_cell(cell) {
                    continue;
                }
                let place = before + at + context_width;
                let index = *indices.next().expect("one a counted position");
                counted.push((place, index));
                if index as usize == places.len() {
                    places.push(place);
                }
            }
            before += segment.len();
        }
        Self {
            exhibit,
            places,
            counted,
        }
    }

    /// The text's cells and counts.
    pub fn exhibit(&self) -> &Exhibit {
        &self.exhibit
    }
}

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scan {
    /// Coins of the text.
    pub cells: u64,
    /// Windows that were looked at.
    pub windows: u64,
    /// Coins of the shortest of them.
    pub shortest: u64,
    /// log10 of the corrected p of the best window: P(as good a window anywhere) is at most this if
    /// the text is independent of the key.
    #[serde(rename = "pLog10")]
    pub p: LnP,
    /// Passages at alpha, best first, disjoint.
    pub passages: Vec<Passage>,
}

/// A passage that is not independent of the key.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Passage {
    /// Estimate of the first token's place in the text, over all segments.
    pub start: usize,
    /// Estimate of the place one behind the last token.
    pub end: usize,
    /// Places of the window that was tested: its first counted token, and one behind its last.
    pub window: [usize; 2],
    /// Coins of the window.
    pub cells: u64,
    /// Their mean score, in the null's natural units.
    pub mean: f64,
    /// log10 p, corrected for the scan.
    #[serde(rename = "pLog10")]
    pub p: LnP,
}

/// A window of coins `start .. start + length`.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: usize,
    length: usize,
    sum: u64,
    p: LnP,
}

/// Windows of a text cannot be tested under this mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cells of this mark depend on each other, and its windows have no common law: test whole texts"
)]
pub struct DependentCells;

impl Scan {
    /// Scans a text with windows of at least `shortest` coins. A text of fewer coins has no window, and p = 1.
    ///
    /// # Errors
    /// The law of a window's sum depends on its cells: hf-synthid.
    pub fn of(
        mark: &Mark,
        sequence: &Sequence,
        shortest: u64,
        alpha: f64,
    ) -> Result<Self, DependentCells> {
        if mark.scheme().cells_depend() {
            return Err(DependentCells);
        }
        let bits = mark.scheme().key_bits();
        let null = mark.scheme().null();
        let scores = sequence.exhibit.cells().scores(mark);
        // Sums of the coins before each, and where the coins stand.
        let mut sums = vec![0u64];
        let mut places = Vec::new();
        for index in scores.first_of_coin() {
            sums.push(sums[sums.len() - 1] + scores.values()[index]);
            places.push(sequence.places[index]);
        }
        let coins = places.len();
        let lengths = lengths(coins, shortest);
        let mut candidates: Vec<Window> = Vec::new();
        let mut windows = 0;
        for &length in &lengths {
            let starts = starts(coins, length);
            let of_length = starts.len() as u64;
            windows += of_length;
            let looks = lengths.len() as u64 * of_length;
            let corrected = |sum| {
                let p = null.upper_tail(length as u64, sum);
                p.bonferroni(looks).of_key_bits(bits)
            };
            let sum = |start: usize| sums[start + length] - sums[start];
            let best = starts.iter().map(|&start| sum(start)).max();
            // The tail falls with the sum: only sums that could count need one.
            let enough = best.map_or(u64::MAX, |best| {
                least(best, |s| corrected(s).ln() <= alpha.ln())
            });
            let candidate = |start: usize| Window {
                start,
                length,
                sum: sum(start),
                p: corrected(sum(start)),
            };
            candidates.extend(
                starts
                    .iter()
                    .filter(|&&start| sum(start) >= enough || Some(sum(start)) == best)
                    .map(|&start| candidate(start)),
            );
        }
        // Of equal ones the longer, then the earlier.
        candidates.sort_by_key(|window| (window.p, std::cmp::Reverse(window.length), window.start));
        let p = candidates.first().map_or(LnP::ONE, |window| window.p);
        let mut chosen: Vec<Window> = Vec::new();
        for window in candidates {
            let apart = |other: &Window| {
                window.start + window.length <= other.start
                    || other.start + other.length <= window.start
            };
            if window.p.ln() <= alpha.ln() && chosen.iter().all(apart) {
                chosen.push(window);
            }
        }
        let passage = |window: &Window| {
            let coins = window.start..window.start + window.length;
            let mean = null.natural(window.sum) / window.length as f64;
            let middle = (null.mean() + mean) / 2.0;
            let whole = [places[coins.start], places[coins.end - 1] + 1];
            let at = |place: usize| {
                sequence
                    .counted
                    .partition_point(|&(other, _)| other < place)
            };
            let counted = &sequence.counted[at(whole[0])..at(whole[1])];
            let score = |cell: u32| null.natural(scores.values()[cell as usize]);
            let run = heaviest(counted.iter().map(|&(_, cell)| score(cell) - middle));
            Passage {
                start: counted[run.start].0,
                end: counted[run.end - 1].0 + 1,
                window: whole,
                cells: window.length as u64,
                mean,
                p: window.p,
            }
        };
        Ok(Self {
            cells: coins as u64,
            windows,
            shortest: lengths.first().map_or(shortest, |&length| length as u64),
            p,
            passages: chosen.iter().map(passage).collect(),
        })
    }
}

/// The run with the largest sum, the first of several; not empty.
fn heaviest(values: impl Iterator<Item = f64>) -> Range<usize> {
    let (mut best, mut run) = (0..1, 0..0);
    let (mut best_sum, mut sum) = (f64::NEG_INFINITY, 0.0);
    for (at, value) in values.enumerate() {
        if sum <= 0.0 {
            (run, sum) = (at..at, 0.0);
        }
        sum += value;
        run.end = at + 1;
        if sum > best_sum {
            (best, best_sum) = (run.clone(), sum);
        }
    }
    best
}

/// Lengths of windows, ascending, the last the whole; none where the text is shorter than the shortest.
fn lengths(coins: usize, shortest: u64) -> Vec<usize> {
    let shortest = shortest.max(1) as f64;
    let mut lengths: Vec<usize> = (0..)
        .map(|step| (shortest * (f64::from(step) / 2.0).exp2()).round() as usize)
        .take_while(|&length| length < coins)
        .collect();
    lengths.dedup();
    if coins as f64 >= shortest {
        lengths.push(coins);
    }
    lengths
}

/// Starts of the windows of a length, ascending.
fn starts(coins: usize, length: usize) -> Vec<usize> {
    let last = coins - length;
    let step = (length / SHIFTS).max(1);
    let mut starts: Vec<usize> = (0..=last).step_by(step).collect();
    if starts.last() != Some(&last) {
        starts.push(last);
    }
    starts
}

/// The least sum up to `most` for which `holds`, which holds from there on; one more than `most` if none does.
fn least(most: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

#[cfg(test)]
mod tests;
