//! `distill` with each kind of evidence, and evidence that does not fit. What the numbers should be is
//! asked of the library.

use serde_json::{Value, json};
use watermark_core::battery::Battery;
use watermark_core::detect::{Test, TestId};
use watermark_core::key::{Epoch, SecretKey, read_key_file};
use watermark_core::openweights::ScoredText;
use watermark_core::profile::{Mark, Profile};
use watermark_core::reading::Reading;
use watermark_core::regime::{Chosen, ExactWindows};
use watermark_core::window::Exhibit;

use super::Bench;
use super::conform::conforms_to_its_type;

const VOCABULARY: usize = 4096;
pub(super) const PROMPT: [u32; 3] = [3001, 3002, 3003];

/// The mark of a slot of the bench's master key.
pub(super) fn mark(bench: &Bench, profile: &str) -> Mark {
    let SecretKey::Master(master) = read_key_file(&bench.path("m.key")).unwrap() else {
        panic!("a master key");
    };
    let slot = master.slot(&Epoch::new("e1").unwrap(), 0);
    Profile::built_in(profile).unwrap().bind(&slot).unwrap()
}

/// Answer `number`, of tokens 0 to 998: green ones, and now and then any.
fn answer(mark: &Mark, number: u32, length: usize) -> Vec<u32> {
    let mut text = vec![number % 97];
    while text.len() < length {
        let row = mark.scheme().row(&text[text.len() - 1..]);
        let from = (number * 31 + text.len() as u32 * 17) % 900;
        text.push(
            (from..)
                .find(|&token| mark.scheme().score(&row, token) == 1 || token % 5 == 0)
                .unwrap(),
        );
    }
    text
}

pub(super) fn answers(mark: &Mark, numbers: std::ops::Range<u32>) -> Vec<Vec<u32>> {
    numbers.map(|number| answer(mark, number, 60)).collect()
}

/// A file of answers to one prompt.
pub(super) fn records(answers: &[Vec<u32>]) -> String {
    let line =
        |ids: &Vec<u32>| json!({"prompt_token_ids": PROMPT, "token_ids": ids}).to_string() + "\n";
    answers.iter().map(line).collect()
}

/// A model that is fond of green tokens at every position of a text from `first` on, or of any.
pub(super) fn read(mark: &Mark, tokens: &[u32], first: usize, fond: bool) -> ScoredText {
    let lists = (first..tokens.len()).map(|at| {
        let row = mark.scheme().row(&tokens[at - 1..at]);
        let two = (0..).filter(|&token| !fond || mark.scheme().score(&row, token) == 1);
        let mut list: Vec<_> = two.skip(at % 7).take(2).map(|token| (token, 0.3)).collect();
        list.push((1000, 0.2));
        list
    });
    ScoredText::new(VOCABULARY, tokens.to_vec(), first, lists).unwrap()
}

pub(super) fn lines<'t>(texts: impl IntoIterator<Item = &'t ScoredText>) -> String {
    texts
        .into_iter()
        .map(|text| text.to_line() + "\n")
        .collect()
}

impl Bench {
    pub(super) fn file(&self, name: &str, text: &str) {
        self.write(name, text.as_bytes());
    }

    /// The report of a run that must succeed.
    #[track_caller]
    pub(super) fn json(&self, arguments: &str) -> Value {
        let output = self.run(&format!("{arguments} --format json"));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments}: {error}");
        let value = serde_json::from_slice(&output.stdout).unwrap();
        conforms_to_its_type(&value);
        value
    }

    #[track_caller]
    pub(super) fn human(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }
}

const DISTILL: &str = "distill --key-file m.key --decoys 0";

fn finding(report: &Value, id: TestId) -> &Value {
    let findings = report["report"]["findings"].as_array().unwrap();
    let found = findings
        .iter()
        .find(|finding| finding["test"]["id"] == id.name());
    found.unwrap_or_else(|| panic!("no {id} in {findings:?}"))
}

pub(super) fn names(report: &Value) -> Vec<&str> {
    let findings = report["report"]["findings"].as_array().unwrap().iter();
    findings
        .map(|f| f["test"]["id"].as_str().unwrap())
        .collect()
}

/// The command's test is the library's.
#[track_caller]
fn same(report: &Value, test: &Test) {
    let found = &finding(report, test.id)["test"];
    assert_eq!(*found, serde_json::to_value(test).unwrap());
    assert!(test.n_scored > 0, "{test:?}");
}

pub(super) fn warned(report: &Value, name: &str) -> bool {
    let warnings = report["report"]["warnings"].as_array().unwrap();
    warnings.iter().any(|warning| warning["warning"] == name)
}

#[test]
fn a_reference_reads_the_suspects_answers() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    let said = answers(&mark, 0..12);
    bench.file("suspect.jsonl", &records(&said));
    // Prompt and answer; the prompt's own distributions are there or not.
    let texts: Vec<ScoredText> = said
        .iter()
        .enumerate()
        .map(|(index, ids)| {
            let tokens = [&PROMPT, &ids[..]].concat();
            read(&mark, &tokens, if index % 2 == 0 { 1 } else { 3 }, false)
        })
        .collect();
    bench.file("reference.jsonl", &lines(&texts));
    let run = format!("{DISTILL} suspect.jsonl --reference reference.jsonl");
    let report = bench.json(&run);
    let mut exhibit = Exhibit::new(1);
    exhibit.exclude(&PROMPT);
    said.iter().for_each(|ids| exhibit.push_from(0, ids));
    let parts: Vec<_> = texts.iter().map(|text| text.part(3, usize::MAX)).collect();
    let battery = Battery::reference(&mark, &exhibit, &parts).unwrap();
    same(&report, &battery.tests(&mark)[0]);
    assert_eq!(report["verdict"], "rejected");
    assert_eq!(report["type"], "watermark.distillation");
    assert_eq!(report["read"]["reference"]["texts"], 12);
    assert_eq!(report["read"]["suspect"]["answersFromIds"], 12);
    // One prompt, so no interval by prompt.
    assert_eq!(report["report"]["effect"]["sources"], 1);
    // A corpus weighs the suspect's cells.
    bench.file("corpus.jsonl", &records(&said[..3]));
    let report = bench.json(&format!("{DISTILL} suspect.jsonl --corpus corpus.jsonl"));
    same(
        &report,
        &Battery::corpus(&mark, &exhibit, &said[..3]).tests(&mark)[0],
    );

    bench.file("reference.jsonl", &lines(texts.iter().rev()));
    bench.refuses(&run, 4, &["reference", "text 1, token", "same order"]);
    bench.file("reference.jsonl", &lines(&texts[..11]));
    bench.refuses(&run, 4, &["reference", "text 12, token 0"]);
    let mut tokens = texts[4].tokens().to_vec();
    tokens[20] += 1;
    let changed = read(&mark, &tokens, 1, false);
    bench.file(
        "reference.jsonl",
        &lines(texts[..4].iter().chain([&changed]).chain(&texts[5..])),
    );
    bench.refuses(&run, 4, &["reference", "text 5, token 20"]);
    let bad = r#"{"token_ids":[1,2],"logprobs":[null,[[1,-0.5],[2,-0.5]]]}"#;
    bench.file("reference.jsonl", &format!("{}{bad}", lines(&texts[..2])));
    bench.refuses(&run, 4, &["reference.jsonl, line 3", "add up to 1.21"]);
}

#[test]
fn weights_that_can_be_read() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    let neutral: Vec<Vec<u32>> = (0..6u32)
        .map(|text| {
            (0..100)
                .map(|i| (i * (2 * text + 3) + text) % 997)
                .collect()
        })
        .collect();
    let all = |fond| -> Vec<ScoredText> {
        neutral
            .iter()
            .map(|ids| read(&mark, ids, 1, fond))
            .collect()
    };
    let (suspect, reference) = (all(true), all(false));
    bench.file("s.jsonl", &lines(&suspect));
    bench.file("r.jsonl", &lines(&reference));
    bench.file("q.jsonl", &lines(&suspect));
    let run = format!("{DISTILL} --open-suspect s.jsonl");
    let report = bench.json(&format!(
        "{run} --open-reference r.jsonl --open-reference q.jsonl --open-control r.jsonl"
    ));
    assert_eq!(names(&report), ["open-soft", "open-contrast"]);
    assert_eq!(report["verdict"], "rejected");
    same(&report, &Battery::soft(&mark, &suspect).tests(&mark)[0]);
    let both: [&[ScoredText]; 2] = [&reference, &suspect];
    let contrast = Battery::contrast(&mark, &suspect, &both).unwrap();
    same(&report, &contrast.tests(&mark)[0]);
    let control = &finding(&report, TestId::OpenSoft)["control"]["pLog10"];
    assert!(control.as_f64().unwrap() > -5.0);
    assert_eq!(report["read"]["openSuspect"]["positions"], 6 * 99);
    assert!(!warned(&report, "nothing-scored"));
    // With decoys, and only what was asked for.
    let run = "distill --key-file m.key --decoys 5 --open-suspect s.jsonl --open-reference r.jsonl"
        .to_owned();
    let report = bench.json(&format!("{run} --tests open-argmax,open-contrast"));
    assert_eq!(names(&report), ["open-argmax", "open-contrast"]);
    assert_eq!(finding(&report, TestId::OpenArgmax)["decoys"]["of"], 6);
    let asked = json!(["open-argmax", "open-contrast"]);
    assert_eq!(report["report"]["testsAsked"], asked);
    let text = bench.human(&format!("{run} --tests open-argmax,open-contrast"));
    assert!(text.contains("only open-argmax, open-contrast"), "{text}");
    assert!(
        !text.contains("effect") && !text.contains("suspect "),
        "{text}"
    );

    bench.file("r.jsonl", &lines(reference.iter().skip(1)));
    bench.refuses(&run, 4, &["neutral text", "text 1, token"]);
    bench.refuses(DISTILL, 2, &["SUSPECT"]);
    bench.refuses(
        &format!("{DISTILL} text.txt --open-reference r.jsonl"),
        2,
        &["--open-suspect"],
    );
    bench.refuses(
        &format!("{run} --neutral text.txt"),
        2,
        &["--neutral", ".gguf"],
    );
    bench.refuses(
        &format!("{run} --control text.txt"),
        2,
        &["--control", "SUSPECT"],
    );
    bench.refuses(
        &format!("{run} --tests closed-cells"),
        2,
        &["closed-cells needs"],
    );
}

#[test]
fn models_are_read_here() {
    let bench = Bench::new();
    bench.write("t.gguf", watermark_corpora::teacher());
    let run = format!("{DISTILL} --open-suspect t.gguf --open-reference t.gguf");
    let report = bench.json(&format!("{run} --neutral text.txt"));
    // A model has no contrast with itself.
    let scored = |id| finding(&report, id)["test"]["nScored"].as_u64().unwrap();
    assert_eq!(scored(TestId::OpenContrast), 0);
    assert!(scored(TestId::OpenSoft) > 50);
    let positions = report["read"]["openSuspect"]["positions"].as_u64().unwrap();
    assert!(positions > 8);
    // Beside log-probabilities a model reads their texts.
    let mark = mark(&bench, "greenlist-h1");
    let text = read(&mark, &[5, 6, 7, 8, 9], 1, true);
    bench.file("s.jsonl", &lines([&text]));
    let report = bench.json(&format!(
        "{DISTILL} --open-suspect s.jsonl --open-reference t.gguf"
    ));
    assert_eq!(report["read"]["openReference"]["positions"], 5);
    assert_eq!(names(&report), ["open-soft", "open-contrast"]);
    bench.refuses(
        &format!("{DISTILL} --open-suspect no.gguf --neutral text.txt"),
        1,
        &["no.gguf"],
    );
    bench.write("bad.gguf", b"no model");
    bench.refuses(
        &format!("{DISTILL} --open-suspect bad.gguf --neutral text.txt"),
        4,
        &["bad.gguf"],
    );
}

#[test]
fn logs_choose_cells_and_are_read() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    let written = answers(&mark, 0..20);
    let mut said = answers(&mark, 5..10);
    // Half of it was never written.
    said.push((0..200u32).map(|i| 2000 + i * 7 % 900).collect());
    bench.file("logs.jsonl", &records(&written));
    bench.file("suspect.jsonl", &records(&said));
    let mut windows = ExactWindows::new(1);
    written.iter().for_each(|ids| windows.push(ids));
    let mut exhibit = Exhibit::new(1);
    exhibit.exclude(&PROMPT);
    said.iter().for_each(|ids| exhibit.push(ids));
    let chosen = Chosen::of(&mark, &exhibit, &windows).unwrap();

    let texts: Vec<ScoredText> = written
        .iter()
        .map(|ids| read(&mark, &[&PROMPT, &ids[..]].concat(), 1, true))
        .collect();
    bench.file("reading.jsonl", &lines(&texts));
    let run = format!("{DISTILL} suspect.jsonl --logs logs.jsonl");
    let report = bench.json(&format!(
        "{run} --supervised-cells 100 --reading reading.jsonl --reading-top 2"
    ));
    same(&report, &chosen.first(&mark, 100));
    let bets = report["report"]["bets"].as_array().unwrap();
    let ids: Vec<_> = bets.iter().map(|bet| bet["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["closed", "supervised", "reading"]);
    let log10 = |value: &Value| value.as_f64().unwrap();
    assert_eq!(log10(&bets[1]["eLog10"]), chosen.e_value(&mark).log10());
    let starts = vec![PROMPT.len(); texts.len()];
    let reading = Reading::new(&texts, &starts, 2)
        .unwrap()
        .e_value(&mark)
        .unwrap();
    assert_eq!(log10(&bets[2]["eLog10"]), reading.e.log10());
    assert!(reading.e.log10() > 5.0 && reading.windows > 50);
    assert_eq!(report["reading"]["windows"], reading.windows);
    assert!(report["report"]["effect"]["transfer"].is_number());
    let never = &report["report"]["neverEmitted"];
    assert!(never["nScored"].as_u64().unwrap() > 100 && log10(&never["pLog10"]) > -5.0);
    assert_eq!(report["read"]["logs"]["answers"], 20);

    // Without a number there is no such test.
    assert!(!names(&bench.json(&run)).contains(&"supervised"));
    // More than the logs reach: p is 1, and nothing is rejected by it.
    let beyond = format!("{run} --tests supervised --supervised-cells 1000000");
    let report = bench.json(&beyond);
    assert_eq!(finding(&report, TestId::Supervised)["test"]["pLog10"], 0.0);
    assert_eq!(report["verdict"], "insufficient-evidence");
    let code = bench
        .run(&format!("{beyond} --exit-verdict --min-cells 0"))
        .status
        .code();
    assert_eq!(code, Some(11));

    bench.refuses(&format!("{run} --profile selfhash-h4"), 4, &["self-hash"]);
    bench.refuses(
        &format!("{DISTILL} suspect.jsonl --supervised-cells 5"),
        2,
        &["--logs"],
    );
    bench.refuses(
        &format!("{DISTILL} suspect.jsonl --reading reading.jsonl --reading-top 2"),
        2,
        &["--logs"],
    );
    bench.refuses(
        &format!("{run} --tests supervised"),
        2,
        &["--supervised-cells"],
    );
    // All of the logs, in their order.
    bench.refuses(
        &format!("{run} --reading reading.jsonl"),
        2,
        &["--reading-top"],
    );
    bench.refuses(
        &format!("{run} --reading reading.jsonl --reading-top 4"),
        4,
        &["3 entries where 4"],
    );
    let run = format!("{run} --reading reading.jsonl --reading-top 2");
    bench.file("reading.jsonl", &lines(&texts[..19]));
    bench.refuses(&run, 4, &["reading of the logs", "text 20"]);
    bench.file("reading.jsonl", &lines(texts.iter().rev()));
    bench.refuses(&run, 4, &["reading of the logs", "text 1, token"]);
}

#[test]
fn families_and_directions() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    bench.file("suspect.jsonl", &records(&answers(&mark, 0..4)));
    let run = format!("{DISTILL} suspect.jsonl");
    let report = bench.json(&format!("{run} --two-sided --tests closed-sqrt"));
    let found = finding(&report, TestId::ClosedSqrt);
    let value = |field: &Value| field.as_f64().unwrap();
    let doubled = value(&found["test"]["pLog10"]) + 2f64.log10();
    assert!((value(&found["familyPLog10"]) - doubled).abs() < 1e-9);
    assert_eq!(found["adjustedPLog10"], found["familyPLog10"]);
    assert_eq!(report["report"]["twoSided"], true);
    assert!(
        bench
            .human(&format!("{run} --two-sided"))
            .contains("twice the smaller tail")
    );
    assert_eq!(bench.json(&run)["report"].get("testsAsked"), None);
    for (option, words) in [
        ("--tests closed-cube", ["no such test", "closed-sqrt"]),
        ("--tests never-emitted", ["no such test", "supervised"]),
        (
            "--tests closed-sqrt,closed-reference",
            ["closed-reference", "--reference"],
        ),
        ("--tests closed-corpus", ["closed-corpus", "--corpus"]),
        ("--tests open-soft", ["open-soft", "--open-suspect"]),
    ] {
        bench.refuses(&format!("{run} {option}"), 2, &words);
    }
}

#[test]
fn doses_and_warnings() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    let said = answers(&mark, 0..8);
    bench.file("suspect.jsonl", &records(&said));
    let curve = r#"{"schema":"watermark.dose-curve/1","source":"students of May","points":[[0,0],[0.5,0.2],[1,2]]}"#;
    bench.file("dose.json", curve);
    let run = format!("{DISTILL} suspect.jsonl --dose-curve dose.json");
    let report = bench.json(&run);
    let excess = report["report"]["effect"]["excess"].as_f64().unwrap();
    let share = report["exposure"]["share"].as_f64().unwrap();
    assert!(excess > 0.2, "{excess}");
    assert!((share - (0.5 + 0.5 * (excess - 0.2) / 1.8)).abs() < 1e-9);
    assert_eq!(report["exposure"]["source"], "students of May");
    let text = bench.human(&run);
    assert!(
        text.contains("estimate of the calibration model, students of May"),
        "{text}"
    );
    bench.file("dose.json", &curve.replace("[0,0],[0.5,0.2],", ""));
    bench.refuses(&run, 4, &["dose.json", "points"]);

    let quiet = bench.json(&format!("{DISTILL} suspect.jsonl"));
    assert!(!warned(&quiet, "prompts-hold-marked-text") && !warned(&quiet, "retokenised"));
    // The prompts were written under the key, and an answer is text.
    let prompts = answers(&mark, 20..30);
    let line = json!({"prompt": prompts, "text": "It rains in the hills."}).to_string();
    bench.file("suspect.jsonl", &line);
    let report = bench.json(&format!("{DISTILL} suspect.jsonl"));
    assert!(warned(&report, "prompts-hold-marked-text"), "{report}");
    assert!(warned(&report, "retokenised"));
    let text = bench.human(&format!("{DISTILL} suspect.jsonl"));
    assert!(
        text.contains("1 of 1 answers") && text.contains("token ids"),
        "{text}"
    );
}

#[test]
fn a_watch_goes_on_from_its_state() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    let said = answers(&mark, 0..12);
    let run = "distill --key-file m.key suspect.jsonl --watch state.json";
    bench.file("suspect.jsonl", &records(&said[..1]));
    let first = bench.json(run);
    assert_eq!(
        (&first["looks"], &first["newAnswers"]),
        (&json!(1), &json!(1))
    );
    bench.file("suspect.jsonl", &records(&said));
    let report = bench.json(&format!("{run} --planned-cells 2000"));
    assert_eq!(
        (&report["looks"], &report["newAnswers"]),
        (&json!(2), &json!(11))
    );
    assert_eq!(report["type"], "watermark.watch");
    assert_eq!(report["verdict"], "rejected");
    let look = &report["look"];
    assert_eq!(look["advice"], "decided");
    let value = |field: &str| look[field].as_f64().unwrap();
    assert_eq!(value("pLog10"), -value("eLog10"));
    let mut exhibit = Exhibit::new(1);
    said.iter().for_each(|ids| exhibit.push(ids));
    assert_eq!(look["cells"], exhibit.counts().cells);
    // Nothing new: another look at the same bets, for people.
    let text = bench.human(run);
    for words in [
        "rejected: E = ",
        "by 1/E",
        "look       3",
        "0 new answers",
        "stop here",
    ] {
        assert!(text.contains(words), "{text}");
    }
    // A key without decoys will do, and few cells say nothing.
    bench.file("one.jsonl", &records(&[said[0][..20].to_vec()]));
    let few = "distill --key-file s.key one.jsonl --watch new.json --exit-verdict";
    assert_eq!(bench.run(few).status.code(), Some(12));

    let state = std::fs::read(bench.path("state.json")).unwrap();
    bench.refuses(
        &format!("{run} --slot 1"),
        4,
        &["state.json", "key", "midway"],
    );
    bench.refuses(
        &format!("{run} --profile greenlist-h2"),
        4,
        &["state.json", "profile"],
    );
    let mut other = said.clone();
    other[1][30] += 1;
    bench.file("suspect.jsonl", &records(&other));
    bench.refuses(run, 4, &["state.json", "answer 2", "in the order"]);
    bench.file("suspect.jsonl", &records(&said[..11]));
    bench.refuses(run, 4, &["state.json", "answer 12"]);
    assert_eq!(std::fs::read(bench.path("state.json")).unwrap(), state);
    bench.write("state.json", &state[..40]);
    bench.refuses(run, 4, &["state.json", "EOF"]);
    bench.refuses(&format!("{run} --control text.txt"), 2, &["--control"]);
    bench.refuses(&format!("{run} --tests closed-sqrt"), 2, &["--tests"]);
    bench.refuses(
        &format!("{DISTILL} text.txt --planned-cells 9"),
        2,
        &["--watch"],
    );
}
