//! The description holds: every route that it names is there, and what comes back is of its schema.

use super::conform::faults;
use super::*;

/// A validator of a schema that stands in the description.
fn part(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut whole = document.clone();
    whole["allOf"] = json!([schema]);
    jsonschema::draft202012::new(&whole).unwrap()
}

#[test]
fn answers_are_what_the_description_says() {
    let cohort = "[cohort]\nfile = \"cohorts.jsonl\"\ndefault = \"main\"\n";
    let bench = Bench::new("", cohort);
    bench.write("cohorts.jsonl", "");
    let service = bench.serve();
    let document = service.get("/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let long = json!({"token_ids": plain(80), "prompt": "a"});
    let asked = [
        ("/v1/detect", "post", VERDICT, json!({"text": "a b"})),
        ("/v1/detect", "post", SCORES, long.clone()),
        ("/v1/detect", "post", SCORES, json!({"inputs": [long]})),
        ("/v1/detect", "post", SCORES, json!({"text": 1})),
        (
            "/v1/detect",
            "post",
            SCORES,
            json!({"text": "a", "slot": 1}),
        ),
        (
            "/v1/detect",
            "post",
            SCORES,
            json!({"text": "a", "mark": "x"}),
        ),
        ("/v1/detect", "post", "", json!({"text": "a"})),
        (
            "/v1/explain",
            "post",
            SCORES,
            json!({"text": "a b a b a b"}),
        ),
        ("/v1/explain", "post", VERDICT, json!({"text": "a b"})),
        ("/v1/slot", "post", PROVIDER, json!({"account": "x"})),
        ("/v1/slot", "post", PROVIDER, json!({"account": ""})),
        ("/healthz", "get", "", Value::Null),
        ("/readyz", "get", "", Value::Null),
    ];
    let mut met = std::collections::BTreeSet::new();
    for (path, method, token, body) in &asked {
        let operation = &document["paths"][path][method];
        let reply = match *method {
            "get" => service.get(path),
            _ => service.post(path, token, body),
        };
        let response = &operation["responses"][reply.status.to_string()];
        assert!(
            response.is_object(),
            "{path} does not name {}",
            reply.status
        );
        let media_type = reply.header("content-type").unwrap();
        let schema = &response["content"][media_type]["schema"];
        let faults = faults(&part(&document, schema), &reply.json());
        assert!(faults.is_empty(), "{path}: {faults:#?}");
        if reply.status == 200 && *method == "post" {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let validator = part(&document, schema);
            assert!(validator.is_valid(body), "{path}");
            // Closed: what is refused with 400 is not of the schema.
            let mut more = body.clone();
            more["unheard_of"] = json!(1);
            assert!(!validator.is_valid(&more), "{path}");
            let refused = service.post(path, token, &more);
            refused.problem(400, "`unheard_of`");
        }
        met.insert((*path, *method));
    }
    // Every route of the description is there; what was not asked above is not JSON, or this document.
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            if !met.contains(&(path.as_str(), method.as_str())) {
                let request = format!("{} {path}", method.to_uppercase());
                let reply = service.send(&request, &[], "");
                assert!(![404, 405].contains(&reply.status), "{request}: {reply:?}");
                assert!(["/", "/openapi.json"].contains(&path.as_str()), "{request}");
            }
        }
    }
    assert_eq!(document, super::conform::schema("openapi"));
    // The role that sees scores is named, and no route but these has a token.
    let roles = &document["paths"]["/v1/explain"]["post"]["x-roles"];
    assert_eq!(*roles, json!(["scores"]));
}

/// A configuration with one field more, and with one less, at each of its tables.
#[test]
fn configuration_and_cohorts_are_closed() {
    let cohort = "[cohort]\nfile = \"cohorts.jsonl\"\ndefault = \"main\"\n";
    let bench = Bench::new(
        "reload_seconds = 0\nhosts = []",
        &format!("{cohort}[limits]\ninputs = 3\n"),
    );
    let line = json!({"account_sha256": "ab".repeat(32), "mark": "flagged"});
    bench.write("cohorts.jsonl", &format!("{line}\n"));
    conforms("cohort", &line);
    let text = std::fs::read_to_string(bench.path("serve.toml")).unwrap();
    let whole: toml::Value = toml::from_str(&text).unwrap();
    conforms("serve-config", &serde_json::to_value(&whole).unwrap());
    let validator = super::conform::validator("serve-config");
    let refuses = |words: &[&str]| {
        let output = bench.run("serve --config serve.toml --dry-run");
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{error}");
        for word in words {
            assert!(error.contains(word), "`{error}` lacks `{word}`");
        }
    };
    let refuses_config = |config: &toml::Value, field: &str| {
        assert!(
            !validator.is_valid(&serde_json::to_value(config).unwrap()),
            "{field}"
        );
        bench.write("serve.toml", &toml::to_string(config).unwrap());
        refuses(&["serve.toml, line", &format!("`{field}`")]);
    };
    fn table<'v>(config: &'v mut toml::Value, place: &[&str]) -> &'v mut toml::Table {
        let mut at = config;
        for name in place {
            at = &mut at[*name];
            if at.is_array() {
                at = &mut at[0];
            }
        }
        at.as_table_mut().unwrap()
    }
    for place in [&[][..], &["mark"], &["token"], &["cohort"], &["limits"]] {
        let mut config = whole.clone();
        table(&mut config, place).insert("unheard_of".to_owned(), 1.into());
        refuses_config(&config, "unheard_of");
    }
    for (place, field) in [
        ("mark", "name"),
        ("mark", "key_file"),
        ("token", "name"),
        ("token", "role"),
        ("cohort", "file"),
        ("cohort", "default"),
    ] {
        let mut config = whole.clone();
        table(&mut config, &[place]).remove(field).unwrap();
        refuses_config(&config, field);
    }
    bench.write("serve.toml", &text);
    for (field, bad) in [
        (
            "unheard_of",
            json!({"account_sha256": "ab".repeat(32), "mark": "main", "unheard_of": 1}),
        ),
        ("mark", json!({"account_sha256": "ab".repeat(32)})),
        ("account_sha256", json!({"mark": "main"})),
    ] {
        assert!(!super::conform::validator("cohort").is_valid(&bad));
        bench.write("cohorts.jsonl", &format!("{line}\n{bad}\n"));
        refuses(&["cohorts.jsonl, line 2", &format!("`{field}`")]);
    }
}
