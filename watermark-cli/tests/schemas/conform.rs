//! What is read and written against the committed schemas, by a validator that is not ours.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

/// A committed file.
pub(crate) fn schema(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let path = folder.join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// A validator of it; a schema that is none fails here.
pub(crate) fn validator(name: &str) -> Validator {
    jsonschema::draft202012::new(&schema(name)).unwrap()
}

/// What is of another form, by its place. No value is shown: it may be a key.
pub(crate) fn faults(validator: &Validator, value: &Value) -> Vec<String> {
    let errors = validator.iter_errors(value);
    errors
        .map(|error| format!("{}: {}", error.instance_path(), error.masked()))
        .collect()
}

#[track_caller]
pub(crate) fn conforms(name: &str, value: &Value) {
    let faults = faults(&validator(name), value);
    assert!(faults.is_empty(), "not of schemas/{name}.json: {faults:#?}");
}

/// By the value's own `type`; gives the schema's name.
#[track_caller]
pub(crate) fn conforms_to_its_type(value: &Value) -> String {
    let kind = value["type"].as_str().expect("a field `type`");
    let name = kind.strip_prefix("watermark.").expect("a type of ours");
    assert_eq!(value["schema"], 1, "{kind}");
    conforms(name, value);
    name.to_owned()
}
