//! Marks of other engines at the command line: their keys, their profiles, slots of ours in their place.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use watermark_core::detect::Test;
use watermark_core::key::{EngineKey, Epoch, SecretKey, read_engine_key_file, read_key_file};
use watermark_core::profile::{Mark, Profile};
use watermark_core::window::Exhibit;

use super::Bench;

const KEY: &str =
    r#"{"schema": "watermark.engine-key/1", "function": "vllm", "key": "7777777777777777777"}"#;

/// Text of the tokens that score best among sixteen.
fn text(mark: &Mark, length: usize) -> Vec<u32> {
    let (scheme, mut text) = (mark.scheme(), vec![5, 6, 7, 8]);
    while text.len() < length {
        let row = scheme.row(&text[text.len() - scheme.context_width()..]);
        let from = text.len() as u32 * 17 % 900 + 1;
        let best = (from..from + 16).max_by_key(|&token| scheme.score(&row, token));
        text.push(best.unwrap());
    }
    text
}

fn secret(bench: &Bench, name: &str, content: &str) {
    bench.write(name, content.as_bytes());
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(bench.path(name), private).unwrap();
}

fn json_of(bench: &Bench, arguments: &str) -> Value {
    let output = bench.run(arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_engines_mark_is_read_under_its_key() {
    let bench = Bench::new();
    secret(&bench, "v.key", KEY);
    let profile = Profile::built_in("vllm-gumbel").unwrap();
    let mark = profile
        .bind_engine(&EngineKey::from_json(KEY).unwrap())
        .unwrap();
    let ids = text(&mark, 300);
    bench.write("a.jsonl", json!({"token_ids": ids}).to_string().as_bytes());
    let mut exhibit = Exhibit::new(4);
    exhibit.push(&ids);
    let test = serde_json::to_value(Test::of(&mark, &exhibit)).unwrap();

    let found = json_of(
        &bench,
        "detect --key-file v.key --profile vllm-gumbel --format json a.jsonl",
    );
    assert_eq!(found["all"]["test"], test);
    assert_eq!(found["all"]["verdict"], "rejected");
    assert_eq!(found["all"]["test"]["keyBits"], 64);
    assert_eq!(found["warnings"][0]["warning"], "weak-function");
    assert_eq!(found["profile"]["function"], "vllm");
    let human = bench.run("detect --key-file v.key --profile vllm-gumbel a.jsonl");
    let human = String::from_utf8(human.stdout).unwrap();
    assert!(human.contains("note: vLLM's function is Philox"), "{human}");

    let report = json_of(
        &bench,
        "distill --key-file v.key --profile vllm-gumbel --decoys 30 --format json a.jsonl",
    );
    let finding = &report["report"]["findings"][0];
    assert_eq!(finding["test"], test);
    assert_eq!(
        (&finding["decoys"]["of"], &finding["decoys"]["rank"]),
        (&json!(31), &json!(1))
    );
    let explained = json_of(
        &bench,
        "explain --key-file v.key --profile vllm-gumbel --format json a.jsonl",
    );
    assert_eq!(explained["tokens"].as_array().unwrap().len(), 300);
    assert_eq!(explained["tokens"][4]["status"], "scored");
    let inspected = json_of(&bench, "key inspect v.key");
    assert_eq!(inspected["function"], "vllm");
    for output in [found, report, inspected] {
        assert!(!output.to_string().contains("77777777777"), "{output}");
    }
}

/// A report file is read back only if its numbers follow from each other, the floor of few bits of key included.
#[test]
fn a_report_on_an_engines_mark_is_shown() {
    let bench = Bench::new();
    secret(&bench, "v.key", KEY);
    for profile in [
        "vllm-gumbel",
        "sglang-gumbel",
        "hf-synthid",
        "hf-kgw-lefthash:4096",
    ] {
        let (key, slot) = match profile {
            "vllm-gumbel" => (KEY, false),
            _ => ("m.key", true),
        };
        let mark = Profile::built_in(profile).unwrap();
        let mark = if slot {
            let SecretKey::Master(master) = read_key_file(&bench.path(key)).unwrap() else {
                panic!("a master key");
            };
            mark.bind(&master.slot(&Epoch::new("e1").unwrap(), 0))
        } else {
            mark.bind_engine(&EngineKey::from_json(key).unwrap())
        }
        .unwrap();
        let lines: Vec<String> = (0..3)
            .map(|part| {
                let ids = &text(&mark, 900)[part * 300..][..300];
                json!({"token_ids": ids, "prompt_id": format!("q{part}")}).to_string()
            })
            .collect();
        bench.write("a.jsonl", lines.join("\n").as_bytes());
        let file = format!("{}.json", profile.replace(':', "-"));
        let key = if slot { "m.key" } else { "v.key" };
        json_of(
            &bench,
            &format!(
                "distill --key-file {key} --profile {profile} --decoys 20 --out {file} --format json a.jsonl"
            ),
        );
        let report: Value =
            serde_json::from_str(&std::fs::read_to_string(bench.path(&file)).unwrap()).unwrap();
        let p = &report["report"]["suspect"]["test"]["pLog10"];
        assert!(p.as_f64().unwrap() < -5.0, "{profile}: {p}");
        assert_eq!(
            &report["series"]["suspect"]
                .as_array()
                .unwrap()
                .last()
                .unwrap()["pLog10"],
            p,
            "{profile}"
        );
        let page = bench.run(&format!("report html {file}"));
        let error = String::from_utf8(page.stderr).unwrap();
        assert!(page.status.success(), "{profile}: {error}");
        let page = String::from_utf8(page.stdout).unwrap();
        assert!(page.contains("bits of key"), "{profile}");

        let mut better = report.clone();
        better["report"]["findings"][0]["test"]["pLog10"] = json!(-200.0);
        bench.write("better.json", better.to_string().as_bytes());
        bench.refuses("report html better.json", 3, &["contradicts itself"]);
        let mut stronger = report;
        stronger["report"]["suspect"]["test"]["keyBits"] = json!(300);
        bench.write("stronger.json", stronger.to_string().as_bytes());
        bench.refuses("report html stronger.json", 3, &["keyBits"]);
    }
}

#[test]
fn a_slot_stands_for_an_engines_key() {
    let bench = Bench::new();
    let made = json_of(
        &bench,
        "key engine-config --key-file m.key --profile sglang-gumbel --out sglang.json",
    );
    assert_eq!(made["function"], "sglang");
    let mode = std::fs::metadata(bench.path("sglang.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let config: Value =
        serde_json::from_str(&std::fs::read_to_string(bench.path("sglang.json")).unwrap()).unwrap();
    // What the engine would write under that configuration.
    let hexadecimal = format!("0x{}", config["key"].as_str().unwrap());
    let key = json!({"schema": "watermark.engine-key/1", "function": "sglang", "key": hexadecimal});
    secret(&bench, "s.json", &key.to_string());
    let profile = Profile::built_in("sglang-gumbel").unwrap();
    let key = read_engine_key_file(&bench.path("s.json")).unwrap();
    let ids = text(&profile.bind_engine(&key).unwrap(), 200);
    bench.write("a.jsonl", json!({"token_ids": ids}).to_string().as_bytes());
    // Read under the slot, among sealed slots.
    let report = json_of(
        &bench,
        "distill --key-file m.key --profile sglang-gumbel --decoys 20 --format json a.jsonl",
    );
    let finding = &report["report"]["findings"][0];
    assert!(finding["test"]["pLog10"].as_f64().unwrap() < -9.6);
    assert_eq!(finding["decoys"]["rank"], 1);
    let SecretKey::Master(master) = read_key_file(&bench.path("m.key")).unwrap() else {
        panic!("a master key");
    };
    let slot = master.slot(&Epoch::new("e1").unwrap(), 0);
    assert_eq!(report["report"]["key"]["id"], slot.id().to_string());
}

#[test]
fn what_does_not_fit_is_said() {
    let bench = Bench::new();
    secret(&bench, "v.key", KEY);
    bench.write("a.jsonl", br#"{"token_ids": [1, 2, 3, 4, 5, 6]}"#);
    bench.refuses(
        "detect --key-file v.key --profile sglang-gumbel a.jsonl",
        4,
        &["function `vllm`", "`sglang`"],
    );
    bench.refuses(
        "detect --key-file v.key a.jsonl",
        4,
        &["function `vllm`", "`wmk1`"],
    );
    bench.refuses(
        "detect --key-file v.key --slot 3 --profile vllm-gumbel a.jsonl",
        2,
        &["--slot"],
    );
    bench.refuses(
        "detect --key-file m.key --profile hf-kgw-lefthash a.jsonl",
        4,
        &["vocabulary_size", "hf-kgw-lefthash:50257"],
    );
    bench.refuses(
        "key slot --key-file v.key --out x.key",
        4,
        &["another engine"],
    );
    bench.refuses(
        "key engine-config --key-file m.key --profile gumbel-h2 --out x.json",
        4,
        &["gumbel-h2"],
    );
    bench.refuses(
        "detect --key-file m.key --profile vlm a.jsonl",
        2,
        &["vllm-gumbel"],
    );
    secret(
        &bench,
        "float.key",
        &KEY.replace("\"7777777777777777777\"", "7.777e18"),
    );
    bench.refuses(
        "detect --key-file float.key --profile vllm-gumbel a.jsonl",
        4,
        &["float.key", "as a string"],
    );
    bench.write("open.key", KEY.as_bytes());
    std::fs::set_permissions(
        bench.path("open.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    bench.refuses(
        "detect --key-file open.key --profile vllm-gumbel a.jsonl",
        4,
        &["open.key", "chmod 600"],
    );
}
