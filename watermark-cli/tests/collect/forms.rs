//! The files of a collection are of the committed schemas, and what these refuse is refused where it is read.

use serde_json::{Value, json};

use super::conform::{conforms, conforms_to_its_type, validator};
use super::mock::{Mock, Reply, answer, error, json_reply};
use super::{Bench, run};

/// A collection of six requests with answers, a refusal, failures and bytes that are no text.
fn collected(bench: &Bench) -> Mock {
    bench.prompts(6);
    let mock = Mock::new(|asked| {
        match (asked.prompt.as_str(), asked.before) {
        ("P0", 0) => error(429, "slow down"),
        ("P1", 0) => Reply::Bytes(Vec::new()),
        ("P2", 0) => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n\xff\xfe".to_vec(),
        ),
        ("P3", _) => json_reply(400, "{\"error\": {\"message\": \"no\"}}"),
        _ => answer(&format!("To {} I say yes.", asked.prompt)),
    }
    });
    let more = "--max-requests 40 --price-per-million-input 1 --price-per-million-output 2 --own-host example.org";
    let output = bench.run(&run(&mock, more));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(conforms_to_its_type(&said), "collection-run");
    mock
}

fn value(bench: &Bench, file: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(bench.path(file)).unwrap()).unwrap()
}

#[test]
fn what_a_collection_holds_is_of_its_schema() {
    let bench = Bench::new();
    let mock = collected(&bench);
    conforms("collection", &value(&bench, "c/collection.json"));
    for (name, file, least) in [
        ("collection-request", "c/prompts.jsonl", 6),
        ("collection-line", "c/transcript.jsonl", 9),
        ("collection-event", "c/events.log", 9),
    ] {
        let lines = bench.lines(file);
        assert!(lines.len() >= least, "{file}: {}", lines.len());
        lines.iter().for_each(|line| conforms(name, line));
    }
    let outcomes = bench.lines("c/transcript.jsonl");
    for outcome in ["answered", "refused", "failed"] {
        assert!(!super::ids(&outcomes, outcome).is_empty(), "{outcome}");
    }
    assert!(outcomes.iter().any(|line| line["x_wmk"]["raw"].is_object()));
    bench.status("c");
    // Lines of others keep their fields.
    bench.write(
        "theirs.jsonl",
        "{\"prompt\": \"a\", \"text\": \"b\", \"theirs\": 7}\n",
    );
    let (out, _) = bench.ends(
        "collect import theirs.jsonl c/transcript.jsonl --out i --format json",
        0,
    );
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(conforms_to_its_type(&said), "collection-status");
    conforms("collection", &value(&bench, "i/collection.json"));
    let lines = bench.lines("i/transcript.jsonl");
    lines
        .iter()
        .for_each(|line| conforms("collection-line", line));
    assert_eq!(lines[0]["theirs"], 7);
    // What would be asked again, and what would be asked with a key.
    let before = mock.count();
    let transcript = std::fs::read(bench.path("c/transcript.jsonl")).unwrap();
    let events = std::fs::read(bench.path("c/events.log")).unwrap();
    let (out, _) = bench.ends(
        "collect resume c --retry-refused --dry-run --format json",
        0,
    );
    let dry: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(conforms_to_its_type(&dry), "dry-run");
    assert_eq!(dry["asks"]["requests"], 1);
    assert_eq!(dry["asks"]["first"]["custom_id"], "p3");
    assert!(dry["asks"]["worst"]["cost"].as_f64().unwrap() > 0.0);
    let (out, _) = bench.ends("collect resume c --dry-run --format json", 0);
    let dry: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(dry["asks"]["requests"], 0);
    assert_eq!(mock.count(), before);
    assert!(transcript == std::fs::read(bench.path("c/transcript.jsonl")).unwrap());
    assert!(events == std::fs::read(bench.path("c/events.log")).unwrap());
    bench.ends("key new --out m.key", 0);
    let endpoint = mock.url();
    let begin = |out: &str, more: &str| {
        format!(
            "collect run --out {out} --endpoint {endpoint} --model m --prompts p.jsonl --dry-run --format json {more}"
        )
    };
    let (out, _) = bench.ends(&begin("d", "--until 1e-5 --key-file m.key"), 0);
    let dry: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(conforms_to_its_type(&dry), "dry-run");
    assert_eq!(dry["asks"]["collection"]["collectorHeldKey"], true);
    assert_eq!(
        dry["asks"]["collection"]["until"]["keyId"],
        dry["keys"][0]["id"]
    );
    // As the real run would.
    bench.refuses(&begin("c", ""), 2, &["c has a collection already"]);
    assert!(!bench.path("d").exists());
    // A watched collection says more.
    bench.ends(
        &run(&mock, "--until 1e-5 --key-file m.key").replace("--out c", "--out w"),
        0,
    );
    conforms("collection", &value(&bench, "w/collection.json"));
    conforms("anytime", &value(&bench, "w/watch.json"));
}

#[test]
fn what_a_schema_refuses_is_refused_where_it_is_read() {
    let bench = Bench::new();
    let _mock = collected(&bench);
    let names = ["collection.json", "events.log", "transcript.jsonl"];
    let texts = names.map(|name| std::fs::read_to_string(bench.path("c").join(name)).unwrap());
    let restore = || {
        for (name, text) in names.iter().zip(&texts) {
            std::fs::write(bench.path("c").join(name), text).unwrap();
        }
    };
    let refused = |name: &str, changed: &Value, code: i32, words: &[&str]| {
        assert!(!validator(name).is_valid(changed), "{name}: {words:?}");
        bench.refuses("collect status c", code, words);
        restore();
    };
    let whole: Value = serde_json::from_str(&texts[0]).unwrap();
    for place in ["", "/prompts", "/caps"] {
        let mut more = whole.clone();
        more.pointer_mut(place).unwrap()["unheard_of"] = json!(1);
        bench.write("c/collection.json", &more.to_string());
        refused("collection", &more, 4, &["collection.json", "`unheard_of`"]);
    }
    for (place, field) in [("", "tool"), ("/prompts", "sha256")] {
        let mut less = whole.clone();
        let object = less.pointer_mut(place).unwrap().as_object_mut().unwrap();
        object.remove(field).unwrap();
        bench.write("c/collection.json", &less.to_string());
        refused(
            "collection",
            &less,
            4,
            &["collection.json", &format!("`{field}`")],
        );
    }
    // The last line: no later one knows its digest.
    let change = |index: usize, change: &dyn Fn(&mut Value)| {
        let mut lines: Vec<&str> = texts[index].lines().collect();
        let mut last: Value = serde_json::from_str(lines.pop().unwrap()).unwrap();
        change(&mut last);
        let text = last.to_string();
        lines.push(&text);
        bench.write(
            &format!("c/{}", names[index]),
            &format!("{}\n", lines.join("\n")),
        );
        last
    };
    for (field, is_new) in [("unheard_of", true), ("at", false)] {
        let last = change(1, &|last| match is_new {
            true => last[field] = json!(1),
            false => drop(last.as_object_mut().unwrap().remove(field)),
        });
        let words = ["events.log", "line ", &format!("`{field}`")];
        refused("collection-event", &last, 4, &words);
    }
    for (place, field) in [
        ("", "unheard_of"),
        ("/x_wmk", "unheard_of"),
        ("/response", "unheard_of"),
        ("", "custom_id"),
        ("/x_wmk", "recv_at"),
        ("/response", "body"),
    ] {
        let last = change(2, &|last| {
            let object = last.pointer_mut(place).unwrap().as_object_mut().unwrap();
            match field {
                "unheard_of" => drop(object.insert(field.to_owned(), json!(1))),
                _ => drop(object.remove(field).unwrap()),
            }
        });
        let words = ["transcript.jsonl", "line ", &format!("`{field}`")];
        assert!(
            !validator("collection-line").is_valid(&last),
            "{place} {field}"
        );
        refused("collection-line", &last, 3, &words);
    }
}
