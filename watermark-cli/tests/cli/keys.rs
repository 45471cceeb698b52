//! `key`: made, named, committed to, opened, rotated, and never shown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use watermark_core::detect::TestId;
use watermark_core::evidence::commitment::{Commitment, Params};
use watermark_core::key::{Epoch, MasterKey, write_key_file};
use watermark_core::profile::{Profile, Vocabulary};

use super::Bench;
use super::conform::conforms_to_its_type;
use super::distill::{answers, mark, warned};

fn line_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

/// Another last character: a random key need not have any given one in it.
fn garble(line: &str) -> String {
    let last = if line.ends_with('Q') { 'P' } else { 'Q' };
    format!("{}{last}", &line[..line.len() - 1])
}

#[test]
fn key_files() {
    let bench = Bench::new();
    bench.refuses("key new --out m.key", 2, &["m.key", "never overwritten"]);
    bench.refuses("key inspect none.key", 1, &["none.key"]);
    bench.write("open.key", line_of(&bench.path("m.key")).as_bytes());
    std::fs::set_permissions(
        bench.path("open.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    bench.refuses("key inspect open.key", 4, &["chmod 600 open.key", "644"]);
    for (name, content, words) in [
        ("text.key", "hello".to_owned(), "not a key"),
        (
            "garbled.key",
            garble(&line_of(&bench.path("m.key"))),
            "garbled",
        ),
    ] {
        bench.write(name, content.as_bytes());
        std::fs::set_permissions(bench.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        bench.refuses(&format!("key inspect {name}"), 4, &[name, words]);
    }
    bench.refuses(
        "key slot --key-file m.key --slot 33 --out x.key",
        2,
        &["sealed decoy"],
    );
    bench.refuses(
        "key slot --key-file m.key --epoch Q/4 --out x.key",
        2,
        &["epoch"],
    );
    bench.refuses(
        "key slot --key-file s.key --slot 1 --out x.key",
        2,
        &["e1/3"],
    );
    assert!(!bench.path("x.key").exists());
}

impl Bench {
    /// The one JSON object that a command prints.
    #[track_caller]
    pub(super) fn says(&self, arguments: &str) -> Value {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments}: {error}");
        let value = serde_json::from_slice(&output.stdout).unwrap();
        conforms_to_its_type(&value);
        value
    }

    pub(super) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        let metadata = std::fs::metadata(self.path(name)).unwrap();
        metadata.permissions().mode() & 0o777
    }

    fn set_mode(&self, name: &str, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(name), mode).unwrap();
    }
}

#[test]
fn a_key_from_a_command() {
    let bench = Bench::new();
    let named = bench.says("key inspect m.key");
    for command in [
        "key inspect --key-command 'cat m.key'",
        // A shell where it is asked for.
        "key inspect --key-command 'sh -c \"echo talk >&2; cat m.key | head -n 1\"'",
    ] {
        assert_eq!(bench.says(command), named);
    }
    bench.says("detect --key-command 'cat m.key' --format json text.txt");
    for (command, code, words) in [
        ("false", 1, ["`false`", "exit status: 1"]),
        ("sh -c \"cat m.key; exit 3\"", 1, ["`sh`", "exit status: 3"]),
        (
            "no-such-program m.key",
            1,
            ["`no-such-program`", "cannot be run"],
        ),
        ("echo hello", 4, ["output of echo", "not a key"]),
        ("yes", 4, ["output of yes", "not a key"]),
        ("cat \"m.key", 2, ["--key-command", "not closed"]),
        (" ", 2, ["--key-command", "no command"]),
    ] {
        bench.refuses(
            &format!("key inspect --key-command '{command}'"),
            code,
            &words,
        );
    }
    // What the command says passes through.
    let output = bench.run("key inspect --key-command 'sh -c \"echo locked >&2; exit 1\"'");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .starts_with("locked\n")
    );
    bench.refuses("detect text.txt", 2, &["--key-file"]);
    bench.refuses(
        "detect --key-file m.key --key-command 'cat m.key' text.txt",
        2,
        &["--key-file", "--key-command"],
    );
}

#[test]
fn a_file_that_others_can_read_is_read_only_if_told_and_recorded() {
    let bench = Bench::new();
    bench.set_mode("m.key", 0o640);
    let run = "distill --key-file m.key --decoys 3 text.txt";
    bench.refuses(run, 4, &["mode 640", "chmod 600 m.key"]);
    let report = bench.json(&format!("{run} --allow-insecure-key-perms"));
    assert!(warned(&report, "key-file-exposed"));
    let text = bench.human(&format!("{run} --allow-insecure-key-perms"));
    assert!(
        text.contains("others could read the key file (640)"),
        "{text}"
    );
    let watch = "distill --key-file m.key --watch w.json text.txt --allow-insecure-key-perms";
    let looked = bench.json(watch);
    assert_eq!(
        looked["warnings"][1]["warning"], "key-file-exposed",
        "{looked}"
    );
    bench.set_mode("m.key", 0o600);
    let report = bench.json(&format!("{run} --allow-insecure-key-perms"));
    assert!(!warned(&report, "key-file-exposed"));
}

#[test]
fn a_commitment_binds_keys_and_recipe() {
    let bench = Bench::new();
    let made = bench.says("key commit --key-file m.key --epoch e1 --out c.json");
    let file: Value = serde_json::from_str(&bench.read("c.json")).unwrap();
    assert_eq!(file["type"], "watermark.key-commitment");
    assert_eq!(
        (&file["slots"], &file["active"]),
        (&json!(4096), &json!(33))
    );
    assert_eq!(file["root"], made["root"]);
    assert_eq!(
        file["activeKeys"][3],
        bench.says("key inspect s.key")["keyId"]
    );
    assert_eq!(
        Commitment::from_json(&bench.read("c.json"))
            .unwrap()
            .digest(),
        made["digest"]
    );
    bench.refuses(
        "key commit --key-file m.key --out c.json",
        2,
        &["c.json", "not overwritten"],
    );
    bench.refuses(
        "key commit --key-file s.key --out d.json",
        2,
        &["master key"],
    );
    bench.refuses(
        "key commit --key-file m.key --epoch Q/4 --out d.json",
        2,
        &["epoch"],
    );

    let whose = |key: &str| format!("key inspect {key} --commitment c.json");
    assert_eq!(bench.says(&whose("m.key"))["commitment"]["checked"], "root");
    assert_eq!(
        bench.says(&whose("s.key"))["commitment"]["checked"],
        "key-id"
    );
    bench.says("key new --out other.key");
    bench.says("key slot --key-file m.key --epoch e2 --out e2.key");
    for key in ["other.key", "e2.key"] {
        bench.refuses(
            &whose(key),
            3,
            &["c.json", "does not belong to the commitment"],
        );
    }

    let run =
        |key: &str| format!("distill --key-file {key} --decoys 3 --commitment c.json text.txt");
    let report = bench.json(&run("m.key"));
    assert_eq!(report["report"]["commitment"]["root"], made["root"]);
    assert_eq!(report["report"]["commitment"]["digest"], made["digest"]);
    assert_eq!(report["report"]["commitment"]["checked"], "root");
    let report = bench.json(&run("s.key").replace("--decoys 3", "--decoys 0"));
    assert_eq!(report["report"]["commitment"]["checked"], "key-id");
    let text = bench.human(&run("m.key"));
    assert!(
        text.contains(&format!(
            "root {}: key and decoys are those that it binds",
            made["root"].as_str().unwrap()
        )),
        "{text}"
    );
    for (arguments, words) in [
        (run("other.key"), "does not belong to the commitment"),
        (run("m.key --epoch e2"), "does not belong to the commitment"),
        (
            run("m.key --profile gumbel-h2"),
            "the profile is not the one that the commitment binds",
        ),
    ] {
        bench.refuses(&arguments, 3, &["c.json", words]);
    }
    let changed = bench.read("c.json").replace(
        "\"primary\":\"closed-sqrt\"",
        "\"primary\":\"closed-cells\"",
    );
    bench.write("c.json", changed.as_bytes());
    bench.refuses(&run("m.key"), 3, &["c.json", "recipe was changed"]);
    bench.write("c.json", b"{\"type\":7}");
    bench.refuses(&run("m.key"), 4, &["c.json", "line 1"]);
}

#[test]
fn a_slot_is_opened_and_verified() {
    let bench = Bench::new();
    bench.says("key commit --key-file m.key --out c.json");
    let open = "key open --key-file m.key --commitment c.json --slot 3 --out o.json";
    bench.refuses(
        open,
        2,
        &[
            "slot 3",
            "epoch e1 is in use",
            "--i-know-this-lets-anyone-forge-slot",
        ],
    );
    assert!(!bench.path("o.json").exists());
    let typed = format!("{open} --i-know-this-lets-anyone-forge-slot");
    let opened = bench.says(&typed);
    assert_eq!(opened["kind"], "active");
    assert_eq!(bench.mode("o.json"), 0o600);
    bench.refuses(&typed, 2, &["o.json", "never overwritten"]);
    let verify = "key open --commitment c.json --verify o.json";
    assert_eq!(
        bench.says(&format!("{verify} --key-out opened.key"))["result"],
        "verified"
    );
    // The key that comes out is the slot's.
    assert_eq!(bench.mode("opened.key"), 0o600);
    assert_eq!(
        bench.says("key inspect opened.key"),
        bench.says("key inspect s.key")
    );

    let decoy = bench.says("key open --key-file m.key --commitment c.json --slot 4095 --out d.json --i-know-this-lets-anyone-forge-slot");
    assert_eq!(decoy["kind"], "decoy");
    bench.refuses(
        "key open --key-file m.key --commitment c.json --slot 4096 --out x.json --i-know-this-lets-anyone-forge-slot",
        2,
        &["4096"],
    );
    bench.refuses(&format!("{verify} --slot 3"), 2, &["--verify"]);

    let whole: Value = serde_json::from_str(&bench.read("o.json")).unwrap();
    for (field, new, code, words) in [
        ("slot", json!(4), 3, "committed value"),
        ("keyId", json!("0000000000000000"), 3, "another id"),
        ("path", json!([]), 3, "path"),
        ("root", json!("00".repeat(32)), 3, "another commitment"),
        ("slot", json!("3"), 4, "no opening"),
        ("type", json!("key"), 4, "`type`"),
    ] {
        let mut changed = whole.clone();
        changed[field] = new;
        bench.write("changed.json", changed.to_string().as_bytes());
        bench.refuses(
            "key open --commitment c.json --verify changed.json --key-out none.key",
            code,
            &["changed.json", words],
        );
    }
    assert!(!bench.path("none.key").exists());
    bench.says("key commit --key-file m.key --epoch e2 --out c2.json");
    bench.refuses(
        "key open --commitment c2.json --verify o.json",
        3,
        &["another commitment", "epoch"],
    );
}

#[test]
fn epochs_follow_each_other() {
    let bench = Bench::new();
    bench.says("key commit --key-file m.key --out c1.json");
    let rotate = |from: &str, to: &str, out: &str| {
        format!("key rotate --key-file m.key --from {from} --to {to} --out {out}")
    };
    let output = bench.run(&rotate("e1", "e2", "c2.json"));
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("four times at equal halves"), "{said}");
    let open = |of: &str, out: &str| {
        format!(
            "key open --key-file m.key --commitment {of} --slot 0 --epochs epochs.json --out {out}"
        )
    };
    // e1 is out of use now, e2 is in use.
    bench.says(&open("c1.json", "o1.json"));
    bench.refuses(&open("c2.json", "o2.json"), 2, &["epoch e2 is in use"]);
    for (from, to, words) in [
        ("e1", "e3", "epoch e1 is not in use"),
        ("e2", "e1", "epoch e1 is in the file already"),
        ("e2", "e2", "epoch e2 is in the file already"),
    ] {
        bench.refuses(&rotate(from, to, "c3.json"), 2, &["epochs.json", words]);
        assert!(!bench.path("c3.json").exists());
    }
    let leak = rotate("e2", "e3", "c3.json");
    bench.refuses(
        &format!("{leak} --compromised-at yesterday"),
        2,
        &["--compromised-at"],
    );
    let leaked = format!("{leak} --compromised-at 2026-11-01T00:00:00Z --new-key m2.key");
    bench.says(&leaked);
    let epochs: Value = serde_json::from_str(&bench.read("epochs.json")).unwrap();
    let epochs = epochs["epochs"].as_array().unwrap();
    assert_eq!(epochs.len(), 3);
    assert_eq!(epochs[1]["compromisedAt"], "2026-11-01T00:00:00Z");
    assert_eq!(
        epochs[2]["keyId"],
        bench.says("key inspect m2.key")["keyId"]
    );
    let root =
        |name: &str| serde_json::from_str::<Value>(&bench.read(name)).unwrap()["root"].clone();
    assert_eq!(epochs[2]["commitment"], root("c3.json"));
    bench.says("key inspect m2.key --commitment c3.json");
    bench.refuses(
        "key inspect m.key --commitment c3.json",
        3,
        &["does not belong"],
    );
}

/// Every form in which a key could stand in an output.
struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Eight bytes from both ends and the middle, in every form; and both ends of the line's data.
    fn of(bytes: &[u8; 32], line: &str) -> Self {
        let mut forms = Vec::new();
        for part in [&bytes[..8], &bytes[12..20], &bytes[24..]] {
            forms.push(part.to_vec());
            let hex = watermark_core::hex(part);
            forms.push(hex.to_uppercase().into_bytes());
            forms.push(hex.into_bytes());
            // As Debug prints a slice, and as JSON does.
            let numbers: Vec<String> = part.iter().map(u8::to_string).collect();
            forms.push(numbers.join(", ").into_bytes());
            forms.push(numbers.join(",").into_bytes());
        }
        // Base64 at each of its three alignments, without the digits that neighbours share.
        for from in 0..3 {
            for alphabet in ["+/", "-_"] {
                let digits = base64(&bytes[from..], alphabet).into_bytes();
                let end = digits.len() - 4;
                forms.push(digits[..10].to_vec());
                forms.push(digits[end - 10..end].to_vec());
            }
        }
        let data = &line[line.len() - 40..];
        for part in [&data[..20], &data[20..]] {
            forms.push(part.to_uppercase().into_bytes());
            forms.push(part.to_lowercase().into_bytes());
        }
        Self(forms)
    }

    /// The form that stands in an output.
    fn shown_in(&self, output: &[u8]) -> Option<String> {
        let stands = |form: &&Vec<u8>| output.windows(form.len()).any(|window| window == **form);
        let form = self.0.iter().find(stands)?;
        Some(String::from_utf8_lossy(form).into_owned())
    }

    fn check(&self, output: &[u8], whose: &str) {
        let shown = self.shown_in(output);
        assert_eq!(shown, None, "{whose} shows a key");
    }
}

fn base64(bytes: &[u8], last: &str) -> String {
    let alphabet = format!("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789{last}");
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    bits.chunks(6)
        .map(|six| {
            let value = six
                .iter()
                .fold(0, |value, bit| value << 1 | usize::from(*bit));
            alphabet.as_bytes()[value << (6 - six.len())] as char
        })
        .collect()
}

#[test]
fn base64_is_that_of_rfc_4648() {
    assert_eq!(base64(b"foobar", "+/"), "Zm9vYmFy");
    assert_eq!(base64(b"fooba", "+/"), "Zm9vYmE");
    assert_eq!(base64(&[0xfb, 0xff], "-_"), "-_8");
}

/// No output, error or file but key files and openings holds a key, whatever is done and whatever fails.
#[test]
fn no_output_shows_a_key() {
    let bench = Bench::new();
    for name in ["m.key", "s.key"] {
        std::fs::remove_file(bench.path(name)).unwrap();
    }
    let bytes: [u8; 32] = std::array::from_fn(|place| (place * 37 + 11) as u8 ^ 0x5a);
    let master = MasterKey::from_bytes(bytes);
    let epoch = Epoch::new("e1").unwrap();
    write_key_file(&bench.path("m.key"), &master.to_line()).unwrap();
    write_key_file(&bench.path("s.key"), &master.slot(&epoch, 3).to_line()).unwrap();
    let tokenizer = Vocabulary {
        size: 1,
        sha256: "00".repeat(32),
    };
    let profile = Profile::built_in("greenlist-h1").unwrap();
    let params = Params::new(profile, tokenizer, TestId::ClosedCells);
    let commitment = Commitment::new(&master, &epoch, params, std::time::UNIX_EPOCH);
    let slot_bytes = |index: u32, field: &str| -> [u8; 32] {
        let opening = commitment.open(&master, index).unwrap();
        let opening: Value = serde_json::from_str(&opening.to_json()).unwrap();
        let hex = opening[field].as_str().unwrap();
        std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
    };
    let mut secrets = vec![Secrets::of(&bytes, &master.to_line())];
    for index in [0, 3, 40] {
        let line = master.slot(&epoch, index).to_line();
        for field in ["slotKey", "blinding"] {
            secrets.push(Secrets::of(&slot_bytes(index, field), &line));
        }
    }
    // The check can fail.
    let line = master.to_line();
    for shown in [
        line.to_lowercase().into_bytes(),
        watermark_core::hex(&bytes).into_bytes(),
        format!("{bytes:?}").into_bytes(),
        base64(&bytes, "+/").into_bytes(),
        base64(&[b"x", &bytes[..]].concat(), "+/").into_bytes(),
        [b"{", &bytes[..], b"}"].concat(),
    ] {
        assert_ne!(secrets[0].shown_in(&shown), None);
    }

    let mark = mark(&bench, "greenlist-h1");
    let records: String = answers(&mark, 0..4)
        .iter()
        .map(|ids| json!({"prompt": "One.", "token_ids": ids}).to_string() + "\n")
        .collect();
    bench.write("suspect.jsonl", records.as_bytes());
    bench.write("p.jsonl", b"{\"id\":\"a\",\"prompt\":\"One.\"}\n");
    bench.write(
        "log.jsonl",
        br#"{"token_ids":[1,2,3],"logprobs":[null,[[1,-1.0]],[[2,-1.0]]]}"#,
    );
    // Key files under the names of other files.
    for (name, content) in [
        ("garbled.key", garble(&line)),
        ("long.key", format!("{} {}", *line, *line)),
        ("key.jsonl", line.to_string()),
        ("key.json", format!("\"{}\"", *line)),
        (
            "hex.json",
            json!({"schema": "watermark.dose-curve/1", "source": watermark_core::hex(&bytes), "points": watermark_core::hex(&bytes)}).to_string(),
        ),
        (
            "hex2.json",
            json!({"type": "watermark.plan", "schema": watermark_core::hex(&bytes)}).to_string(),
        ),
    ] {
        bench.write(name, content.as_bytes());
        bench.set_mode(name, 0o600);
    }
    std::fs::copy(bench.path("m.key"), bench.path("open.key")).unwrap();
    bench.set_mode("open.key", 0o644);
    let before: Vec<_> = files(&bench);
    let plan = "plan new --id case --prompts p.jsonl --model m --samples 4 --decoys 5";
    let commands = [
        "key inspect m.key".to_owned(),
        "key inspect s.key".into(),
        "key inspect garbled.key".into(),
        "key inspect long.key".into(),
        "key inspect open.key".into(),
        "key inspect open.key --allow-insecure-key-perms".into(),
        "key inspect --key-command 'cat m.key'".into(),
        "key inspect --key-command 'cat garbled.key'".into(),
        "key inspect --key-command 'sh -c \"cat m.key; exit 1\"'".into(),
        format!("key inspect --key-command '{}'", *line),
        format!("key inspect {}", *line),
        format!("detect --key-file {} text.txt", line.to_lowercase()),
        "key slot --key-file m.key --slot 5 --out s5.key".into(),
        "key slot --key-file s.key --slot 1 --out x.key".into(),
        "key commit --key-file m.key --out c.json".into(),
        "key commit --key-file s.key --out x.json".into(),
        "key inspect m.key --commitment c.json".into(),
        "key inspect m.key --commitment m.key".into(),
        "key inspect m.key --commitment key.json".into(),
        "key open --key-file m.key --commitment c.json --slot 3 --out o3.opening".into(),
        "key open --key-file m.key --commitment c.json --slot 3 --out o3.opening --i-know-this-lets-anyone-forge-slot".into(),
        "key open --key-file m.key --commitment c.json --slot 40 --out o40.opening --i-know-this-lets-anyone-forge-slot".into(),
        "key open --commitment c.json --verify o3.opening --key-out o3.key".into(),
        "key open --commitment c.json --verify m.key".into(),
        "key open --commitment c.json --verify key.json".into(),
        "key open --commitment o3.opening --verify c.json".into(),
        "key open --commitment c.json --verify hex.json".into(),
        "key inspect m.key --commitment hex.json".into(),
        "plan seal hex.json --out x.json".into(),
        "plan seal hex2.json --out x.json".into(),
        "distill --key-file m.key --decoys 0 --dose-curve hex.json text.txt".into(),
        "distill --key-file m.key --watch hex.json text.txt".into(),
        "detect --key-file m.key --profile hex.json text.txt".into(),
        "detect --key-file m.key --profile key.json text.txt".into(),
        "detect --key-file m.key --input jsonl hex.json".into(),
        "key rotate --key-file m.key --from e1 --to e2 --out c2.json".into(),
        "key rotate --key-file m.key --from e1 --to e3 --out c3.json --epochs key.json".into(),
        "detect --key-file m.key text.txt".into(),
        "detect --key-file m.key --format json suspect.jsonl".into(),
        "detect --key-file text.txt text.txt".into(),
        "detect --key-file m.key --profile o3.opening text.txt".into(),
        "detect --key-file m.key --tokenizer key.json text.txt".into(),
        "detect --key-file m.key key.jsonl".into(),
        "detect --key-file m.key --input jsonl m.key".into(),
        "explain --key-file s.key text.txt".into(),
        "explain --key-file s.key --format jsonl suspect.jsonl".into(),
        format!("{plan} --commitment c.json --out plan.json"),
        format!("{plan} --key-file m.key --out plan-of-key.json"),
        format!("{plan} --key-file s.key --slot 1 --out x.json"),
        format!("{plan} --commitment key.json --out x.json"),
        "plan seal plan.json --out sealed.json".into(),
        "plan seal m.key --out x.json".into(),
        "plan seal o3.opening --out x.json".into(),
        "plan power --mean-excess 0.3".into(),
        "distill --key-file m.key --plan sealed.json --prompts p.jsonl --commitment c.json suspect.jsonl".into(),
        "distill --key-file m.key --plan sealed.json --prompts m.key --commitment c.json suspect.jsonl".into(),
        "distill --key-file s.key --plan sealed.json --prompts p.jsonl --commitment c.json suspect.jsonl".into(),
        "distill --key-file m.key --plan m.key --prompts p.jsonl suspect.jsonl".into(),
        "distill --key-file m.key --plan o3.opening --prompts p.jsonl suspect.jsonl".into(),
        "distill --key-file m.key --decoys 5 --format json text.txt".into(),
        "distill --key-file m.key --decoys 3 --logs text.txt --supervised-cells 5 --two-sided text.txt".into(),
        "distill --key-file m.key --decoys 3 --open-suspect log.jsonl --open-reference log.jsonl".into(),
        "distill --key-file m.key --decoys 0 --reference log.jsonl text.txt".into(),
        "distill --key-file m.key --decoys 0 --reference key.jsonl text.txt".into(),
        "distill --key-file m.key --decoys 0 --dose-curve key.json text.txt".into(),
        "distill --key-file m.key --watch state.json text.txt".into(),
        "distill --key-file m.key --slot 1 --watch state.json text.txt".into(),
        "distill --key-file m.key --watch m.key text.txt".into(),
        "generate --key-file m.key --count 1 --max-tokens 5 --out g.jsonl".into(),
        "generate --key-file s.key --prompts key.jsonl --count 1 --max-tokens 5 --out g2.jsonl".into(),
    ];
    for arguments in &commands {
        let output = bench.run(arguments);
        assert!(output.status.code().is_some(), "{arguments}");
        // What was typed as an argument is not ours to keep, but is not repeated either.
        for said in [&output.stdout, &output.stderr] {
            secrets
                .iter()
                .for_each(|secret| secret.check(said, arguments));
        }
    }
    let made: Vec<_> = files(&bench)
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    let is_secret = |name: &str| name.ends_with(".key") || name.ends_with(".opening");
    for name in made.iter().filter(|name| !is_secret(name)) {
        let content = std::fs::read(bench.path(name)).unwrap();
        secrets
            .iter()
            .for_each(|secret| secret.check(&content, name));
    }
    for name in [
        "c.json",
        "c2.json",
        "epochs.json",
        "plan.json",
        "plan-of-key.json",
        "sealed.json",
        "state.json",
        "g.jsonl",
        "o3.opening",
        "s5.key",
        "o3.key",
    ] {
        assert!(made.iter().any(|made| made == name), "{name} was not made");
    }
    for name in made.iter().filter(|name| is_secret(name)) {
        assert_eq!(bench.mode(name), 0o600, "{name}");
    }
}

fn files(bench: &Bench) -> Vec<String> {
    let entries = std::fs::read_dir(bench.path(".")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    entries.map(name).collect()
}
