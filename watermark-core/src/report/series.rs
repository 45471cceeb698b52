//! How p fell as the text went on: a figure, and no test.
//!
//! A point is the plain test (`closed-cells`) of the first cells of the exhibit, in the order of the text. Each point
//! for itself has an exact p-value; that the line reaches some level somewhere has none, since nobody said
//! beforehand where to look. The evidence is the last point, which is the report's own test.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::detect::{PlainLaw, Score};
use crate::parallel::in_parallel;
use crate::profile::Mark;
use crate::stats::LnP;
use crate::window::Exhibit;

/// p of growing parts of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Point {
    /// Distinct cells so far.
    pub cells: u64,
    /// log10 of the upper tail of their sum.
    #[serde(rename = "pLog10")]
    pub p: LnP,
    /// log10 p of the same part under keys that nobody used: quantiles 0.05, 0.25, 0.5, 0.75 and 0.95 over
    /// the keys, lowest p first.
    #[serde(
        rename = "decoysPLog10",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub decoys: Option<[LnP; 5]>,
}

/// The points of a figure.
const POINTS: usize = 40;
/// The first of them, in cells.
const FIRST: f64 = 20.0;
const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// Some forty points, evenly spaced by the logarithm of the number of cells, the last at all of them. Empty
/// without cells.
pub fn series(
    mark: &Mark,
    exhibit: &Exhibit,
    decoys: &[Mark],
    threads: NonZeroUsize,
) -> Vec<Point> {
    let places = places(exhibit.cells().len());
    if !decoys.is_empty() {
        exhibit.cells().prepare();
    }
    let laws = laws(mark, exhibit, &places);
    let own = line(mark, exhibit, &laws);
    let others = in_parallel(threads, decoys, &|decoy| line(decoy, exhibit, &laws));
    let quantiles = |at: usize| {
        let mut column: Vec<LnP> = others.iter().map(|line| line[at].1).collect();
        column.sort_unstable();
        // The nearest rank, of one decoy at least.
        let rank = |q: f64| ((q * column.len() as f64).ceil() as usize).clamp(1, column.len());
        QUANTILES.map(|q| column[rank(q) - 1])
    };
    own.into_iter()
        .enumerate()
        .map(|(at, (cells, p))| Point {
            cells,
            p,
            decoys: (!decoys.is_empty()).then(|| quantiles(at)),
        })
        .collect()
}

/// Ends of the parts, ascending.
fn places(cells: usize) -> Vec<usize> {
    let (first, last) = (FIRST.min(cells as f64), cells as f64);
    let step = (last / first).ln() / (POINTS - 1) as f64;
    let mut places: Vec<usize> = (0..POINTS)
        .map(|at| (first * (step * at as f64).exp()).round() as usize)
        .map(|end| end.min(cells))
        .filter(|&end| end > 0)
        .collect();
    if let Some(end) = places.last_mut() {
        *end = cells;
    }
    places.dedup();
    places
}

/// The laws of the parts with these ends, the same for every key.
fn laws(mark: &Mark, exhibit: &Exhibit, ends: &[usize]) -> Vec<(usize, PlainLaw)> {
    let scores = exhibit.cells().scores(mark);
    let coins: Vec<usize> = scores.first_of_coin().collect();
    let before = |end: usize| &coins[..coins.partition_point(|&index| index < end)];
    let law = |&end: &usize| {
        let coins = || {
            before(end)
                .iter()
                .map(|&index| scores.coin(index))
                .collect()
        };
        (end, PlainLaw::of(mark, coins))
    };
    ends.iter().map(law).collect()
}

/// Coins and p of each part.
fn line(mark: &Mark, exhibit: &Exhibit, parts: &[(usize, PlainLaw)]) -> Vec<(u64, LnP)> {
    let scores = exhibit.cells().scores(mark);
    let mut coins = scores.first_of_coin().peekable();
    let mut score = Score::default();
    parts
        .iter()
        .map(|(end, law)| {
            while let Some(index) = coins.next_if(|index| index < end) {
                score.cells += 1;
                score.sum += scores.values()[index];
            }
            (score.cells, law.upper_tail(score))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Test;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;

    fn mark(byte: u8, profile: &str) -> Mark {
        let key = SlotKey::from_parts([byte; 32], Epoch::new("t").unwrap(), 0);
        Profile::built_in(profile).unwrap().bind(&key).unwrap()
    }

    #[test]
    fn a_point_is_the_test_of_the_first_cells() {
        for profile in [
            "greenlist-h1",
            "selfhash-h4",
            "gumbel-dual-h2",
            "hf-synthid",
            "sglang-gumbel",
        ] {
            let mark = mark(1, profile);
            let text: Vec<u32> = (0..3000u32).map(|i| i * i % 641 % 97).collect();
            let mut exhibit = Exhibit::new(mark.scheme().context_width());
            exhibit.push(&text);
            let decoys: Vec<Mark> = (2..12).map(|byte| self::mark(byte, profile)).collect();
            let points = series(&mark, &exhibit, &decoys, NonZeroUsize::MIN);
            assert!(points.len() > 5 && points.len() <= POINTS);
            let last = points.last().unwrap();
            let test = Test::of(&mark, &exhibit);
            assert_eq!((last.cells, last.p), (test.n_scored, test.p), "{profile}");
            let Some(end) = (0..text.len()).find(|&end| {
                let mut part = Exhibit::new(mark.scheme().context_width());
                part.push(&text[..end]);
                Test::of(&mark, &part).n_scored == points[3].cells
            }) else {
                panic!("no part has {} cells", points[3].cells);
            };
            let mut part = Exhibit::new(mark.scheme().context_width());
            part.push(&text[..end]);
            assert_eq!(points[3].p, Test::of(&mark, &part).p, "{profile}");
            // Every quantile of ten keys is one of theirs.
            let band = last.decoys.unwrap();
            let theirs: Vec<LnP> = decoys.iter().map(|d| Test::of(d, &exhibit).p).collect();
            assert!(band.iter().all(|p| theirs.contains(p)) && band.is_sorted());
            assert_eq!(band[4], *theirs.iter().max().unwrap());
        }
    }

    #[test]
    fn no_cells_no_points() {
        let mark = mark(1, "greenlist-h1");
        let mut exhibit = Exhibit::new(1);
        assert!(series(&mark, &exhibit, &[], NonZeroUsize::MIN).is_empty());
        exhibit.push(&[1, 2, 3]);
        let points = series(&mark, &exhibit, &[], NonZeroUsize::MIN);
        assert_eq!((points.len(), points[0].cells), (1, 2));
    }
}
