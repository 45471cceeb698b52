//! JSON Schemas of everything that is read or printed as JSON, as they are committed in `schemas/`.
//!
//! They are derived from the types that serde reads and writes, and a test compares. What is read by this tool has the
//! schema of what it accepts; what is only written has that of what it writes. Every object is closed.

use schemars::transform::Transform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::json;

/// A schema by its name, which is the `type` of what it describes without `watermark.`.
pub(crate) struct Described {
    pub(crate) name: &'static str,
    /// What it is the schema of.
    pub(crate) about: &'static str,
    /// The file, as it is committed.
    pub(crate) text: &'static str,
    /// As the types have it today.
    #[cfg(test)]
    derived: fn() -> serde_json::Value,
}

macro_rules! described {
    ($($name:literal: $how:ident $type:ty, $about:literal;)*) => {
        /// All schemas, by name.
        pub(crate) const ALL: &[Described] = &[
            $(Described {
                name: $name,
                about: $about,
                text: include_str!(concat!("../schemas/", $name, ".json")),
                #[cfg(test)]
                derived: || tests::$how::<$type>($about),
            },)*
            Described {
                name: "openapi",
                about: "the API of `serve`, as an OpenAPI 3.1 description",
                text: include_str!("../schemas/openapi.json"),
                #[cfg(test)]
                derived: tests::openapi,
            },
        ];
    };
}

#[cfg(test)]
use crate::command as c;
#[cfg(test)]
use watermark_core::evidence::{commitment, epochs, plan};

described! {
    "anytime": read watermark_core::anytime::State, "state that `distill --watch` keeps";
    "cohort": read crate::serve::forms::CohortLine, "line of a file of cohorts that `serve` reads";
    "collection": read c::collect::forms::Collection, "collection.json of a collection";
    "collection-event": read c::collect::forms::Event, "line of events.log of a collection";
    "collection-line": read c::collect::forms::Line, "line of transcript.jsonl of a collection";
    "collection-request": written c::collect::forms::RequestLine, "line of prompts.jsonl of a collection";
    "collection-run": written c::said::CollectionRun, "output of `collect run` and `collect resume`";
    "collection-status": written c::collect::forms::Status, "output of `collect status` and `collect import`";
    "commitment-made": written c::said::CommitmentMade, "output of `key commit`";
    "config": read crate::config::ConfigFile, "config.toml, as JSON";
    "demo": written crate::render::DemoSaid<'static>, "output of `demo`, and its report.json";
    "detection": written crate::render::Detection, "line of `detect --format jsonl`";
    "detections": written c::said::DetectionsSaid<'static>, "output of `detect --format json`";
    "distillation": written c::said::DistillationSaid<'static>, "output of `distill`";
    "doctor": written c::said::DoctorSaid, "output of `doctor`";
    "dose-curve": read watermark_core::effect::DoseCurve, "calibration that --dose-curve reads";
    "dry-run": written crate::dry::DryRun, "output of every --dry-run";
    "engine-config": written c::said::EngineConfigSaid, "output of `key engine-config`";
    "engine-key": read watermark_core::key::EngineKey, "file of another engine's key";
    "epochs": read epochs::Epochs, "file of epochs that `key rotate` keeps";
    "explanation": written c::said::ExplanationSaid<'static>, "line of `explain`";
    "key": written c::said::KeySaid, "output of `key new`, `key slot` and `key inspect`";
    "key-commitment": read commitment::Commitment, "file of `key commit`";
    "listening": written crate::serve::forms::Listening, "line that `serve` prints when it is ready";
    "logprobs": written watermark_core::openweights::ScoredText, "line of a file of log-probabilities, in the form of this tool";
    "opening": written c::said::OpeningSaid, "output of `key open`";
    "plan": read plan::Plan, "file of `plan new`";
    "plan-sealed": written c::said::PlanSealed, "output of `plan seal`";
    "plan-written": written c::said::PlanWritten, "output of `plan new`";
    "planned-prompt": read plan::PromptLine, "line of the prompts of a plan";
    "power-forecast": written c::said::PowerSaid, "output of `plan power`";
    "preflight": written c::said::PreflightSaid, "output of `plan preflight`";
    "profile": read watermark_core::profile::Profile, "profile file";
    "report": read watermark_core::report::file::ReportFile, "file of `distill --out`, which `report` reads";
    "rotation": written c::said::Rotation, "output of `key rotate`";
    "schemas": written c::said::SchemasSaid, "output of `schema list`";
    "sealed-plan": read plan::SealedPlan, "file of `plan seal`";
    "serve-config": read crate::serve::forms::Config, "configuration of `serve` in TOML, as JSON";
    "serve-log": written crate::serve::forms::LogLine<'static>, "line of the log of `serve`";
    "slot-opening": read commitment::Opening, "file of `key open`, which holds a key";
    "transcript": written watermark_eval::transcripts::Transcript, "line of `generate`";
    "watch": written c::said::WatchSaid<'static>, "output of `distill --watch`";
}

/// The version of a form that has one version so far.
pub(crate) struct Version;

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(1)
    }
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "Version of this form.", "type": "integer", "const": 1})
    }
}

/// The `type` of an object, which serde writes by `tag` and of which schemars does not know.
pub(crate) struct Type(pub(crate) &'static str);

impl Transform for Type {
    fn transform(&mut self, schema: &mut Schema) {
        let object = schema.ensure_object();
        let properties = object.entry("properties").or_insert_with(|| json!({}));
        properties["type"] = json!({"type": "string", "const": self.0});
        let required = object.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            required.insert(0, "type".into());
        }
    }
}

/// A default that depends on the machine is none of the form's.
pub(crate) fn without_default(schema: &mut Schema) {
    schema.remove("default");
}

/// Every object that lists its fields has no others; comments have no links of the documentation.
pub(crate) fn close(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(serde_json::Value::String(text)) = object.get_mut("description") {
        *text = without_links(text);
    }
    let decided = ["additionalProperties", "unevaluatedProperties"];
    if object.contains_key("properties") && !decided.iter().any(|key| object.contains_key(*key)) {
        let whole = ["$ref", "allOf", "anyOf", "oneOf"];
        // What a sibling describes is not additional to it, but additional to `properties`.
        let key = match whole.iter().any(|key| object.contains_key(*key)) {
            true => "unevaluatedProperties",
            false => "additionalProperties",
        };
        object.insert(key.to_owned(), false.into());
    }
    schemars::transform::transform_subschemas(&mut close, schema);
}

/// ``[`name`](target)`` and ``[`name`]`` as `` `name` ``.
fn without_links(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        let Some((name, after)) = after.split_once(']') else {
            out.push('[');
            rest = after;
            continue;
        };
        let target = after.strip_prefix('(').and_then(|t| t.split_once(')'));
        match (target, name.starts_with('`')) {
            (Some((_, after)), _) => {
                out.push_str(name);
                rest = after;
            }
            (None, true) => {
                out.push_str(name);
                rest = after;
            }
            (None, false) => {
                out.push_str(&format!("[{name}]"));
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::generate::SchemaSettings;
    use serde_json::Value;

    fn schema<T: JsonSchema>(settings: SchemaSettings, about: &str) -> Value {
        let settings = settings.with_transform(close);
        let mut schema = settings.into_generator().into_root_schema_for::<T>();
        schema.insert("title".to_owned(), about.into());
        schema.into()
    }

    /// Of what is accepted.
    pub(super) fn read<T: JsonSchema>(about: &str) -> Value {
        schema::<T>(SchemaSettings::draft2020_12().for_deserialize(), about)
    }

    /// Of what is written.
    pub(super) fn written<T: JsonSchema>(about: &str) -> Value {
        schema::<T>(SchemaSettings::draft2020_12().for_serialize(), about)
    }

    pub(super) fn openapi() -> Value {
        crate::serve::description()
    }

    const WRITE: &str =
        "cargo nextest run -p watermark-cli --bin watermark --run-ignored only write_the_schemas";

    fn pretty(value: &Value) -> String {
        serde_json::to_string_pretty(value).unwrap() + "\n"
    }

    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        for described in ALL {
            let derived = pretty(&(described.derived)());
            let first = derived.lines().zip(described.text.lines());
            let differs = first.enumerate().find(|(_, (a, b))| a != b);
            assert!(
                derived == described.text,
                "schemas/{}.json is not that of its type (from line {}); look at what changed, and write it again with: {WRITE}",
                described.name,
                differs.map_or(0, |(index, _)| index + 1)
            );
        }
    }

    #[test]
    #[ignore = "writes the committed files"]
    fn write_the_schemas() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for described in ALL {
            let text = pretty(&(described.derived)());
            std::fs::write(folder.join(format!("{}.json", described.name)), text).unwrap();
        }
    }

    #[test]
    fn no_file_without_a_name_and_no_object_is_open() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut names: Vec<_> = ALL.iter().map(|d| format!("{}.json", d.name)).collect();
        names.sort();
        assert_eq!(files, names);
        fn check(value: &Value, place: &str) {
            if let Value::Object(object) = value {
                let is_schema = object.contains_key("type") || object.contains_key("oneOf");
                if object.get("properties").is_some_and(Value::is_object) && is_schema {
                    let closed = ["additionalProperties", "unevaluatedProperties"]
                        .iter()
                        .any(|key| object.contains_key(*key));
                    assert!(closed, "{place}");
                }
                for (name, part) in object {
                    check(part, &format!("{place}/{name}"));
                }
            }
            for (index, part) in value.as_array().into_iter().flatten().enumerate() {
                check(part, &format!("{place}/{index}"));
            }
        }
        for described in ALL {
            let schema: Value = serde_json::from_str(described.text).unwrap();
            check(&schema, described.name);
        }
    }

    #[test]
    fn links_of_the_documentation_are_left_out() {
        for (given, wanted) in [
            ("[`A::b`](crate::A::b) in hex", "`A::b` in hex"),
            ("[`A`]: a list [x, y]", "`A`: a list [x, y]"),
            ("a [word](place), [", "a word, ["),
        ] {
            assert_eq!(without_links(given), wanted);
        }
    }
}
