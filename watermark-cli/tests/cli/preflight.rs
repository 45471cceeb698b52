//! `plan preflight`. What the numbers should be is asked of the library.

use serde_json::{Value, json};
use watermark_core::detect::Test;
use watermark_core::profile::Mark;
use watermark_core::scheme::Null;
use watermark_core::stats::power::cells_needed;
use watermark_core::window::Exhibit;

use super::Bench;
use super::distill::{answers, mark};

fn session(mark: &Mark, ids: &[u32], key_id: &str) -> Value {
    // Ten tokens were left alone for two reasons.
    json!({
        "type": "watermark.session", "schema": 1, "profile": mark.profile().id, "keyId": key_id,
        "epoch": "e1", "slot": 0, "tokens": ids, "segments": [0], "marked": ids.len() - 10,
        "skips": [
            {"at": 0, "len": 1, "reason": "partial_context"},
            {"at": 20, "len": 9, "reason": "low_entropy"},
        ],
    })
}

fn log(said: &[Vec<u32>], session: impl Fn(&[u32]) -> Option<Value>) -> Vec<u8> {
    let lines = said.iter().map(|ids| {
        let mut line = json!({"prompt_token_ids": [3001, 3002], "token_ids": ids});
        if let Some(session) = session(ids) {
            line["session"] = session;
        }
        line.to_string() + "\n"
    });
    lines.collect::<String>().into_bytes()
}

#[track_caller]
fn report(bench: &Bench, arguments: &str) -> Value {
    let output = bench.run(&format!(
        "plan preflight --key-file m.key --format json {arguments}"
    ));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn logs_are_measured_before_a_campaign() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    let said = answers(&mark, 0..210);
    bench.write("log.jsonl", &log(&said, |_| None));
    let plain: Vec<Vec<u32>> = (0..210u32)
        .map(|n| (0..60).map(|at| (n * 61 + at * at * 7) % 3001).collect())
        .collect();
    bench.write("plain.jsonl", &log(&plain, |_| None));
    bench.write(
        "dose.json",
        br#"{"schema":"watermark.dose-curve/1","source":"students","points":[[0,0],[1,0.2]]}"#,
    );
    let found = report(
        &bench,
        "log.jsonl --unmarked plain.jsonl --dose-curve dose.json --share 0.5 --cells-per-token 0.5",
    );

    let mut exhibit = Exhibit::new(1);
    exhibit.exclude(&[3001, 3002]);
    said.iter().for_each(|ids| exhibit.push_from(0, ids));
    let test = Test::of(&mark, &exhibit);
    let excess = test.mean - test.null_mean;
    let strength = &found["strength"];
    assert_eq!(strength["pLog10"], test.p.log10());
    assert_eq!(strength["excess"], excess);
    let scored = test.n_scored as f64 / (210.0 * 60.0);
    assert_eq!(strength["scoredShare"], scored);
    // Without session records, by the rules: one token of each answer has no window.
    assert_eq!(found["skips"]["source"], "estimated");
    assert_eq!(found["skips"]["rate"], 1.0 / 60.0);

    let null = Null::Binomial {
        trials: 1,
        numerator: 1,
        bits: 2,
    };
    let needs = found["needs"].as_array().unwrap();
    let expected = [
        ("transfer", 0.01, 0.01 * excess),
        ("transfer", 0.1, 0.1 * excess),
        ("transfer", 0.5, 0.5 * excess),
        ("share", 0.5, 0.1),
    ];
    assert_eq!(needs.len(), expected.len());
    for (need, (by, value, excess)) in needs.iter().zip(expected) {
        assert_eq!((&need["by"], &need["value"]), (&json!(by), &json!(value)));
        let cells = cells_needed(null, 0.25 + excess, 1e-5, 0.9).unwrap();
        assert_eq!(need["cells"], cells);
        assert_eq!(
            (&need["tokens"], &need["atLeast"]),
            (&json!(2 * cells), &json!(false))
        );
    }
    // By the logs' own growth: few cells in at least as many tokens, and no more than they have.
    let grown = report(&bench, "log.jsonl");
    let half = &grown["needs"][2];
    let [cells, tokens] = ["cells", "tokens"].map(|name| half[name].as_u64().unwrap());
    assert!(
        (cells..210 * 60).contains(&tokens) && half["atLeast"] == false,
        "{half}"
    );
    assert_eq!(grown["needs"][0]["atLeast"], true);
    // The tokens that are needed grow as the inverse square.
    let [few, many] = [2, 1].map(|index| needs[index]["cells"].as_f64().unwrap());
    assert!((15.0..40.0).contains(&(many / few)), "{few} {many}");

    let comparison = &found["comparison"];
    for side in ["marked", "unmarked"] {
        assert_eq!(comparison[side]["tokens"], 210 * 60);
    }
    let [marked, unmarked] =
        ["marked", "unmarked"].map(|side| comparison[side]["distinct4"].as_f64().unwrap());
    assert_eq!(comparison["lost"]["distinct4"], 1.0 - marked / unmarked);
    assert_eq!(found["single"]["answers"], 210);
    assert_eq!(found["warnings"], json!([]));

    let output = bench.run("plan preflight --key-file m.key log.jsonl --unmarked plain.jsonl");
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "210 logged answers",
        "p < 1e-9",
        "estimated",
        "lost, in 100",
        "A suspect would",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn session_records_say_what_was_skipped() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    let said = answers(&mark, 0..20);
    let own = mark.key_id().to_string();
    bench.write(
        "log.jsonl",
        &log(&said, |ids| Some(session(&mark, ids, &own))),
    );
    let found = report(&bench, "log.jsonl");
    let skips = &found["skips"];
    assert_eq!(skips["source"], "sessions");
    assert_eq!(skips["answers"], 20);
    assert_eq!(skips["rate"], 10.0 / 60.0);
    assert_eq!(skips["reasons"]["low_entropy"], 9.0 / 60.0);
    assert!(
        found["warnings"][0]
            .as_str()
            .unwrap()
            .contains("20 answers")
    );

    let other = "00112233aabbccdd";
    bench.write(
        "other.jsonl",
        &log(&said, |ids| Some(session(&mark, ids, other))),
    );
    let run = "plan preflight --key-file m.key";
    bench.refuses(
        &format!("{run} other.jsonl"),
        2,
        &["other.jsonl", other, &own],
    );
    bench.write(
        "bad.jsonl",
        b"{\"token_ids\":[1],\"session\":{\"type\":\"watermark.session\"}}",
    );
    bench.refuses(
        &format!("{run} bad.jsonl"),
        4,
        &["bad.jsonl", "line 1", "`session`"],
    );
    bench.refuses(
        &format!("{run} log.jsonl --transfer 0.1,2"),
        2,
        &["--transfer"],
    );
}

/// Logs without the mark, and a control that has it, are told.
#[test]
fn what_does_not_fit_is_told() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    bench.write("log.jsonl", &log(&answers(&mark, 0..30), |_| None));
    let found = report(&bench, "--slot 5 log.jsonl --unmarked log.jsonl");
    let said = found["warnings"].to_string();
    assert!(
        said.contains("do not show the mark") && !said.contains("no control"),
        "{said}"
    );
    let found = report(&bench, "log.jsonl --unmarked log.jsonl");
    let said = found["warnings"].to_string();
    assert!(
        said.contains("no control") && !said.contains("do not show"),
        "{said}"
    );
    assert_eq!(found["comparison"]["lost"]["distinct2"], 0.0);
}
