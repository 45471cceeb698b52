//! Dry runs: they say what the real run would do, refuse what it would refuse, and leave everything as it was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Bench;
use super::conform::conforms_to_its_type;
use super::distill::{answers, mark, records};

const PLAN: &str = "plan new --id case --prompts p.jsonl --model m --samples 3 --decoys 5";
const UNDER: &str = "distill --key-file m.key --plan sealed.json --prompts p.jsonl --commitment c.json planned.jsonl";

fn bench() -> Bench {
    let bench = Bench::new();
    let said = answers(&mark(&bench, "greenlist-h1"), 0..6);
    let prompted = |ids: &Vec<u32>| json!({"prompt": "One.", "token_ids": ids}).to_string() + "\n";
    bench.file(
        "p.jsonl",
        "{\"id\":\"a\",\"prompt\":\"One.\"}\n{\"id\":\"b\",\"prompt\":\"Two.\"}\n",
    );
    bench.file(
        "dose.json",
        r#"{"schema":"watermark.dose-curve/1","source":"students","points":[[0,0],[1,0.4]]}"#,
    );
    bench.file("suspect.jsonl", &records(&said));
    bench.file(
        "planned.jsonl",
        &said[..3].iter().map(prompted).collect::<String>(),
    );
    bench.says("key new --out other.key");
    bench.says("key commit --key-file m.key --out c.json");
    bench.says(&format!("{PLAN} --commitment c.json --out plan.json"));
    bench.says("plan seal plan.json --out sealed.json");
    bench
}

/// Every file with its bytes and its time.
fn state(bench: &Bench) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let entries = std::fs::read_dir(bench.path(".")).unwrap();
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let changed = entry.metadata().unwrap().modified().unwrap();
            let bytes = std::fs::read(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), (bytes, changed))
        })
        .collect()
}

/// What a dry run says. It must leave everything as it was, and say nothing about the outcome.
#[track_caller]
fn dry(bench: &Bench, command: &str) -> Value {
    let before = state(bench);
    let output = bench.run(&format!("{command} --dry-run"));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{command}: {error}");
    assert!(before == state(bench), "{command} changed something");
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["Log10", "verdict", "rejected"] {
        assert!(!text.contains(word), "{command}: {text}");
    }
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(conforms_to_its_type(&said), "dry-run");
    let name = said["command"].as_str().unwrap();
    assert!(command.starts_with(name), "{command}: {name}");
    said
}

fn roles<'v>(said: &'v Value, list: &str) -> BTreeSet<&'v str> {
    let list = said[list].as_array().unwrap().iter();
    list.map(|file| file["role"].as_str().unwrap()).collect()
}

#[test]
fn tests_are_announced_and_not_made() {
    let bench = bench();
    let detect = "detect --key-file m.key --format json text.txt suspect.jsonl";
    let said = dry(&bench, detect);
    let found = bench.says(detect);
    assert_eq!(said["text"]["cells"], found["all"]["test"]["nScored"]);
    assert_eq!(said["text"]["tokens"], found["all"]["counts"]["tokens"]);
    assert_eq!(said["text"]["answers"], 7);
    assert_eq!(said["keys"][0]["kind"], "master");
    assert_eq!(said["keys"][1]["id"], found["key"]["id"]);
    assert_eq!(said["reads"][0]["name"], "m.key");
    assert_eq!(roles(&said, "reads"), BTreeSet::from(["key", "input"]));
    assert_eq!(said["writes"], json!([]));
    let windows = "detect --key-file m.key --windows --decoys 7 --format json suspect.jsonl";
    assert_eq!(dry(&bench, windows)["test"]["decoys"], 7);
    let command = "detect --key-command 'cat s.key' --format json text.txt";
    let said = dry(&bench, command);
    assert_eq!(said["reads"][0]["name"], "(output of cat)");
    assert_eq!(said["keys"].as_array().unwrap().len(), 1);
    assert_eq!(said["keys"][0]["slot"], 3);

    let distill = "distill --key-file m.key --decoys 9 --control planned.jsonl --logs suspect.jsonl --supervised-cells 5 --dose-curve dose.json --out r.json --format json suspect.jsonl";
    let said = dry(&bench, distill);
    let found = bench.says(distill);
    assert_eq!(
        said["text"]["cells"],
        found["report"]["suspect"]["test"]["nScored"]
    );
    assert_eq!(said["test"]["decoys"], 9);
    assert_eq!(
        said["writes"],
        json!([{"role": "report", "name": "r.json", "exists": false}])
    );
    // The files of the report's own list, and the key.
    let report: Value = serde_json::from_str(&bench.read("r.json")).unwrap();
    let files = report["materials"]["files"].as_array().unwrap().iter();
    let mut files: BTreeSet<_> = files.map(|file| file["role"].as_str().unwrap()).collect();
    files.insert("key");
    assert_eq!(roles(&said, "reads"), files);
    assert_eq!(dry(&bench, distill)["writes"][0]["exists"], true);

    let said = dry(&bench, &format!("{UNDER} --format json"));
    let sealed: Value = serde_json::from_str(&bench.read("sealed.json")).unwrap();
    assert_eq!(said["plan"]["digest"], sealed["digest"]);
    assert_eq!(said["test"]["tests"], sealed["plan"]["tests"]);
    let watch = "distill --key-file m.key --watch state.json --format json suspect.jsonl";
    assert_eq!(dry(&bench, watch)["writes"][0]["exists"], false);
    bench.says(watch);
    assert_eq!(dry(&bench, watch)["writes"][0]["exists"], true);
    // A model that would read is there, and does not read.
    bench.write("t.gguf", watermark_corpora::teacher());
    let open = "distill --key-file m.key --decoys 0 --open-suspect t.gguf --format json";
    assert!(roles(&dry(&bench, open), "reads").contains("open-suspect"));
    dry(&bench, "explain --key-file m.key --format json text.txt");
    dry(
        &bench,
        "plan preflight --key-file m.key --format json suspect.jsonl",
    );
    // For people.
    for command in [
        "detect --key-file m.key text.txt",
        &distill.replace("--format json", ""),
    ] {
        let text = bench.human(&format!("{command} --dry-run"));
        assert!(text.starts_with("dry run of `watermark d"), "{text}");
        assert!(
            text.contains("distinct cells") && text.contains("(master)"),
            "{text}"
        );
    }
}

#[test]
fn nothing_is_written_and_the_names_are_those_of_the_real_run() {
    let bench = bench();
    let generate = "generate --key-file m.key --count 3 --max-tokens 10 --out g.jsonl";
    let said = dry(&bench, generate);
    assert_eq!(said["makes"], json!({"answers": 3, "tokens": 30}));
    assert_eq!(said["writes"][0]["name"], "g.jsonl");

    let slot = "key slot --key-file m.key --slot 5 --out s5.key";
    let said = dry(&bench, slot);
    assert_eq!(said["keys"][1]["id"], bench.says(slot)["keyId"]);
    let commit = "key commit --key-file m.key --epoch e7 --out c7.json";
    let said = dry(&bench, commit);
    assert_eq!(said["keys"][0]["id"], bench.says(commit)["keyId"]);
    let open = "key open --key-file m.key --commitment c.json --slot 3 --i-know-this-lets-anyone-forge-slot --out o.opening";
    let said = dry(&bench, open);
    assert_eq!(said["keys"][1]["id"], bench.says(open)["keyId"]);
    let verify = "key open --commitment c.json --verify o.opening --key-out o.key";
    let said = dry(&bench, verify);
    assert_eq!(roles(&said, "writes"), BTreeSet::from(["key"]));
    assert_eq!(said["keys"][0]["id"], bench.says(verify)["keyId"]);
    let rotate = "key rotate --key-file m.key --from e1 --to e2 --new-key n.key --out c2.json";
    let said = dry(&bench, rotate);
    assert_eq!(
        roles(&said, "writes"),
        BTreeSet::from(["commitment", "epochs", "key"])
    );
    bench.says(rotate);
    let new = format!("{PLAN} --key-file m.key --out new.json");
    let said = dry(&bench, &new);
    bench.says(&new);
    let plan: Value = serde_json::from_str(&bench.read("new.json")).unwrap();
    assert_eq!(said["keys"][0]["id"], plan["key"]["id"]);
    // No key is read where a commitment names it.
    let said = dry(
        &bench,
        &format!("{PLAN} --commitment c.json --out new2.json"),
    );
    assert!(!roles(&said, "reads").contains("key"));
    let seal = "plan seal new.json --out new.sealed.json";
    let said = dry(&bench, seal);
    assert_eq!(said["plan"]["digest"], bench.says(seal)["digest"]);
}

#[test]
fn what_the_real_run_refuses_is_refused() {
    let bench = bench();
    bench.file("more.jsonl", "{\"id\":\"c\",\"prompt\":\"Three.\"}\n");
    let i_know = "--i-know-this-lets-anyone-forge-slot";
    let before = state(&bench);
    for command in [
        "detect --key-file none.key text.txt",
        "detect --key-file m.key none.txt",
        "detect --key-file m.key --alpha 2 text.txt",
        "detect --key-file m.key --windows --decoys 5000 text.txt",
        "detect --key-file s.key --windows --decoys 5 text.txt",
        "explain --key-file m.key none.txt",
        "generate --key-file m.key --temperature -1",
        "generate --key-file m.key --prompts none.jsonl",
        "distill --key-file m.key --decoys 0 --dose-curve text.txt text.txt",
        "distill --key-file m.key --decoys 0 --reference suspect.jsonl suspect.jsonl",
        "distill --key-file m.key --decoys 0 --open-suspect none.gguf --neutral none.txt",
        "distill --key-file s.key --decoys 5 suspect.jsonl",
        "distill --key-file m.key --watch text.txt suspect.jsonl",
        &UNDER.replace("p.jsonl", "more.jsonl"),
        &UNDER.replace("m.key", "other.key"),
        &UNDER.replace("planned.jsonl", "planned.jsonl planned.jsonl planned.jsonl"),
        "plan preflight --key-file m.key none.jsonl",
        &format!("{PLAN} --commitment c.json --out plan.json"),
        "plan seal plan.json --out sealed.json",
        "plan seal sealed.json --out x.json",
        "key slot --key-file m.key --slot 33 --out x.key",
        "key slot --key-file m.key --out s.key",
        "key commit --key-file s.key --out x.json",
        "key commit --key-file m.key --out c.json",
        "key open --key-file m.key --commitment c.json --slot 3 --out x.opening",
        &format!(
            "key open --key-file m.key --commitment c.json --slot 5000 --out x.opening {i_know}"
        ),
        &format!(
            "key open --key-file other.key --commitment c.json --slot 3 --out x.opening {i_know}"
        ),
        &format!("key open --key-file m.key --commitment c.json --slot 3 --out c.json {i_know}"),
        "key rotate --key-file m.key --from e1 --to e1 --out x.json",
        "key rotate --key-file m.key --from e1 --to e2 --out c.json",
    ] {
        let real = bench.run(command);
        let dry = bench.run(&format!("{command} --dry-run"));
        let code = real.status.code();
        assert!(code.is_some_and(|code| code != 0), "{command}");
        assert_eq!(dry.status.code(), code, "{command}");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text(&dry.stderr), text(&real.stderr), "{command}");
        assert!(dry.stdout.is_empty(), "{command}");
    }
    assert!(before == state(&bench), "something was written");
    // An existing key is not replaced by one that would be made.
    bench.refuses(
        "key rotate --key-file m.key --from e1 --to e2 --new-key s.key --out x.json --dry-run",
        2,
        &["s.key", "never overwritten"],
    );
}
