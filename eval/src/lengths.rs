//! Detection of single texts by length: how many tokens a marked text needs.

use serde::Serialize;
use watermark_core::detect::Test;
use watermark_core::profile::Mark;
use watermark_core::window::Exhibit;

/// The lengths that are looked at.
pub const LENGTHS: [usize; 4] = [50, 100, 200, 400];

/// p-values of texts cut to one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AtLength {
    /// What the texts are.
    pub what: String,
    /// Tokens of each.
    pub length: usize,
    /// Texts that are so long.
    pub texts: usize,
    /// log10 p: the tenth of the texts with the smallest, the middle one, the tenth with the largest.
    pub p_log10: [f64; 3],
    /// Share of the texts with p at most 1e-5.
    pub found: f64,
}

/// Tests every text that is long enough, cut to each of [`LENGTHS`], as an exhibit of its own.
#[must_use]
pub fn by_length(what: &str, mark: &Mark, texts: &[&[u32]]) -> Vec<AtLength> {
    let at = |length: usize| {
        let mut p: Vec<f64> = texts
            .iter()
            .filter(|text| text.len() >= length)
            .map(|text| {
                let mut exhibit = Exhibit::new(mark.profile().context_width());
                exhibit.push(&text[..length]);
                Test::of(mark, &exhibit).p.log10()
            })
            .collect();
        p.sort_unstable_by(f64::total_cmp);
        let quantile = |share: f64| {
            let place = (share * p.len().saturating_sub(1) as f64).round() as usize;
            p.get(place).copied().unwrap_or(0.0)
        };
        let found = p.iter().filter(|&&p| p <= -5.0).count();
        AtLength {
            what: what.to_owned(),
            length,
            texts: p.len(),
            p_log10: [0.1, 0.5, 0.9].map(quantile),
            found: found as f64 / p.len().max(1) as f64,
        }
    };
    LENGTHS.into_iter().map(at).collect()
}

/// The rows as a Markdown table.
#[must_use]
pub fn markdown(rows: &[AtLength]) -> String {
    let mut out = String::from(
        "| text | tokens | texts | log10 p: best tenth, middle, worst tenth | p at most 1e-5 |\n|---|---|---|---|---|\n",
    );
    for row in rows {
        let [best, middle, worst] = row.p_log10;
        out.push_str(&format!(
            "| {} | {} | {} | {best:.1}, {middle:.1}, {worst:.1} | {:.3} |\n",
            row.what, row.length, row.texts, row.found
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use watermark_core::key::{Epoch, SlotKey};
    use watermark_core::profile::Profile;

    #[test]
    fn longer_marked_texts_are_found_and_others_are_not() {
        let mark = |byte: u8| {
            let key = SlotKey::from_parts([byte; 32], Epoch::new("t").unwrap(), 0);
            Profile::built_in("greenlist-h1")
                .unwrap()
                .bind(&key)
                .unwrap()
        };
        let (ours, other) = (mark(1), mark(2));
        let scheme = ours.scheme();
        let mut text = vec![1];
        while text.len() < 210 {
            let row = scheme.row(&text[text.len() - 1..]);
            let from = 37 * text.len() as u32;
            text.push(
                (from..)
                    .find(|&token| scheme.score(&row, token) == 1)
                    .unwrap(),
            );
        }
        let rows = by_length("ours", &ours, &[&text]);
        assert_eq!(
            rows.iter().map(|row| row.texts).collect::<Vec<_>>(),
            [1, 1, 1, 0]
        );
        assert!(rows[2].found == 1.0 && rows[2].p_log10[1] < rows[0].p_log10[1]);
        assert!(by_length("other", &other, &[&text])[2].p_log10[1] > -5.0);
    }
}
