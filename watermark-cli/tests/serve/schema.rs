//! The description holds: every route that it names is there, and what comes back is of its schema.

use super::*;

/// What of JSON Schema the description uses. An unknown keyword fails, so that nothing passes unchecked.
fn conforms(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let fail = |why: &str| Err(format!("{why}: {value} is not of {schema}"));
    if *schema == json!(true) {
        return Ok(());
    }
    let Some(object) = schema.as_object() else {
        return fail("no schema");
    };
    for (keyword, wanted) in object {
        let holds = match keyword.as_str() {
            "description" | "title" | "format" | "default" => true,
            "$ref" => {
                let pointer = wanted.as_str().unwrap().trim_start_matches('#');
                conforms(document, document.pointer(pointer).unwrap(), value)?;
                true
            }
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|v| v >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|v| v <= wanted.as_f64().unwrap()),
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    _ => false,
                };
                match wanted {
                    Value::Array(all) => all.iter().any(is),
                    one => is(one),
                }
            }
            "anyOf" | "oneOf" => {
                let all = wanted.as_array().unwrap().iter();
                let fits = all.filter(|one| conforms(document, one, value).is_ok());
                match keyword.as_str() {
                    "oneOf" => fits.count() == 1,
                    _ => fits.count() > 0,
                }
            }
            "required" => {
                let names = wanted.as_array().unwrap().iter();
                let mut names = names.map(|name| name.as_str().unwrap());
                names.all(|name| value.get(name).is_some())
            }
            "properties" => {
                // Stricter than JSON Schema: nothing undescribed comes back.
                for (name, part) in value.as_object().into_iter().flatten() {
                    match wanted.get(name) {
                        Some(schema) => conforms(document, schema, part)?,
                        None => return fail(name),
                    }
                }
                true
            }
            "additionalProperties" => *wanted == json!(false),
            "items" => {
                for one in value.as_array().into_iter().flatten() {
                    conforms(document, wanted, one)?;
                }
                true
            }
            other => return fail(other),
        };
        if !holds {
            return fail(keyword);
        }
    }
    Ok(())
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
        conforms(&document, schema, &reply.json())
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        if reply.status == 200 && *method == "post" {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            conforms(&document, schema, body).unwrap_or_else(|error| panic!("{path}: {error}"));
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
    // The checker itself can fail.
    let schema = &document["components"]["schemas"]["Detection"];
    for wrong in [
        json!({}),
        json!({"type": "watermark.detection", "extra": 1}),
    ] {
        assert!(conforms(&document, schema, &wrong).is_err());
    }
    // The role that sees scores is named, and no route but these has a token.
    let roles = &document["paths"]["/v1/explain"]["post"]["x-roles"];
    assert_eq!(*roles, json!(["scores"]));
}
