use std::num::NonZeroUsize;

use super::*;
use crate::distill::{Distillation, distill};
use crate::key::{Epoch, SlotKey};
use crate::profile::{Mark, Profile};
use crate::report::contribution::contributions;
use crate::report::series::series;
use crate::window::Exhibit;

fn mark(byte: u8) -> Mark {
    let key = SlotKey::from_parts([byte; 32], Epoch::new("t").unwrap(), 0);
    Profile::built_in("greenlist-h1")
        .unwrap()
        .bind(&key)
        .unwrap()
}

fn exhibit(prompts: u32, length: u32) -> Exhibit {
    let mut exhibit = Exhibit::new(1);
    for source in 0..prompts {
        let text: Vec<u32> = (0..length).map(|i| i * (source + 3) % 977 % 211).collect();
        exhibit.push_from(source, &text);
    }
    exhibit
}

fn file(exhibit: &Exhibit) -> ReportFile {
    let mark = mark(1);
    let decoys: Vec<Mark> = (2..22).map(self::mark).collect();
    let report = distill(&Distillation::new(&mark, exhibit, &decoys), &|_| {}).unwrap();
    let scores = exhibit.cells().scores(&mark);
    let policy = Policy::default();
    let curve = DoseCurve {
        schema: crate::effect::DOSE_SCHEMA.to_owned(),
        source: "t".into(),
        points: vec![(0.0, 0.0), (1.0, 0.1)],
    };
    ReportFile {
        schema: REPORT_SCHEMA.to_owned(),
        tool: report.tool.clone(),
        verdict: Verdict::of_report(&report, &policy),
        configuration: Configuration {
            policy,
            decoys: 20,
            supervised_cells: None,
            reading_top: None,
        },
        materials: Materials {
            files: vec![Material {
                role: "suspect".into(),
                name: "s.jsonl".into(),
                content: None,
            }],
            tokenizer: Vocabulary {
                size: 1000,
                sha256: "00".repeat(32),
            },
            read: BTreeMap::new(),
        },
        custody: Custody::default(),
        series: Series {
            suspect: series(&mark, exhibit, &decoys, NonZeroUsize::MIN),
            control: Vec::new(),
        },
        contributions: Contributions {
            prompts: contributions(&mark, exhibit, &scores, &|source| source.to_string()),
            domains: Vec::new(),
            names: BTreeMap::from([(0, "zero".to_owned())]),
        },
        dose: Some(Dose::of(curve, &report, &policy)),
        report,
    }
}

#[test]
fn reading_and_writing_change_nothing() {
    for exhibit in [exhibit(4, 400), exhibit(1, 3), exhibit(0, 0), exhibit(3, 0)] {
        let file = file(&exhibit);
        let json = file.to_json();
        let read = ReportFile::from_json(&json).unwrap();
        assert_eq!(read.to_json(), json);
        // Of a p-value log10 p is kept, from which ln p comes back to the last bit but one.
        assert_eq!(read, ReportFile::from_json(&read.to_json()).unwrap());
        assert_eq!(read.series.suspect.len(), file.series.suspect.len());
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let json = file(&exhibit(4, 400)).to_json();
    let refuses = |from: &str, to: &str, words: &[&str]| {
        assert!(json.contains(from), "{from}");
        let error = ReportFile::from_json(&json.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        for word in words {
            assert!(error.contains(word), "`{error}` lacks `{word}`");
        }
    };
    refuses(
        REPORT_SCHEMA,
        "watermark.report/7",
        &["schema", "report/7", "report/1"],
    );
    refuses(
        "\"schema\": \"watermark.report/1\",",
        "",
        &["schema", "missing"],
    );
    refuses(
        "\"minCells\": 50",
        "\"minCells\": \"50\"",
        &["line 11", "configuration.policy.minCells"],
    );
    refuses("\"minCells\"", "\"minCell\"", &["line 11", "minCell"]);
    refuses(
        "\"nScored\": ",
        "\"nScored\": -1",
        &["report.suspect.test.nScored"],
    );
    refuses("\"sum\": \"", "\"sum\": \"x", &["sum", "integer"]);
    let cut = ReportFile::from_json(&json[..json.len() / 2]).unwrap_err();
    assert!(matches!(cut, ReportFileError::Json { .. }), "{cut}");
}

#[test]
fn numbers_that_contradict_each_other_are_not_shown() {
    let sound = file(&exhibit(4, 400));
    type Change = fn(&mut ReportFile);
    let changes: [(&str, Change); 8] = [
        ("verdict", |file| file.verdict = Verdict::Rejected),
        ("counts", |file| file.report.suspect.counts.tokens += 1),
        ("closed-cells", |file| file.report.findings[0].test.sum += 1),
        ("suspect.test", |file| {
            file.report.suspect.test.p = LnP::from_ln(-50.0);
        }),
        ("adjusted", |file| {
            file.report.findings[0].adjusted = LnP::from_ln(-50.0);
        }),
        ("rank", |file| {
            file.report.findings[1].decoys.as_mut().unwrap().rank += 1;
        }),
        ("decoys.z", |file| {
            file.report.findings[1].decoys.as_mut().unwrap().z.pop();
        }),
        ("contributions.prompts", |file| {
            file.contributions.prompts[0].sum += 1;
        }),
    ];
    for (word, change) in changes {
        let mut file = sound.clone();
        change(&mut file);
        let error = ReportFile::from_json(&file.to_json())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("contradicts") && error.contains(word),
            "{word}: {error}"
        );
    }
}

/// A sample of twice the cells shows smaller shares, and one of few cells none.
#[test]
fn the_detectable_share_falls_with_the_sample() {
    let share = |length| file(&exhibit(4, length)).dose.unwrap().detectable_share;
    assert_eq!(share(10), None);
    let (small, large) = (share(300).unwrap(), share(900).unwrap());
    assert!(
        0.0 < large && large < small && small < 1.0,
        "{large} {small}"
    );
    let file = file(&exhibit(4, 900));
    let test = &file.report.suspect.test;
    let at = |share: f64| {
        power(
            test.null,
            test.n_scored,
            test.null.mean() + 0.1 * share,
            1e-5 / 3.0,
        )
    };
    assert!(at(large) >= 0.9 && at(large - 1e-4) < 0.9);
}
