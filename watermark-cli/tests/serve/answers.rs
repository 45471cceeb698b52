//! What is answered, and to whom.

use watermark_core::detect::Sample;
use watermark_core::key::EngineKey;
use watermark_core::window::Exhibit;

use super::*;

fn sample(mark: &Mark, prompt: &[u32], text: &[u32]) -> Sample {
    let mut exhibit = Exhibit::new(mark.profile().context_width());
    exhibit.exclude(prompt);
    exhibit.push(text);
    Sample::of(mark, &exhibit)
}

#[test]
fn verdicts_for_all_and_numbers_for_one_role() {
    let bench = Bench::new("", "");
    let service = bench.serve();
    let mark = bench.mark("s3.key", "greenlist-h1");
    let (text, prompt) = (marked(&mark, 200), vec![1, 2, 3]);
    let asked = json!({"token_ids": text, "prompt": prompt});

    let reply = service.post("/v1/detect", VERDICT, &asked);
    assert_eq!(reply.status, 200, "{reply:?}");
    let expected = json!({
        "type": "watermark.detection", "schema": 1, "mark": "main", "verdict": "rejected",
        "alpha": 1e-5,
    });
    assert_eq!(reply.json(), expected, "and nothing else");
    assert_eq!(
        reply.header("x-watermark-key-id"),
        Some(mark.key_id().to_string().as_str())
    );
    assert_eq!(reply.header("cache-control"), Some("no-store"));

    let reply = service.post("/v1/detect", SCORES, &asked).json();
    let sample = sample(&mark, &prompt, &text);
    let scores = &reply["scores"];
    assert_eq!(reply["verdict"], "rejected");
    assert_eq!(scores["pLog10"], sample.test.p.log10());
    // About -23 with a standard deviation of 3 over keys: five of them away.
    assert!(sample.test.p.log10() < -8.0);
    assert_eq!(scores["nScored"], sample.test.n_scored);
    assert_eq!(scores["sum"], sample.test.sum.to_string());
    assert_eq!(scores["cellsDigest"], sample.cells_digest);
    assert_eq!(scores["counts"]["tokens"], 200);
    assert_eq!(scores["keyId"], mark.key_id().to_string());
    assert_eq!(scores["slot"], 3);

    // The negative control: the same text under another key, and a text that knows no key.
    for (body, verdict) in [
        (
            json!({"mark": "flagged", "token_ids": text}),
            "not-rejected",
        ),
        (json!({"token_ids": plain(200)}), "not-rejected"),
        (json!({"text": "Too short."}), "insufficient-evidence"),
    ] {
        let reply = service.post("/v1/detect", VERDICT, &body).json();
        assert_eq!(reply["verdict"], verdict, "{reply}");
    }
}

/// A key in the form of another engine is a key.
#[test]
fn another_engines_mark_is_served() {
    let key =
        r#"{"schema": "watermark.engine-key/1", "function": "vllm", "key": "7777777777777777777"}"#;
    let bench = Bench::new(
        "",
        "[[mark]]\nname = \"engine\"\nprofile = \"vllm-gumbel\"\nkey_file = \"v.key\"\n",
    );
    bench.private("v.key", key);
    let service = bench.serve();
    let mark = Profile::built_in("vllm-gumbel")
        .unwrap()
        .bind_engine(&EngineKey::from_json(key).unwrap())
        .unwrap();
    // The best of sixteen tokens at every place: a mean score of 3.4, 1 by chance.
    let mut text = vec![5, 6, 7, 8];
    while text.len() < 200 {
        let row = mark.scheme().row(&text[text.len() - 4..]);
        let from = text.len() as u32 * 17 % 900 + 1;
        let best = (from..from + 16).max_by_key(|&token| mark.scheme().score(&row, token));
        text.push(best.unwrap());
    }
    let asked = json!({"mark": "engine", "token_ids": text});
    let reply = service.post("/v1/detect", SCORES, &asked).json();
    let sample = sample(&mark, &[], &text);
    assert_eq!(reply["verdict"], "rejected");
    assert_eq!(reply["scores"]["pLog10"], sample.test.p.log10());
    assert_eq!(reply["scores"]["keyId"], mark.key_id().to_string());
    let unmarked = json!({"mark": "engine", "token_ids": plain(200)});
    let reply = service.post("/v1/detect", VERDICT, &unmarked).json();
    assert_eq!(reply["verdict"], "not-rejected");
    assert_eq!(service.get("/readyz").status, 200);
}

/// A text by way of the service is what it is by way of `detect`.
#[test]
fn a_text_gives_what_the_command_gives() {
    let bench = Bench::new("", "");
    let text = "The union of states is a state of the union, and none of them is alone. \
                Each of the several states has a house, and each house has a door.";
    bench.write("text.txt", text);
    let output = bench.run("detect --key-file s3.key --format jsonl text.txt");
    let line = String::from_utf8(output.stdout).unwrap();
    let command: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    let service = bench.serve();
    let reply = service
        .post("/v1/detect", SCORES, &json!({"text": text}))
        .json();
    assert_eq!(reply["verdict"], command["verdict"]);
    assert_eq!(reply["scores"]["pLog10"], command["test"]["pLog10"]);
    assert_eq!(reply["scores"]["cellsDigest"], command["cellsDigest"]);
    assert!(command["counts"]["cells"].as_u64().unwrap() > 10);

    let explained = service
        .post("/v1/explain", SCORES, &json!({"text": text}))
        .json();
    let tokens = explained["tokens"].as_array().unwrap();
    let scores: Vec<f64> = tokens.iter().filter_map(|t| t["score"].as_f64()).collect();
    assert_eq!(scores.len() as u64, command["test"]["nScored"]);
    let sum = scores.iter().sum::<f64>().to_string();
    assert_eq!(sum, command["test"]["sum"].as_str().unwrap());
    let joined: String = tokens.iter().map(|t| t["text"].as_str().unwrap()).collect();
    assert_eq!(joined.trim(), text);
}

#[test]
fn several_texts_are_tested_each_for_itself() {
    let bench = Bench::new("", "[limits]\ninputs = 3\n");
    let service = bench.serve();
    let mark = bench.mark("s3.key", "greenlist-h1");
    let inputs = [marked(&mark, 150), plain(150), marked(&mark, 20)];
    let inputs = inputs.map(|ids| json!({"token_ids": ids}));
    let reply = service.post("/v1/detect", VERDICT, &json!({"inputs": inputs}));
    let reply = reply.json();
    assert_eq!(reply["type"], "watermark.detections");
    let verdicts: Vec<&str> = reply["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(
        verdicts,
        ["rejected", "not-rejected", "insufficient-evidence"]
    );
    // One text in a list stays a list.
    let one = json!({"inputs": [{"token_ids": plain(150)}]});
    let reply = service.post("/v1/detect", VERDICT, &one).json();
    assert_eq!(reply["inputs"].as_array().unwrap().len(), 1);
    for (body, words) in [
        (json!({"inputs": []}), "1 to 3"),
        (json!({"inputs": [{}, {}, {}, {}]}), "4 texts"),
        (json!({"inputs": [{"text": "a"}, {}]}), "inputs[1]"),
        (json!({"inputs": [{"text": "a"}], "text": "b"}), "inputs"),
    ] {
        service
            .post("/v1/detect", VERDICT, &body)
            .problem(422, words);
    }
}

#[test]
fn roles_and_tokens() {
    let bench = Bench::new("", "");
    let service = bench.serve();
    let body = json!({"text": "a b c"});
    service
        .post("/v1/explain", VERDICT, &body)
        .problem(403, "role scores; yours is of role verdict");
    service
        .post("/v1/detect", PROVIDER, &body)
        .problem(403, "role verdict or scores");
    service
        .post("/v1/slot", SCORES, &json!({"account": "a"}))
        .problem(403, "role provider");
    for token in ["", "x", &VERDICT[1..], &VERDICT.to_uppercase()] {
        let reply = service.post("/v1/detect", token, &body);
        reply.problem(401, "");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    let json = ("Content-Type", "application/json");
    let basic = ("Authorization", "Basic YTpi");
    service
        .send("POST /v1/detect", &[json], "{}")
        .problem(401, "Bearer TOKEN");
    service
        .send("POST /v1/detect", &[json, basic], "{}")
        .problem(401, "Bearer TOKEN");
    // Neither the token nor the text comes back.
    let reply = service.post(
        "/v1/detect",
        "wrong-token-zq",
        &json!({"text": "zebra-quagga"}),
    );
    assert!(!format!("{reply:?}").contains("zq") && !reply.body.contains("quagga"));
}

#[test]
fn the_server_chooses_the_slot() {
    let hash = watermark_core::hex(&Sha256::digest(b"acct-77"));
    let bench = Bench::new(
        "",
        "[cohort]\nfile = \"cohorts.jsonl\"\ndefault = \"main\"\n",
    );
    bench.write(
        "cohorts.jsonl",
        &format!("{{\"account_sha256\": \"{hash}\", \"mark\": \"flagged\"}}\n\n"),
    );
    let service = bench.serve();
    let slot = |account: &str| {
        let reply = service.post("/v1/slot", PROVIDER, &json!({"account": account}));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    };
    let flagged = bench.mark("s4.key", "gumbel-dual-h2");
    let expected = json!({
        "type": "watermark.slot", "schema": 1, "mark": "flagged", "profile": "gumbel-dual-h2",
        "epoch": "e1", "slot": 4, "keyId": flagged.key_id().to_string(),
    });
    assert_eq!(slot("acct-77"), expected);
    assert_eq!(slot("acct-78")["mark"], "main");
    for field in ["slot", "key", "key_id", "epoch", "profile", "alpha"] {
        for (path, token, mut body) in [
            ("/v1/slot", PROVIDER, json!({"account": "a"})),
            ("/v1/detect", SCORES, json!({"text": "a"})),
        ] {
            body[field] = json!(3);
            let reply = service.post(path, token, &body);
            reply.problem(403, &format!("field `{field}`"));
            reply.problem(403, "set by the server");
        }
    }
    service
        .post("/v1/slot", PROVIDER, &json!({"account": ""}))
        .problem(422, "empty");
}
