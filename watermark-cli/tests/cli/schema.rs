//! What is printed and written is of the committed schemas, and what a schema refuses is refused by its reader.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use watermark_core::anytime::Watch;
use watermark_core::effect::DoseCurve;
use watermark_core::evidence::commitment::{Commitment, Opening};
use watermark_core::evidence::epochs::Epochs;
use watermark_core::evidence::plan::{Plan, Prompts, SealedPlan};
use watermark_core::key::EngineKey;
use watermark_core::openweights::ScoredText;
use watermark_core::profile::{BUILT_IN, COMPATIBLE, Profile, Vocabulary};
use watermark_core::report::file::ReportFile;
use watermark_core::text::HfTokenizer;

use super::Bench;
use super::conform::{conforms, conforms_to_its_type, faults, validator};
use super::distill::{PROMPT, answers, lines, mark, read, records};

const DOSE: &str =
    r#"{"schema":"watermark.dose-curve/1","source":"students","points":[[0,0],[0.5,0.2],[1,0.4]]}"#;
const PLAN: &str = "plan new --id case --prompts p.jsonl --model m --samples 3 --decoys 5";

const ENGINE_KEY: &str =
    r#"{"schema":"watermark.engine-key/1","function":"vllm","key":"7777777777777777777"}"#;

/// Every file of the investigator's path.
fn bench() -> Bench {
    let bench = Bench::new();
    let mark = mark(&bench, "greenlist-h1");
    let said = answers(&mark, 0..12);
    let prompted = |ids: &Vec<u32>| json!({"prompt": "One.", "token_ids": ids}).to_string() + "\n";
    bench.file("p.jsonl", "{\"id\":\"a\",\"prompt\":\"One.\"}\n{\"id\":\"b\",\"messages\":[{\"role\":\"user\",\"content\":\"Two.\"}]}\n");
    bench.file("dose.json", DOSE);
    bench.file("suspect.jsonl", &records(&said));
    bench.file("first.jsonl", &records(&said[..4]));
    bench.file(
        "planned.jsonl",
        &said[..4].iter().map(prompted).collect::<String>(),
    );
    let with_prompt: Vec<ScoredText> = said
        .iter()
        .map(|ids| read(&mark, &[&PROMPT, &ids[..]].concat(), 1, true))
        .collect();
    bench.file("scored.jsonl", &lines(&with_prompt));
    bench.file("engine.key", ENGINE_KEY);
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(bench.path("engine.key"), private).unwrap();
    bench.says("key commit --key-file m.key --out c.json");
    bench.says("key open --key-file m.key --commitment c.json --slot 40 --out o.opening --i-know-this-lets-anyone-forge-slot");
    bench.says("key rotate --key-file m.key --from e1 --to e2 --out c2.json");
    bench.says(&format!(
        "{PLAN} --commitment c.json --mean-excess 0.3 --out plan.json"
    ));
    bench.says("plan seal plan.json --out sealed.json");
    bench.json("distill --key-file m.key --decoys 20 --control first.jsonl --reference scored.jsonl --logs suspect.jsonl --supervised-cells 20 --reading scored.jsonl --reading-top 2 --dose-curve dose.json --out report.json suspect.jsonl");
    bench.json("distill --key-file m.key --watch state.json first.jsonl");
    bench.run("generate --key-file m.key --count 2 --max-tokens 30 --out g.jsonl");
    bench.run("generate --key-file m.key --count 2 --max-tokens 30 --unmarked --out u.jsonl");
    bench
}

#[track_caller]
fn each_line(bench: &Bench, name: &str, file: &str) {
    let text = bench.read(file);
    assert!(!text.is_empty(), "{file}");
    for line in text.lines() {
        conforms(name, &serde_json::from_str(line).unwrap());
    }
}

#[test]
fn what_is_printed_and_written_is_of_its_schema() {
    let bench = bench();
    let mut met = BTreeSet::new();
    for (name, file) in [
        ("key-commitment", "c.json"),
        ("slot-opening", "o.opening"),
        ("epochs", "epochs.json"),
        ("plan", "plan.json"),
        ("sealed-plan", "sealed.json"),
        ("report", "report.json"),
        ("dose-curve", "dose.json"),
        ("anytime", "state.json"),
        ("engine-key", "engine.key"),
    ] {
        conforms(name, &serde_json::from_str(&bench.read(file)).unwrap());
        met.insert(name.to_owned());
    }
    for (name, file) in [
        ("transcript", "g.jsonl"),
        ("transcript", "u.jsonl"),
        ("logprobs", "scored.jsonl"),
        ("planned-prompt", "p.jsonl"),
    ] {
        each_line(&bench, name, file);
        met.insert(name.to_owned());
    }
    let built_in = BUILT_IN.iter().chain(&COMPATIBLE).map(|name| {
        let sized = format!("{name}:4096");
        Profile::built_in(name)
            .or_else(|| Profile::built_in(&sized))
            .unwrap()
    });
    for profile in built_in {
        let profile = profile.to_json();
        conforms("profile", &serde_json::from_str(&profile).unwrap());
        met.insert("profile".to_owned());
    }
    for config in [
        "",
        "key_file = \"m.key\"\nepoch = \"e1\"\nslot = 3\nprofile = \"greenlist-h1\"\ntokenizer = \"t.json\"\nalpha = 1e-6\nmin_cells = 70\ndecoys = 9\nthreads = 2\nmodel = \"m.gguf\"\n",
    ] {
        let value = toml::from_str::<Value>(config).unwrap();
        conforms("config", &value);
        met.insert("config".to_owned());
    }
    let detect = "detect --key-file m.key";
    let explain = "explain --key-file s.key";
    let distill = "distill --key-file m.key --decoys 5 --format json";
    let under = "distill --key-file m.key --plan sealed.json --prompts p.jsonl --commitment c.json --format json planned.jsonl";
    for command in [
        "key new --out n.key",
        "key inspect m.key",
        "key inspect m.key --commitment c.json",
        "key inspect s.key --commitment c.json",
        "key slot --key-file m.key --slot 5 --out s5.key",
        "key engine-config --key-file m.key --profile sglang-gumbel --out sglang.json",
        "key engine-config --key-file m.key --profile sglang-gumbel --out dry.json --dry-run",
        "key inspect engine.key",
        "detect --key-file engine.key --profile vllm-gumbel --format json first.jsonl",
        "distill --key-file engine.key --profile vllm-gumbel --decoys 5 --format json --out engine.report.json first.jsonl",
        "key commit --key-file m.key --epoch e7 --profile gumbel-dual-h2 --out c7.json",
        "key open --commitment c.json --verify o.opening --key-out o.key",
        "key open --key-file m.key --commitment c.json --slot 3 --epochs epochs.json --out o3.opening",
        "key rotate --key-file m.key --from e2 --to e3 --new-key n3.key --out c3.json --compromised-at 2026-11-25T10:43:09Z",
        &format!("{PLAN} --key-file m.key --share 0.5 --dose-curve dose.json --out k.json"),
        &format!("{PLAN} --key-file m.key --out k2.json"),
        "plan seal k.json --out k.sealed.json",
        "plan power --mean-excess 0.3 --efficiency 4 --format json",
        "plan power --share 0.001 --dose-curve dose.json --format json",
        "plan power --profile gumbel-h2 --mean-excess 0.2 --format json",
        "plan preflight --key-file m.key --format json g.jsonl",
        "plan preflight --key-file m.key --format json --unmarked u.jsonl --dose-curve dose.json --cells-per-token 0.5 suspect.jsonl",
        &format!("{detect} --format json text.txt suspect.jsonl"),
        &format!("{detect} --format jsonl text.txt suspect.jsonl"),
        &format!("{detect} --format json --windows --decoys 5 --min-cells 5 suspect.jsonl"),
        &format!("{explain} --format json text.txt"),
        &format!("{explain} --format jsonl first.jsonl"),
        &format!("{distill} text.txt"),
        &format!(
            "{distill} suspect.jsonl --tests closed-cells,closed-sqrt --two-sided --dose-curve dose.json"
        ),
        &format!(
            "{distill} --open-suspect scored.jsonl --open-reference scored.jsonl --open-control scored.jsonl"
        ),
        &format!(
            "{distill} first.jsonl --corpus suspect.jsonl --logs suspect.jsonl --out again.json"
        ),
        under,
        "distill --key-file m.key --watch state.json --planned-cells 900 --format json suspect.jsonl",
        "detect --key-file m.key --dry-run --format json text.txt",
        "doctor --format json",
        "schema list --format json",
    ] {
        let output = bench.run(command);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}: {error}");
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            println!("{command}");
            met.insert(conforms_to_its_type(&serde_json::from_str(line).unwrap()));
        }
    }
    for (name, file) in [
        ("anytime", "state.json"),
        ("report", "again.json"),
        ("report", "engine.report.json"),
        ("epochs", "epochs.json"),
        ("plan", "k.json"),
        ("slot-opening", "o3.opening"),
        ("key-commitment", "c7.json"),
    ] {
        conforms(name, &serde_json::from_str(&bench.read(file)).unwrap());
    }
    // The rest is met where there is an endpoint, a service or the time for a demo.
    let elsewhere = [
        "cohort",
        "collection",
        "collection-event",
        "collection-line",
        "collection-request",
        "collection-run",
        "collection-status",
        "demo",
        "listening",
        "openapi",
        "serve-config",
        "serve-log",
    ];
    met.extend(elsewhere.map(str::to_owned));
    let listed = bench.says("schema list --format json");
    let listed = listed["schemas"].as_array().unwrap().iter();
    let listed: BTreeSet<_> = listed
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, met);
}

#[test]
fn schemas_are_listed_and_shown() {
    let bench = Bench::new();
    let list = bench.human("schema list");
    assert!(
        list.lines().any(|line| line.starts_with("profile ")),
        "{list}"
    );
    for line in list.lines() {
        let (name, about) = line.split_once(' ').unwrap();
        assert!(!about.trim().is_empty(), "{line}");
        let shown: Value =
            serde_json::from_str(&bench.human(&format!("schema show {name}"))).unwrap();
        assert_eq!(shown, super::conform::schema(name));
        if name != "openapi" {
            assert_eq!(
                shown["$schema"],
                "https://json-schema.org/draft/2020-12/schema"
            );
        }
    }
    bench.refuses("schema show poetry", 2, &["poetry"]);
}

/// A file that is read: its schema, an instance, and the reader.
struct Kind<'a> {
    name: &'static str,
    text: String,
    read: &'a dyn Fn(&str) -> Result<(), String>,
    /// Below these, a digest notices first.
    sealed: &'static [&'static str],
}

/// `value` with one change, the place of it, and the field.
struct Changed {
    value: Value,
    place: String,
    field: String,
}

/// At every object, the first of every list: with a field that nobody knows, and without each of its fields.
fn changes(whole: &Value) -> (Vec<Changed>, Vec<Changed>) {
    let mut places = vec![String::new()];
    let (mut more, mut less) = (Vec::new(), Vec::new());
    while let Some(place) = places.pop() {
        match whole.pointer(&place).unwrap() {
            Value::Object(object) => {
                let change = |field: &str, with: Option<Value>| {
                    let mut value = whole.clone();
                    let here = value.pointer_mut(&place).unwrap().as_object_mut().unwrap();
                    match with {
                        Some(new) => here.insert(field.to_owned(), new),
                        None => here.remove(field),
                    };
                    Changed {
                        value,
                        place: place.clone(),
                        field: field.to_owned(),
                    }
                };
                more.push(change("unheard_of", Some(json!(1))));
                for field in object.keys() {
                    less.push(change(field, None));
                    places.push(format!("{place}/{field}"));
                }
            }
            Value::Array(list) if !list.is_empty() => places.push(format!("{place}/0")),
            _ => {}
        }
    }
    (more, less)
}

fn said<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

#[test]
fn what_a_schema_refuses_its_reader_refuses_by_name() {
    let bench = bench();
    let mark = mark(&bench, "greenlist-h1");
    let tokenizer =
        HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "embedded").unwrap();
    let vocabulary = Vocabulary::of(&tokenizer);
    let profile = Profile {
        vocabulary: Some(vocabulary.clone()),
        ..Profile::built_in("tournament-h4").unwrap_or_else(|| mark.profile().clone())
    };
    let first_prompt = bench.read("p.jsonl").lines().next().unwrap().to_owned();
    let kinds = [
        Kind {
            name: "profile",
            text: profile.to_json(),
            read: &|text| said(Profile::from_json(text)),
            sealed: &[],
        },
        Kind {
            name: "plan",
            text: bench.read("plan.json"),
            read: &|text| said(Plan::from_json(text)),
            sealed: &[],
        },
        Kind {
            name: "planned-prompt",
            text: first_prompt,
            read: &|text| said(Prompts::of("p", text.as_bytes())),
            sealed: &[],
        },
        Kind {
            name: "sealed-plan",
            text: bench.read("sealed.json"),
            read: &|text| said(SealedPlan::open(text)),
            sealed: &["/plan"],
        },
        Kind {
            name: "key-commitment",
            text: bench.read("c.json"),
            read: &|text| said(Commitment::from_json(text)),
            sealed: &["/params"],
        },
        Kind {
            name: "slot-opening",
            text: bench.read("o.opening"),
            read: &|text| said(Opening::from_json(text)),
            sealed: &[],
        },
        Kind {
            name: "epochs",
            text: bench.read("epochs.json"),
            read: &|text| said(Epochs::from_json(text)),
            sealed: &[],
        },
        Kind {
            name: "report",
            text: bench.read("report.json"),
            read: &|text| said(ReportFile::from_json(text)),
            sealed: &[],
        },
        Kind {
            name: "dose-curve",
            text: DOSE.to_owned(),
            read: &|text| said(DoseCurve::from_json(text)),
            sealed: &[],
        },
        Kind {
            name: "engine-key",
            text: ENGINE_KEY.to_owned(),
            read: &|text| said(EngineKey::from_json(text)),
            // No error repeats any part of a file that holds a key.
            sealed: &[""],
        },
        Kind {
            name: "anytime",
            text: bench.read("state.json"),
            read: &|text| said(Watch::resume(&mark, Some(vocabulary.clone()), text)),
            sealed: &[],
        },
    ];
    for Kind {
        name,
        text,
        read,
        sealed,
    } in kinds
    {
        let whole: Value = serde_json::from_str(&text).unwrap();
        let validator = validator(name);
        assert_eq!(faults(&validator, &whole), Vec::<String>::new(), "{name}");
        read(&whole.to_string()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (more, less) = changes(&whole);
        let mut refused = 0;
        for Changed {
            value,
            place,
            field,
        } in more.iter().chain(&less)
        {
            let is_new = field == "unheard_of";
            let valid = validator.is_valid(value);
            // A map of numbers by names that the input gives has no field that is not its own.
            let map = place.starts_with("/materials/read") || place == "/contributions/names";
            assert!(!is_new || !valid || map, "{name}{place} is open");
            let result = read(&value.to_string());
            let at = format!("{name}{place}, `{field}`");
            match (valid, result) {
                (false, Ok(())) => panic!("{at}: read, and not of the schema"),
                (false, Err(error)) => {
                    let hidden = sealed.iter().any(|part| place.starts_with(part));
                    // A key of a map that is none is told by the map's name.
                    let in_map = is_new && map && error.contains("field `contributions.names`");
                    let named = error.contains(field.as_str()) || in_map;
                    assert!(named || hidden, "{at}: `{error}`");
                    refused += 1;
                }
                // What may be left out is not asked for; numbers that then contradict others are another matter.
                (true, Err(error)) => {
                    assert!(!error.contains("missing field"), "{at}: `{error}`");
                }
                (true, Ok(())) => {}
            }
        }
        assert!(refused >= 2, "{name}: {refused} changes were refused");
    }
}

#[test]
fn errors_name_the_file_and_the_field() {
    let bench = bench();
    let open = "key open --commitment c.json --verify bad";
    for (file, field, command) in [
        ("plan.json", "tests", "plan seal bad --out x.json"),
        (
            "sealed.json",
            "digest",
            "distill --key-file m.key --plan bad --prompts p.jsonl --commitment c.json planned.jsonl",
        ),
        ("c.json", "root", "key inspect m.key --commitment bad"),
        ("o.opening", "blinding", open),
        (
            "epochs.json",
            "epochs",
            "key rotate --key-file m.key --epochs bad --from e2 --to e9 --out x.json",
        ),
        ("report.json", "verdict", "report json bad"),
        (
            "dose.json",
            "source",
            "distill --key-file m.key --decoys 0 --dose-curve bad suspect.jsonl",
        ),
        (
            "state.json",
            "looks",
            "distill --key-file m.key --watch bad first.jsonl",
        ),
    ] {
        let whole: Value = serde_json::from_str(&bench.read(file)).unwrap();
        let mut more = whole.clone();
        more["unheard_of"] = json!(1);
        bench.file("bad", &more.to_string());
        bench.refuses(command, 4, &["bad: ", "`unheard_of`"]);
        let mut less = whole;
        less.as_object_mut().unwrap().remove(field).unwrap();
        bench.file("bad", &less.to_string());
        bench.refuses(command, 4, &["bad: ", &format!("`{field}`")]);
    }
    let profile = Profile::built_in("greenlist-h1").unwrap().to_json();
    let mut profile: Value = serde_json::from_str(&profile).unwrap();
    profile["scheme"]["unheard_of"] = json!(1);
    bench.file("bad.json", &profile.to_string());
    let detect = "detect --key-file m.key --profile bad.json text.txt";
    bench.refuses(detect, 4, &["bad.json", "`unheard_of`"]);
    bench.file(
        "bad.jsonl",
        "{\"id\":\"a\",\"prompt\":\"x\",\"unheard_of\":1}\n",
    );
    bench.refuses(
        &format!(
            "{} --key-file m.key --out x.json",
            PLAN.replace("p.jsonl", "bad.jsonl")
        ),
        4,
        &["bad.jsonl", "line 1", "`unheard_of`"],
    );
    let lines = bench.read("g.jsonl");
    for (change, field) in [(true, "unheard_of"), (false, "keyId")] {
        let mut line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        match change {
            true => line["session"][field] = json!(1),
            false => drop(line["session"].as_object_mut().unwrap().remove(field)),
        }
        bench.file("bad.jsonl", &line.to_string());
        let words = ["bad.jsonl", "line 1", "`session`", &format!("`{field}`")];
        bench.refuses("plan preflight --key-file m.key bad.jsonl", 4, &words);
    }
    bench.file("config.toml", "unheard_of = 1\n");
    let output = bench.with_config("doctor");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(
        error.contains("config.toml, line 1") && error.contains("`unheard_of`"),
        "{error}"
    );
    assert!(!bench.path("x.json").exists());
    // What is too long for a name may be a key in its place.
    let mut opening: Value = serde_json::from_str(&bench.read("o.opening")).unwrap();
    let key = opening["slotKey"].as_str().unwrap().to_owned();
    opening[&key] = json!(1);
    bench.file("bad", &opening.to_string());
    let output = bench.run(open);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(
        error.contains("bad: ") && !error.contains(&key[..8]),
        "a key was shown"
    );
}
