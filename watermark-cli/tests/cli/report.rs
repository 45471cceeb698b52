//! Report files and what is made of them.

use std::process::Output;

use serde_json::{Value, json};
use watermark_core::key::{Epoch, SecretKey, read_key_file};
use watermark_core::profile::{Mark, Profile};

use super::Bench;

fn mark(bench: &Bench) -> Mark {
    let SecretKey::Master(master) = read_key_file(&bench.path("m.key")).unwrap() else {
        panic!("a master key");
    };
    let slot = master.slot(&Epoch::new("e1").unwrap(), 0);
    Profile::built_in("greenlist-h1")
        .unwrap()
        .bind(&slot)
        .unwrap()
}

/// Twelve answers to twelve prompts of two domains; of every `of` tokens one is green whatever the key says.
fn answers(mark: &Mark, of: usize) -> String {
    let mut lines = String::new();
    for number in 0..12u32 {
        let mut text = vec![number % 97];
        while text.len() < 120 {
            let last = text[text.len() - 1];
            let row = mark.scheme().row(&[last]);
            let from = (number * 31 + text.len() as u32 * 17) % 900;
            let wanted = text.len().is_multiple_of(of);
            let fits = |&token: &u32| !wanted || mark.scheme().score(&row, token) == 1;
            text.push((from..).find(fits).unwrap());
        }
        let domain = if number % 3 == 0 { "prose" } else { "code" };
        let line = json!({
            "custom_id": format!("{domain}-{number:03}"), "token_ids": text,
            "prompt_token_ids": [2000 + number, 2001 + number],
        });
        lines += &format!("{line}\n");
    }
    lines
}

const DOSE: &str = r#"{"schema":"watermark.dose-curve/1","source":"students","points":[[0,0.0],[0.5,0.2],[1,0.4]]}"#;

fn text(output: Output) -> String {
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A bench with a report of a marked suspect, of an unmarked one, and of nearly nothing.
fn bench() -> Bench {
    let bench = Bench::new();
    let mark = mark(&bench);
    bench.write("marked.jsonl", answers(&mark, 1).as_bytes());
    bench.write("clean.jsonl", answers(&mark, 1000).as_bytes());
    bench.write("short.jsonl", b"{\"token_ids\": [1, 2, 3]}\n");
    bench.write("dose.json", DOSE.as_bytes());
    for (name, more) in [
        (
            "marked",
            "--control clean.jsonl --logs marked.jsonl --supervised-cells 100",
        ),
        ("clean", ""),
        ("short", ""),
    ] {
        text(bench.run(&format!(
            "distill --key-file m.key --decoys 60 --dose-curve dose.json {name}.jsonl {more} --out {name}.json"
        )));
    }
    bench
}

fn json(bench: &Bench, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(bench.path(name)).unwrap()).unwrap()
}

#[test]
fn the_file_holds_what_was_found_and_what_was_read() {
    let bench = bench();
    let file = json(&bench, "marked.json");
    assert_eq!(file["schema"], "watermark.report/1");
    assert_eq!(file["verdict"], "rejected");
    assert_eq!(file["report"]["findings"].as_array().unwrap().len(), 4);
    let suspect = &file["materials"]["files"][0];
    assert_eq!(
        (&suspect["role"], &suspect["name"]),
        (&json!("suspect"), &json!("marked.jsonl"))
    );
    let bytes = std::fs::metadata(bench.path("marked.jsonl")).unwrap().len();
    assert_eq!(suspect["content"]["bytes"], bytes);
    assert_eq!(file["materials"]["read"]["suspect"]["answersFromIds"], 12);
    assert_eq!(
        file["contributions"]["prompts"].as_array().unwrap().len(),
        12
    );
    let domains: Vec<_> = file["contributions"]["domains"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(
        (&domains[0]["name"], &domains[1]["name"]),
        (&json!("code"), &json!("prose"))
    );
    let sums = domains
        .iter()
        .map(|domain| domain["sum"].as_str().unwrap().parse::<i64>().unwrap());
    let whole = file["report"]["suspect"]["test"]["sum"].as_str().unwrap();
    assert_eq!(sums.sum::<i64>().to_string(), whole);
    assert_eq!(file["configuration"]["supervisedCells"], 100);
    assert!(file["series"]["suspect"].as_array().unwrap().len() > 20);
    assert!(file["custody"]["madeAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(json(&bench, "clean.json")["verdict"], "not-rejected");
    assert_eq!(
        json(&bench, "short.json")["verdict"],
        "insufficient-evidence"
    );
}

#[test]
fn the_normal_form_is_the_file_itself() {
    let bench = bench();
    for name in ["marked", "clean", "short"] {
        let file = std::fs::read_to_string(bench.path(&format!("{name}.json"))).unwrap();
        assert_eq!(text(bench.run(&format!("report json {name}.json"))), file);
        let dense = serde_json::from_str::<Value>(&file).unwrap().to_string();
        bench.write("dense.json", dense.as_bytes());
        assert_eq!(text(bench.run("report json dense.json")), file);
    }
    text(bench.run("report md marked.json --out out.md"));
    let printed = text(bench.run("report md marked.json"));
    assert_eq!(
        std::fs::read_to_string(bench.path("out.md")).unwrap(),
        printed
    );
}

/// Words that no result is put in, whatever the renderer; and no key in any of them.
#[test]
fn agreed_words_alone() {
    let bench = bench();
    let mut outputs = Vec::new();
    for name in ["marked", "clean", "short"] {
        for form in ["html", "md", "json"] {
            outputs.push(text(bench.run(&format!("report {form} {name}.json"))));
        }
        for command in [
            format!("distill --key-file m.key --decoys 20 {name}.jsonl"),
            format!("distill --key-file m.key --decoys 20 {name}.jsonl --format json"),
            format!("distill --key-file m.key {name}.jsonl --watch {name}.state"),
            format!("detect --key-file m.key --windows --decoys 5 {name}.jsonl"),
            format!("detect --key-file m.key --windows {name}.jsonl --format json"),
            format!("explain --key-file m.key {name}.jsonl"),
            format!("explain --key-file m.key {name}.jsonl --format html"),
            format!("explain --key-file m.key {name}.jsonl --format json"),
        ] {
            outputs.push(text(bench.run(&command)));
        }
    }
    let key = std::fs::read_to_string(bench.path("m.key")).unwrap();
    let banned = [
        "proves",
        "proven",
        "stolen",
        "theft",
        "guilty",
        "certain",
        "100 %",
        "100%",
        "probability that the model was trained",
        key.trim(),
    ];
    for output in &outputs {
        // A page's style is for no reader.
        let output = match output.split_once("<style>") {
            Some((head, rest)) => format!("{head}{}", rest.split_once("</style>").unwrap().1),
            None => output.clone(),
        };
        let lower = output.to_lowercase();
        for word in banned {
            if let Some(at) = lower.find(&word.to_lowercase()) {
                let near: String = lower[at.saturating_sub(60)..].chars().take(120).collect();
                panic!("`{word}` in: {near}");
            }
        }
        for (at, _) in lower.match_indices("p = ") {
            let number: String = lower[at + 4..]
                .chars()
                .take_while(|letter| letter.is_ascii_digit() || ".e-^".contains(*letter))
                .collect();
            let number = number.trim_end_matches('.');
            let positive = |number: &str| number.parse::<f64>().is_ok_and(|p| p > 0.0);
            assert!(
                number.starts_with("10^-") || positive(number),
                "p = {number}"
            );
        }
    }
}

#[test]
fn verdicts_in_full() {
    let bench = bench();
    let id = json(&bench, "marked.json")["report"]["key"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let page = |name: &str, form: &str| text(bench.run(&format!("report {form} {name}.json")));
    for form in ["html", "md"] {
        let marked = page("marked", form);
        for words in [
            "exploratory: no sealed plan".to_owned(),
            format!("Independence of these outputs from key {id} is rejected"),
            "1e-9 by".to_owned(),
            "adjusted for 4 tests; e-value ".to_owned(),
            "rank 1 of 61 among the unused keys".to_owned(),
            "Expected if the model was trained, directly or indirectly, on text under that key".to_owned(),
            "Does not show who obtained the text, how, whether that was permitted, or how much of it.".to_owned(),
            // Its own logs are what the suspect says.
            "consistent with relaying our service; test that first".to_owned(),
        ] {
            assert!(marked.contains(&words), "{form}: {words}");
        }
        let clean = page("clean", form);
        for words in [
            &*format!("No dependence of these outputs on key {id} was detected"),
            "With this sample, exposure of at least ",
            "90 % power in the calibration students",
            "Not evidence of absence.",
        ] {
            assert!(clean.contains(words), "{form}: {words}");
        }
        assert!(!clean.contains("relaying our service"), "{form}");
        let short = page("short", form);
        assert!(
            short.contains("No test has as many as 50 scored cells."),
            "{form}"
        );
    }
}

/// Under a sealed plan and a commitment that was checked to its root.
#[test]
fn a_sealed_plan_is_named() {
    let bench = bench();
    let mut file = json(&bench, "marked.json");
    file["report"]["plan"] = json!({
        "id": "case 7", "digest": "ab".repeat(32), "sealedAt": "2026-10-01T00:00:00Z",
        "tests": ["closed-cells"], "primary": "closed-cells",
        "plannedAnswers": 12, "answers": 12, "answersToPrompts": 12,
    });
    file["report"]["commitment"] =
        json!({"root": "cd".repeat(32), "digest": "ef".repeat(32), "checked": "root"});
    bench.write("sealed.json", file.to_string().as_bytes());
    let id = file["report"]["key"]["id"].as_str().unwrap();
    for form in ["html", "md"] {
        let page = text(bench.run(&format!("report {form} sealed.json")));
        for words in [
            "under the plan sealed 2026-10-01T00:00:00Z".to_owned(),
            format!(
                "Under the plan sealed 2026-10-01T00:00:00Z, independence of these outputs from sealed key {id} is rejected"
            ),
            "rank 1 of 61 among the sealed unused keys".to_owned(),
            "The plan case 7 is sealed, by the sealer".to_owned(),
            "its root was computed again from the master key".to_owned(),
        ] {
            assert!(page.contains(&words), "{form}: {words}");
        }
        assert!(!page.contains("no sealed plan"));
    }
}

#[test]
fn a_page_is_complete_in_itself() {
    let bench = bench();
    for command in [
        "report html marked.json",
        "report html short.json",
        "explain --key-file m.key marked.jsonl --format html",
    ] {
        let page = text(bench.run(command));
        for foreign in [
            "<script", "://", "src=", "@import", "url(", "onload", "<iframe", "<form",
        ] {
            assert!(!page.contains(foreign), "{command}: {foreign}");
        }
        assert!(page.starts_with("<!DOCTYPE html>"), "{command}");
        assert!(page.contains("default-src 'none'") && page.contains("prefers-color-scheme"));
        assert_eq!(page.matches("<h1").count(), 1, "{command}");
        for figure in page.split("<svg").skip(1) {
            let head = figure.split_once("<rect").map_or(figure, |(head, _)| head);
            for part in ["role=\"img\"", "aria-labelledby=", "<title", "<desc"] {
                assert!(head.contains(part), "{command}: {part}");
            }
        }
    }
}

#[test]
fn files_that_are_none() {
    let bench = bench();
    let file = std::fs::read_to_string(bench.path("marked.json")).unwrap();
    bench.refuses("report html none.json", 1, &["none.json"]);
    bench.write("cut.json", &file.as_bytes()[..file.len() / 2]);
    bench.refuses("report md cut.json", 4, &["cut.json", "line", "EOF"]);
    let other = file.replacen("watermark.report/1", "watermark.report/2", 1);
    bench.write("other.json", other.as_bytes());
    bench.refuses(
        "report html other.json",
        4,
        &["schema", "report/2", "reads `watermark.report/1`"],
    );
    bench.write(
        "field.json",
        file.replacen("\"minCells\"", "\"mincells\"", 1).as_bytes(),
    );
    bench.refuses(
        "report json field.json",
        4,
        &["line ", "configuration", "mincells"],
    );
    let turned = file.replacen(
        "\"verdict\": \"rejected\"",
        "\"verdict\": \"not-rejected\"",
        1,
    );
    bench.write("turned.json", turned.as_bytes());
    for form in ["html", "md", "json"] {
        let words = ["turned.json", "verdict", "contradicts"];
        bench.refuses(&format!("report {form} turned.json"), 3, &words);
    }
    bench.refuses(
        "distill --key-file m.key clean.jsonl --watch w.json --out r.json",
        2,
        &["--watch", "--out"],
    );
}

/// 300 marked tokens in the midst of others: found there, and told in characters of the text.
#[test]
fn a_passage_is_found_in_a_long_text() {
    let bench = Bench::new();
    let mark = mark(&bench);
    let first = |lines: String| {
        let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        let ids = line["token_ids"].as_array().unwrap().clone();
        ids.into_iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect::<Vec<_>>()
    };
    let filler: Vec<u32> = (0..3000u32).map(|i| i * i % 2003 * 7 % 1999).collect();
    let mut ids = filler;
    let mut passage = first(answers(&mark, 1));
    for round in 1..3 {
        let more = answers(&mark, 1);
        let line: Value = serde_json::from_str(more.lines().nth(round).unwrap()).unwrap();
        let more = line["token_ids"].as_array().unwrap().iter();
        passage.extend(more.map(|id| id.as_u64().unwrap() as u32));
    }
    let length = passage.len();
    ids.splice(1500..1500, passage);
    bench.write(
        "long.jsonl",
        format!("{}\n", json!({"token_ids": ids})).as_bytes(),
    );
    let command = "detect --key-file m.key --windows --decoys 30 long.jsonl";
    let output = text(bench.run(&format!("{command} --format json")));
    let found: Value = serde_json::from_str(&output).unwrap();
    let line = &found["inputs"][0];
    assert_eq!(line["verdict"], "rejected");
    let passage = &line["windows"]["passages"][0];
    let place = |name: &str| passage[name].as_u64().unwrap() as usize;
    assert!(
        place("start") >= 1400 && place("end") <= 1600 + length,
        "{passage}"
    );
    assert!(passage["characters"][0].as_u64() < passage["characters"][1].as_u64());
    assert_eq!(line["windows"]["decoys"]["rank"], 1);
    assert!(line["windows"]["pLog10"].as_f64().unwrap() < -9.0, "{line}");
    let human = text(bench.run(command));
    assert!(
        human.contains("corrected for the search, rank 1 of 31")
            && human.contains("passage    tokens")
    );
    bench.refuses(
        "detect --key-file m.key --decoys 3 long.jsonl",
        2,
        &["--windows"],
    );
    bench.refuses(
        "detect --key-file s.key --windows --decoys 3 long.jsonl",
        2,
        &["master key"],
    );
}
