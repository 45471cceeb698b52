//! What parts of an exhibit add to the plain test, and the test without them.
//!
//! The statistic of `closed-cells` is a sum over coins, so it can be taken apart without a remainder: a coin belongs to
//! the part in which it is met first. Without a part, the coins that only this part has are missing; all others
//! stay, wherever they are met first. Both are exact, for every part, in one pass.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::cells::Scores;
use crate::detect::{PlainLaw, Score};
use crate::profile::Mark;
use crate::stats::LnP;
use crate::window::Exhibit;

/// One part: the answers to a prompt, or those of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Contribution {
    /// What the part is called.
    pub name: String,
    /// Counted positions, repeats included.
    pub positions: u64,
    /// Cells that are met here first.
    pub cells: u64,
    /// Sum of their scores, in lattice units of the null law. Those of all parts add up to the test's own.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::IntegerText"))]
    #[serde(
        serialize_with = "crate::detect::as_string",
        deserialize_with = "crate::detect::from_string"
    )]
    pub sum: i128,
    /// The same in the null's natural units (ones, or nats).
    pub score: f64,
    /// Expected by chance for so many cells, in the same units.
    pub expected: f64,
    /// Standard score of these cells: a figure. Of many parts some stand out by chance.
    pub z: f64,
    /// Cells without this part.
    pub cells_without: u64,
    /// log10 p without this part.
    #[serde(rename = "pLog10Without")]
    pub p_without: LnP,
}

#[derive(Default)]
struct Part {
    positions: u64,
    cells: u64,
    sum: u64,
    /// Of coins that no other part has.
    own: Score,
}

/// Takes the exhibit apart; `part` tells to which part the prompt of a number belongs. In the order of the
/// parts' names.
pub fn contributions(
    mark: &Mark,
    exhibit: &Exhibit,
    scores: &Scores,
    part: &dyn Fn(u32) -> String,
) -> Vec<Contribution> {
    let null = mark.scheme().null();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut of_source: HashMap<u32, usize> = HashMap::new();
    let mut parts: Vec<Part> = Vec::new();
    // Of every coin the part that met it first, and whether another has met it since.
    let mut met: HashMap<u64, (usize, bool, u64)> = HashMap::new();
    for (source, places) in exhibit.stretches() {
        let number = *of_source.entry(source).or_insert_with(|| {
            *numbers.entry(part(source)).or_insert_with(|| {
                parts.push(Part::default());
                parts.len() - 1
            })
        });
        parts[number].positions += places.len() as u64;
        let places = places.iter().map(|&place| place as usize);
        for place in places.filter(|&place| scores.counts(place)) {
            let value = scores.values()[place];
            met.entry(scores.coin(place))
                .and_modify(|(first, shared, _)| *shared |= *first != number)
                .or_insert((number, false, value));
        }
    }
    let mut whole = Score::default();
    for &(first, shared, value) in met.values() {
        let part = &mut parts[first];
        part.cells += 1;
        part.sum += value;
        whole.cells += 1;
        whole.sum += value;
        if !shared {
            part.own.cells += 1;
            part.own.sum += value;
        }
    }
    numbers
        .into_iter()
        .map(|(name, number)| {
            let part = &parts[number];
            let without = Score {
                cells: whole.cells - part.own.cells,
                sum: whole.sum - part.own.sum,
            };
            let left = || {
                let others = met.iter();
                others
                    .filter(|(_, (first, shared, _))| *first != number || *shared)
                    .map(|(&coin, _)| coin)
                    .collect()
            };
            Contribution {
                name,
                positions: part.positions,
                cells: part.cells,
                sum: i128::from(part.sum),
                score: null.natural(part.sum),
                expected: null.mean() * part.cells as f64,
                z: null.z(part.cells, part.sum),
                cells_without: without.cells,
                p_without: PlainLaw::of(mark, left).upper_tail(without),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Test;
    use crate::key::{Epoch, SlotKey};
    use crate::profile::Profile;

    #[test]
    fn parts_add_up_and_what_is_left_is_the_test_without_them() {
        for profile in [
            "greenlist-h1",
            "selfhash-h4",
            "gumbel-dual-h2",
            "hf-synthid",
            "sglang-gumbel",
        ] {
            let key = SlotKey::from_parts([5; 32], Epoch::new("t").unwrap(), 0);
            let mark = Profile::built_in(profile).unwrap().bind(&key).unwrap();
            let mut exhibit = Exhibit::new(mark.scheme().context_width());
            for source in [0u32, 1, 2, 1, 3] {
                let text: Vec<u32> = (0..300).map(|i| i * (source + 2) * i % 61 % 13).collect();
                exhibit.push_from(source, &text);
            }
            let scores = exhibit.cells().scores(&mark);
            let parts = contributions(&mark, &exhibit, &scores, &|source| format!("p{source}"));
            let test = Test::of(&mark, &exhibit);
            assert_eq!(parts.iter().map(|part| part.sum).sum::<i128>(), test.sum);
            assert_eq!(
                parts.iter().map(|part| part.cells).sum::<u64>(),
                test.n_scored
            );
            for (source, part) in parts.iter().enumerate() {
                let rest = Test::of(&mark, &exhibit.without(source as u32));
                assert_eq!(part.name, format!("p{source}"));
                assert_eq!(
                    (part.cells_without, part.p_without),
                    (rest.n_scored, rest.p),
                    "{profile}, {source}"
                );
            }
            let even = |source: u32| {
                if source.is_multiple_of(2) {
                    "even"
                } else {
                    "odd"
                }
                .to_owned()
            };
            let domains = contributions(&mark, &exhibit, &scores, &even);
            let names: Vec<_> = domains.iter().map(|part| part.name.as_str()).collect();
            assert_eq!(names, ["even", "odd"]);
            let rest = Test::of(&mark, &exhibit.without(0).without(2));
            assert_eq!(domains[0].p_without, rest.p, "{profile}");
        }
    }
}
