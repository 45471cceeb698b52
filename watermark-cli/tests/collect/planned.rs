//! Collections that follow a sealed plan, and collections that test while they ask.

use std::time::SystemTime;

use serde_json::{Value, json};
use watermark_core::detect::TestId;
use watermark_core::evidence::plan::{
    Api, Budget, Looks, PLAN_SCHEMA, Plan, PlanType, PlannedKey, Prompts, Request, SealedPlan,
};
use watermark_core::profile::{Profile, Vocabulary};
use watermark_core::text::HfTokenizer;

use super::mock::{Mock, answer};
use super::{Bench, ids, run};

/// Texts of the embedded model, one a prompt.
fn texts(bench: &Bench, more: &str) -> Vec<String> {
    bench.ends(
        &format!("generate --key-file m.key --count 24 --max-tokens 120 --out t.jsonl {more}"),
        0,
    );
    let lines = bench.lines("t.jsonl");
    lines
        .iter()
        .map(|line| line["text"].as_str().unwrap().to_owned())
        .collect()
}

fn saying(texts: Vec<String>) -> Mock {
    Mock::new(move |asked| answer(&texts[asked.prompt[1..].parse::<usize>().unwrap()]))
}

#[test]
fn it_stops_when_the_test_is_decided_and_says_that_it_held_the_key() {
    let bench = Bench::new();
    bench.prompts(24);
    bench.ends("key new --out m.key", 0);
    bench.ends("key new --out other.key", 0);
    let mock = saying(texts(&bench, ""));
    let until = "--until 1e-5 --key-file m.key --concurrency 1";
    let (out, error) = bench.ends(&run(&mock, until), 0);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["ending"], "tested", "{error}");
    assert_eq!(out["look"]["advice"], "decided");
    let asked = mock.count();
    assert!(asked < 24, "{asked}");
    let status = bench.status("c");
    assert_eq!(status["collectorHeldKey"], true);
    assert_eq!(status["answered"], asked);
    // Decided is decided: resume asks nothing, and needs the same key.
    bench.ends("collect resume c --key-file m.key", 0);
    assert_eq!(mock.count(), asked);
    bench.refuses("collect resume c", 2, &["--key-file"]);
    bench.refuses(
        "collect resume c --key-file other.key",
        2,
        &["watched under key"],
    );
    // The state is that of `distill --watch` over the same directory.
    let (out, _) = bench.ends(
        "distill --key-file m.key --watch c/watch.json --format json c",
        0,
    );
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["newAnswers"], 0);
    assert_eq!(out["verdict"], "rejected");
}

#[test]
fn an_any_time_test_goes_on_where_it_stopped() {
    let bench = Bench::new();
    bench.prompts(24);
    bench.ends("key new --out m.key", 0);
    let mock = saying(texts(&bench, "--unmarked"));
    // Without a planned number of cells nothing is futile; text without the mark is decided with
    // probability 1e-5 at most.
    let until = "--until 1e-5 --key-file m.key --concurrency 1";
    let (out, _) = bench.ends(&run(&mock, &format!("{until} --max-requests 3")), 5);
    let first: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(first["ending"], "cap");
    assert_eq!(first["look"]["advice"], "go-on");
    let (out, _) = bench.ends(
        "collect resume c --key-file m.key --concurrency 1 --max-requests 100 --format json",
        0,
    );
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["ending"], "complete");
    assert_eq!(mock.count(), 24);
    assert_eq!(out["look"]["advice"], "go-on");
    assert!(out["look"]["cells"].as_u64() > first["look"]["cells"].as_u64());
    // The same bets as of one look at everything.
    let look = "distill --key-file m.key --watch whole.json --format json c";
    let whole: Value = serde_json::from_str(&bench.ends(look, 0).0).unwrap();
    for field in ["cells", "tokens", "eLog10"] {
        assert_eq!(whole["look"][field], out["look"][field]);
    }
    // With a plan of 3000 cells, some 2000 without the mark leave no chance.
    let arguments =
        run(&mock, &format!("{until} --planned-cells 3000")).replace("--out c", "--out f");
    let futile: Value = serde_json::from_str(&bench.ends(&arguments, 0).0).unwrap();
    assert_eq!(
        (&futile["ending"], &futile["look"]["advice"]),
        (&json!("tested"), &json!("futile"))
    );
    // A state without its transcript is no state to go on from.
    std::fs::write(bench.path("c/transcript.jsonl"), "").unwrap();
    bench.refuses("collect resume c --key-file m.key", 4, &["watch.json"]);
    bench.refuses(
        "collect run --out d --endpoint http://127.0.0.1:9/v1 --model m --prompts p.jsonl --key-file m.key",
        2,
        &["--until"],
    );
}

pub(crate) fn seal(bench: &Bench, name: &str, change: impl FnOnce(&mut Plan)) {
    let (out, _) = bench.ends(&format!("key slot --key-file m.key --out {name}.key"), 0);
    let key: Value = serde_json::from_str(&out).unwrap();
    let tokenizer = HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "embedded");
    let mut plan = Plan {
        kind: PlanType::Plan,
        schema: PLAN_SCHEMA,
        id: "a test".into(),
        profile: Profile::built_in("greenlist-h1").unwrap(),
        tokenizer: Vocabulary::of(&tokenizer.unwrap()),
        key: PlannedKey {
            id: key["keyId"].as_str().unwrap().into(),
            epoch: "e1".into(),
            slot: 0,
            commitment: None,
        },
        tests: vec![TestId::ClosedCells],
        primary: TestId::ClosedCells,
        two_sided: false,
        alpha: 1e-5,
        min_cells: 50,
        looks: Looks::Once,
        decoys: 0,
        supervised_cells: None,
        controls: Vec::new(),
        prompts: Prompts::of("p.jsonl", &std::fs::read(bench.path("p.jsonl")).unwrap()).unwrap(),
        request: Request {
            api: Api::Completions,
            model: "suspect-1".into(),
            max_tokens: 33,
            temperature: 0.75,
            top_p: 0.5,
            samples: 2,
        },
        budget: Budget {
            answers: 7,
            tokens: 10_000,
        },
        forecast: None,
    };
    change(&mut plan);
    let sealed = SealedPlan::seal(plan, SystemTime::now()).unwrap();
    bench.write(name, &sealed.to_json());
}

#[test]
fn a_sealed_plan_says_what_is_asked() {
    let bench = Bench::new();
    bench.prompts(5);
    bench.ends("key new --out m.key", 0);
    seal(&bench, "plan.json", |_| ());
    let mock = Mock::new(|asked| answer(&format!("{} {}", asked.prompt, asked.before)));
    let begin =
        |out: &str, more: &str| format!("collect run --out {out} --endpoint {} {more}", mock.url());
    let (out, _) = bench.ends(&begin("c", "--plan plan.json --format json"), 0);
    let out: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(out["ending"], "planned");
    // The budget, not the ten requests that prompts and samples give.
    assert_eq!(mock.count(), 7);
    let expected = json!({"model": "suspect-1", "max_tokens": 33, "temperature": 0.75, "top_p": 0.5, "prompt": "P0"});
    assert_eq!(mock.asked()[0].path, "/v1/completions");
    assert!(mock.asked().iter().any(|asked| asked.body == expected));
    let plan: Value =
        serde_json::from_str(&std::fs::read_to_string(bench.path("plan.json")).unwrap()).unwrap();
    assert_eq!(bench.status("c")["plan"]["digest"], plan["digest"]);
    assert_eq!(ids(&bench.lines("c/transcript.jsonl"), "answered").len(), 7);
    // No flag says otherwise, and the budget stays sealed.
    bench.ends("collect resume c --max-requests 100", 0);
    assert_eq!(mock.count(), 7);
    for (option, more) in [
        ("--model", "--model other"),
        ("--temperature", "--temperature 1"),
        ("--max-tokens", "--max-tokens 34"),
        ("--api", "--api chat"),
        ("--repeat", "--repeat 3"),
        ("--system", "--system hi"),
        ("--limit", "--limit 2"),
        ("--extra", "--extra {\"top_k\":1}"),
    ] {
        bench.refuses(
            &begin("d", &format!("--plan plan.json {more}")),
            2,
            &[option],
        );
    }
    let same = "--plan plan.json --model suspect-1 --max-tokens 33 --dry-run --extra {\"return_token_ids\":true}";
    bench.ends(&begin("d", same), 0);
    // The plan's key is for who tests, once: not for the collector.
    let until = "--plan plan.json --until 1e-5 --key-file m.key";
    bench.refuses(&begin("d", until), 2, &["looked at once"]);
    seal(&bench, "any.json", |plan| plan.looks = Looks::Anytime);
    let until = |alpha: &str, key: &str| {
        begin(
            "d",
            &format!("--plan any.json --until {alpha} --key-file {key} --dry-run"),
        )
    };
    bench.ends(&until("1e-5", "m.key"), 0);
    bench.refuses(&until("1e-4", "m.key"), 2, &["alpha"]);
    bench.ends("key new --out other.key", 0);
    bench.refuses(&until("1e-5", "other.key"), 2, &["--key-file"]);

    // Another plan, an open one, other prompts.
    let text = std::fs::read_to_string(bench.path("plan.json")).unwrap();
    bench.write("changed.json", &text.replace("suspect-1", "suspect-2"));
    bench.refuses(
        &begin("d", "--plan changed.json"),
        3,
        &["changed.json", "digest"],
    );
    bench.write("open.json", &plan["plan"].to_string());
    bench.refuses(&begin("d", "--plan open.json"), 4, &["not sealed"]);
    bench.prompts(6);
    bench.refuses(
        &begin("d", "--plan plan.json"),
        3,
        &["p.jsonl", "not those of the plan"],
    );
    assert!(!bench.path("d").exists());
    assert_eq!(mock.count(), 7);
}
