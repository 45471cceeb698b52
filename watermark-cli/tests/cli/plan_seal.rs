//! `plan new`, `plan seal`, and `distill` under a sealed plan.

use serde_json::{Value, json};
use watermark_core::evidence::plan::SealedPlan;

use super::Bench;
use super::distill::{answers, mark, names, warned};

const PLAN: &str = "plan new --id case --prompts p.jsonl --model suspect --commitment c.json \
    --tests closed-cells,closed-sqrt --decoys 5 --samples 3 --max-tokens 60";
const RUN: &str =
    "distill --key-file m.key --plan sealed.json --prompts p.jsonl --commitment c.json";

/// A bench with a commitment, a sealed plan of four prompts and three samples, and as many answers.
fn sealed(more: &str) -> Bench {
    let bench = Bench::new();
    bench.says("key commit --key-file m.key --out c.json");
    let lines = |field: &str| -> String {
        (0..4u32)
            .map(|n| {
                json!({field: n.to_string(), "prompt": format!("Question {n}?")}).to_string() + "\n"
            })
            .collect()
    };
    bench.file("p.jsonl", &lines("id"));
    let mark = mark(&bench, "greenlist-h1");
    let said: String = answers(&mark, 0..12)
        .iter()
        .enumerate()
        .map(|(n, ids)| {
            json!({"prompt": format!("Question {}?", n % 4), "token_ids": ids}).to_string() + "\n"
        })
        .collect();
    bench.file("suspect.jsonl", &said);
    bench.says(&format!("{PLAN} {more} --out plan.json"));
    bench.says("plan seal plan.json --out sealed.json");
    bench
}

fn edit(bench: &Bench, from: &str, to: &str, change: impl Fn(&mut Value)) {
    let mut value: Value = serde_json::from_str(&bench.read(from)).unwrap();
    change(&mut value);
    bench.file(to, &value.to_string());
}

#[test]
fn a_plan_is_written_and_sealed() {
    let bench = sealed("--mean-excess 0.3 --cells-per-token 0.5");
    let plan: Value = serde_json::from_str(&bench.read("plan.json")).unwrap();
    assert_eq!(plan["type"], "watermark.plan");
    let slot = bench.says("key slot --key-file m.key --out s0.key");
    assert_eq!(plan["key"]["id"], slot["keyId"]);
    assert_eq!(plan["primary"], "closed-sqrt");
    assert_eq!(plan["prompts"]["count"], 4);
    assert_eq!(plan["budget"], json!({"answers": 12, "tokens": 720}));
    // The level of one of two tests.
    assert_eq!(plan["forecast"]["alpha"], 5e-6);
    let power = bench.json("plan power --mean-excess 0.3 --alpha 5e-6 --cells-per-token 0.5");
    assert_eq!(plan["forecast"]["cells"], power["closedCells"]["cells"]);
    assert_eq!(plan["forecast"]["tokens"], power["closedCells"]["tokens"]);
    let opened = SealedPlan::open(&bench.read("sealed.json")).unwrap();
    assert_eq!(serde_json::to_value(opened.plan()).unwrap(), plan);
    // By the key's file the plan is the same, but names no commitment.
    let by_key = PLAN.replace("--commitment c.json", "--key-file m.key");
    bench.says(&format!(
        "{by_key} --mean-excess 0.3 --cells-per-token 0.5 --out k.json"
    ));
    let mut by_key: Value = serde_json::from_str(&bench.read("k.json")).unwrap();
    by_key["key"]["commitment"] = plan["key"]["commitment"].clone();
    assert_eq!(by_key, plan);

    bench.refuses(
        "plan seal plan.json --out sealed.json",
        2,
        &["sealed.json", "not overwritten"],
    );
    bench.refuses(
        "plan seal sealed.json --out x.json",
        4,
        &["sealed.json", "sealed already"],
    );
    edit(&bench, "plan.json", "bad.json", |plan| {
        plan["request"]["topP"] = json!(2);
    });
    bench.refuses(
        "plan seal bad.json --out x.json",
        4,
        &["bad.json", "request.topP"],
    );
    edit(&bench, "plan.json", "bad.json", |plan| {
        plan["colour"] = json!("red");
    });
    bench.refuses(
        "plan seal bad.json --out x.json",
        4,
        &["bad.json", "colour"],
    );
    bench.file(
        "twice.jsonl",
        "{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"a\",\"prompt\":\"y\"}\n",
    );
    bench.refuses(
        &format!("{} --out x.json", PLAN.replace("p.jsonl", "twice.jsonl")),
        4,
        &["twice.jsonl", "line 2"],
    );
    bench.refuses(
        &format!("{PLAN} --slot 33 --out x.json"),
        2,
        &["sealed decoy"],
    );
    bench.refuses(
        &format!("{PLAN} --budget-answers 13 --out x.json"),
        4,
        &["budget.answers", "1 to 12"],
    );
    bench.refuses(
        &format!("{PLAN} --profile gumbel-h2 --out x.json"),
        2,
        &["--profile", "--commitment"],
    );
    bench.refuses(
        &format!("{PLAN} --mean-excess 2 --out x.json"),
        2,
        &["mean excess"],
    );
    assert!(!bench.path("x.json").exists());
}

#[test]
fn a_verdict_under_the_plan() {
    let bench = sealed("");
    let report = bench.json(&format!("{RUN} suspect.jsonl"));
    assert_eq!(report["verdict"], "rejected");
    let plan: Value = serde_json::from_str(&bench.read("sealed.json")).unwrap();
    let at = plan["sealedAt"].as_str().unwrap();
    assert_eq!(report["plan"], format!("under the plan sealed {at}"));
    let info = &report["report"]["plan"];
    assert_eq!(info["digest"], plan["digest"]);
    assert_eq!(info["sealedAt"], plan["sealedAt"]);
    let counts =
        ["plannedAnswers", "answers", "answersToPrompts"].map(|field| info[field].as_u64());
    assert_eq!(counts, [Some(12); 3]);
    assert_eq!(
        report["report"]["commitment"]["root"],
        plan["plan"]["key"]["commitment"]
    );
    assert_eq!(names(&report), ["closed-cells", "closed-sqrt"]);
    assert_eq!(report["report"]["findings"][0]["decoys"]["of"], 6);
    assert_eq!(report["report"]["exploratory"], Value::Null);
    assert!(!warned(&report, "below-guessing-the-key"));
    for warning in ["fewer-answers-than-planned", "prompts-not-compared"] {
        assert!(!warned(&report, warning));
    }
    let text = bench.human(&format!("{RUN} suspect.jsonl"));
    assert!(
        text.starts_with(&format!(
            "under the plan sealed {at}\nrejected: p < 1e-9 by "
        )),
        "{text}"
    );
    for words in [
        &format!(
            "under the plan sealed {at}, independence of these outputs from the key is rejected"
        ),
        "family     closed-cells, closed-sqrt, as sealed; closed-sqrt was expected to be the strongest",
        "key and decoys are those that it binds",
        plan["digest"].as_str().unwrap(),
    ] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    assert!(!text.contains("exploratory"), "{text}");

    // The same numbers without a plan are exploratory.
    let open = "distill --key-file m.key --tests closed-cells,closed-sqrt --decoys 5 suspect.jsonl";
    let without = bench.json(open);
    assert_eq!(without["plan"], "exploratory: no sealed plan");
    assert_eq!(without["report"]["findings"], report["report"]["findings"]);
    assert!(
        bench
            .human(open)
            .starts_with("exploratory: no sealed plan\n")
    );

    // Further tests stand apart and change nothing.
    let more = bench.json(&format!(
        "{RUN} --explore closed-inverse-variance suspect.jsonl"
    ));
    assert_eq!(more["report"]["findings"], report["report"]["findings"]);
    let beyond = more["report"]["exploratory"].as_array().unwrap();
    assert_eq!(beyond.len(), 1);
    assert_eq!(beyond[0]["test"]["id"], "closed-inverse-variance");
    let text = bench.human(&format!(
        "{RUN} --explore closed-inverse-variance suspect.jsonl"
    ));
    let (plan, beyond) = text.split_once("exploratory: beyond the plan").unwrap();
    assert!(
        !plan.contains("inverse") && beyond.contains("closed-inverse-variance"),
        "{text}"
    );
}

#[test]
fn what_is_missing_is_said() {
    let bench = sealed("--min-cells 100000");
    let report = bench.json(&format!("{RUN} suspect.jsonl"));
    assert_eq!(report["verdict"], "insufficient-evidence");
    // Fewer answers, and two of them to prompts that cannot be compared.
    let lines: Vec<String> = bench
        .read("suspect.jsonl")
        .lines()
        .map(str::to_owned)
        .collect();
    let bare = |line: &String| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value["prompt"] = json!([5, 6, 7]);
        value.to_string()
    };
    let some = [
        &lines[..6],
        &lines[8..10].iter().map(bare).collect::<Vec<_>>()[..],
    ]
    .concat();
    // Three of the four prompts and the bare one.
    let some: Vec<_> = some
        .into_iter()
        .filter(|line| !line.contains("Question 3"))
        .collect();
    bench.file("some.jsonl", &some.join("\n"));
    let report = bench.json(&format!("{RUN} some.jsonl"));
    let info = &report["report"]["plan"];
    assert_eq!(
        (&info["answers"], &info["answersToPrompts"]),
        (&json!(7), &json!(5))
    );
    assert!(
        warned(&report, "fewer-answers-than-planned") && warned(&report, "prompts-not-compared")
    );
    let text = bench.human(&format!("{RUN} some.jsonl"));
    assert!(
        text.contains("7 of 12 planned answers were given"),
        "{text}"
    );
}

#[test]
fn nothing_else_is_run_under_the_plan() {
    let bench = sealed("");
    let run = format!("{RUN} suspect.jsonl");
    for flag in [
        "--alpha 0.01",
        "--min-cells 5",
        "--decoys 7",
        "--tests closed-cells",
        "--two-sided",
        "--profile greenlist-h1",
        "--epoch e1",
        "--slot 0",
        "--logs suspect.jsonl --supervised-cells 5",
    ] {
        let name = flag
            .split_whitespace()
            .rfind(|word| word.starts_with("--"))
            .unwrap();
        bench.refuses(&format!("{run} {flag}"), 2, &["--plan", name]);
    }
    bench.file(
        "log.jsonl",
        r#"{"token_ids":[1,2,3],"logprobs":[null,[[1,-1.0]],[[2,-1.0]]]}"#,
    );
    for (flag, words) in [
        (
            "--explore closed-sqrt",
            "closed-sqrt: the test is in the plan",
        ),
        ("--explore supervised", "supervised needs --logs"),
        (
            "--corpus suspect.jsonl",
            "--corpus: no test of the plan reads it",
        ),
        (
            "--open-suspect log.jsonl",
            "--open-suspect: no test of the plan reads it",
        ),
        ("--watch w.json", "--watch: the plan is looked at once"),
    ] {
        bench.refuses(&format!("{run} {flag}"), 2, &[words]);
    }
    for (without, words) in [
        ("--prompts p.jsonl", "--prompts: is missing"),
        ("--commitment c.json", "--commitment: is missing"),
    ] {
        bench.refuses(&run.replace(without, ""), 2, &[words]);
    }
    bench.refuses(
        "distill --key-file m.key --explore closed-sqrt suspect.jsonl",
        2,
        &["--plan"],
    );
    bench.says(&format!("{PLAN} --controls answers --out with.json"));
    bench.says("plan seal with.json --out control.json");
    let run = run.replace("sealed.json", "control.json");
    bench.refuses(&run, 2, &["--control: is missing"]);
    bench.json(&format!("{run} --control suspect.jsonl"));
}

#[test]
fn what_is_not_what_was_sealed() {
    let bench = sealed("");
    let run = format!("{RUN} suspect.jsonl");
    let with = |plan: &str| run.replace("sealed.json", plan);
    bench.refuses(&with("plan.json"), 4, &["plan.json", "not sealed"]);
    bench.refuses(&with("c.json"), 4, &["c.json", "watermark.key-commitment"]);
    edit(&bench, "sealed.json", "edited.json", |sealed| {
        sealed["plan"]["alpha"] = json!(0.05);
    });
    bench.refuses(
        &with("edited.json"),
        3,
        &["edited.json", "changed after it was sealed"],
    );
    // The whole file printed in another way is the same plan.
    let value: Value = serde_json::from_str(&bench.read("sealed.json")).unwrap();
    bench.file(
        "pretty.json",
        &serde_json::to_string_pretty(&value).unwrap(),
    );
    bench.json(&with("pretty.json"));

    bench.file("q.jsonl", &(bench.read("p.jsonl") + "\n"));
    bench.refuses(
        &run.replace("p.jsonl", "q.jsonl"),
        3,
        &["q.jsonl", "not those of the plan"],
    );
    bench.says("key new --out other.key");
    bench.says("key slot --key-file m.key --epoch e1 --slot 0 --out s0.key");
    for key in ["other.key", "s.key"] {
        bench.refuses(
            &run.replace("m.key", key),
            3,
            &["the key is not the plan's", "epoch e1, slot 0"],
        );
    }
    bench.refuses(
        &run.replace("m.key", "s0.key"),
        2,
        &["a plan with decoys needs the master key"],
    );
    bench.says("key commit --key-file m.key --primary closed-cells --out c2.json");
    bench.refuses(
        &run.replace("c.json", "c2.json"),
        3,
        &["the commitment is not the plan's"],
    );

    // Another vocabulary.
    edit(&bench, "plan.json", "other.json", |plan| {
        plan["tokenizer"]["sha256"] = json!("00".repeat(32));
        plan["key"].as_object_mut().unwrap().remove("commitment");
    });
    bench.says("plan seal other.json --out other-sealed.json");
    bench.refuses(
        &with("other-sealed.json"),
        4,
        &["the tokenizer is not the plan's", "cannot be mixed"],
    );

    // More than was planned.
    let said = bench.read("suspect.jsonl");
    bench.file(
        "more.jsonl",
        &format!("{said}{}", said.lines().next().unwrap()),
    );
    bench.refuses(
        &format!("{RUN} more.jsonl"),
        4,
        &["13 answers", "budget for 12"],
    );
    let other = said
        .lines()
        .last()
        .unwrap()
        .replace("Question 3?", "And now?");
    let fewer: Vec<&str> = said.lines().take(11).collect();
    bench.file("more.jsonl", &format!("{}\n{other}", fewer.join("\n")));
    bench.refuses(
        &format!("{RUN} more.jsonl"),
        4,
        &["5 different prompts", "plan has 4"],
    );
}

#[test]
fn a_plan_that_may_be_looked_at_any_time() {
    let bench = sealed("");
    bench.refuses(
        &format!("{PLAN} --looks anytime --out x.json"),
        4,
        &["looks", "closed-cells"],
    );
    let plan = PLAN.replace("--tests closed-cells,closed-sqrt", "--looks anytime");
    bench.says(&format!("{plan} --out any.json"));
    bench.says("plan seal any.json --out anytime.json");
    let run = format!(
        "{} suspect.jsonl",
        RUN.replace("sealed.json", "anytime.json")
    );
    bench.refuses(&run, 2, &["--watch: is missing"]);
    let look = bench.json(&format!("{run} --watch w.json"));
    assert_eq!(look["verdict"], "rejected");
    assert!(
        look["plan"]
            .as_str()
            .unwrap()
            .starts_with("under the plan sealed 2")
    );
    assert_eq!(look["sealedPlan"]["tests"], json!(["closed-cells"]));
    assert_eq!(look["commitment"]["checked"], "root");
    let text = bench.human(&format!("{run} --watch w.json"));
    assert!(text.starts_with("under the plan sealed 2"), "{text}");
}

#[test]
fn a_p_below_the_chance_of_guessing_the_key_is_an_index() {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    // Two hundred windows, each with a green token: p = 4^-200.
    let said: String = (0..200u32)
        .map(|window| {
            let row = mark.scheme().row(&[window]);
            let green = (0..).find(|&token| mark.scheme().score(&row, token) == 1);
            json!({"token_ids": [window, green.unwrap()]}).to_string() + "\n"
        })
        .collect();
    bench.file("long.jsonl", &said);
    let run = "distill --key-file m.key --decoys 3 long.jsonl";
    assert!(warned(&bench.json(run), "below-guessing-the-key"));
    let text = bench.human(run);
    for words in [
        "p < 1e-9 by",
        "smaller than the chance of guessing the key, 10^-77.1",
        "read it as an index of strength",
    ] {
        assert!(text.contains(words), "{text} lacks {words}");
    }
    let output = bench.run("detect --key-file m.key long.jsonl");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("read it as an index of strength"), "{error}");
}
