//! The known-answer test: fixed token ids under a test key, and the p-values that they have.

use watermark_core::detect::Test;
use watermark_core::key::{Epoch, SlotKey};
use watermark_core::profile::Profile;
use watermark_core::verdict::{Policy, Verdict};
use watermark_core::window::Exhibit;

/// A text of 119 cells, each green under `greenlist-h1` and the test key: p is (1/4)^119 there. It is no text of the
/// other schemes, whose p-values are what they happened to be when they were written down.
#[rustfmt::skip]
const IDS: [u32; 120] = [
    17, 122, 240, 358, 477, 595, 716, 834, 953, 1072, 1194, 1309, 1439, 1553, 1666,
    1786, 1911, 2026, 2143, 2261, 2380, 2500, 2618, 2737, 2856, 2985, 3096, 3214, 3339, 3455,
    3570, 3689, 3808, 28, 153, 265, 398, 515, 624, 745, 870, 988, 1098, 1218, 1339,
    1455, 1580, 1698, 1815, 1932, 2065, 2173, 2293, 2407, 2530, 2647, 2765, 2883, 3005, 3129,
    3243, 3363, 3478, 3607, 3718, 3837, 55, 178, 292, 413, 530, 650, 768, 887, 1012,
    1139, 1252, 1367, 1483, 1602, 1723, 1845, 1958, 2077, 2198, 2318, 2439, 2558, 2672, 2794,
    2913, 3031, 3150, 3268, 3387, 3508, 3624, 3746, 3863, 88, 202, 319, 440, 557, 679,
    797, 917, 1034, 1152, 1272, 1390, 1512, 1628, 1751, 1869, 1986, 2105, 2224, 2346, 2462,
];

/// A profile, and what the text has under it.
struct Answer {
    profile: &'static str,
    ln_p: f64,
    verdict: Verdict,
}

const ANSWERS: [Answer; 5] = [
    Answer {
        profile: "greenlist-h1",
        ln_p: -164.96902897326697,
        verdict: Verdict::Rejected,
    },
    Answer {
        profile: "selfhash-h4",
        ln_p: -0.12498387519812586,
        verdict: Verdict::NotRejected,
    },
    Answer {
        profile: "gumbel-h2",
        ln_p: -2.2569396401464297,
        verdict: Verdict::NotRejected,
    },
    Answer {
        profile: "gumbel-dual-h2",
        ln_p: -1.4670730778342063,
        verdict: Verdict::NotRejected,
    },
    Answer {
        profile: "tournament-h2",
        ln_p: -0.1477009944688562,
        verdict: Verdict::NotRejected,
    },
];

/// Scores the text under every kind of scheme, and compares. The reason names the profile.
pub(super) fn test() -> Result<(), String> {
    ANSWERS.iter().try_for_each(check)
}

fn check(answer: &Answer) -> Result<(), String> {
    let (ln_p, verdict) = compute(answer.profile)?;
    let close = (ln_p - answer.ln_p).abs() <= 1e-9 * answer.ln_p.abs().max(1.0);
    if !close || verdict != answer.verdict {
        return Err(format!(
            "profile {}: ln p is {ln_p}, not {}",
            answer.profile, answer.ln_p
        ));
    }
    Ok(())
}

fn compute(profile: &str) -> Result<(f64, Verdict), String> {
    let epoch = Epoch::new("known-answer").map_err(|error| error.to_string())?;
    let key = SlotKey::from_parts([0x5a; 32], epoch, 0);
    let mark = Profile::built_in(profile)
        .ok_or_else(|| format!("no profile {profile}"))?
        .bind(&key)
        .map_err(|error| error.to_string())?;
    let mut exhibit = Exhibit::new(mark.profile().context_width());
    exhibit.push(&IDS);
    let test = Test::of(&mark, &exhibit);
    Ok((test.p.ln(), Verdict::of(&test, &Policy::default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_those_on_record_and_no_others() {
        assert_eq!(test(), Ok(()));
        let all_green = 119.0 * 0.25f64.ln();
        assert!((ANSWERS[0].ln_p - all_green).abs() < 1e-9);
        // Each wrong record is found.
        for answer in &ANSWERS {
            let wrong = Answer {
                ln_p: answer.ln_p - 1e-6,
                ..*answer
            };
            assert!(check(&wrong).unwrap_err().contains(answer.profile));
        }
    }
}
