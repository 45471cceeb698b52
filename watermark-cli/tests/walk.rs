//! The investigator's path from a key to two reports, against two models behind an interface: one that learned from
//! marked text and one that learned from unmarked text of the same teacher. Release only: it trains both.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// The two programs stand side by side.
fn program(name: &str) -> Command {
    let path = Path::new(env!("CARGO_BIN_EXE_watermark")).with_file_name(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --release -p watermark-eval",
        path.display()
    );
    Command::new(path)
}

struct Walk(tempfile::TempDir);

impl Walk {
    fn run(&self, name: &str, line: &str) -> String {
        let output = program(name)
            .current_dir(self.0.path())
            .env("WATERMARK_CONFIG", "")
            .args(line.split_whitespace())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {line}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn watermark(&self, line: &str) -> String {
        self.run("watermark", line)
    }

    fn json(&self, name: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.0.path().join(name)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Trains a student, serves it, asks it under the plan, and tests what it said: log10 of the smallest adjusted p,
    /// verdict, tokens.
    fn suspect(&self, name: &str) -> (f64, String, u64) {
        self.run(
            "watermark-eval",
            &format!("train-student {name}.jsonl --out {name}.gguf"),
        );
        let server = Server::of(self, &format!("{name}.gguf"));
        self.watermark(&format!(
            "collect run --out {name} --endpoint {}/v1 --plan sealed.json",
            server.address
        ));
        self.watermark(&format!(
            "distill --key-file provider.key --plan sealed.json --prompts prompts.jsonl --commitment commitment.json \
             --out {name}.json {name}"
        ));
        self.watermark(&format!("report html {name}.json --out {name}.html"));
        let file = self.json(&format!("{name}.json"));
        let findings = file
            .pointer("/report/findings")
            .unwrap()
            .as_array()
            .unwrap();
        let p = findings
            .iter()
            .map(|finding| finding["adjustedPLog10"].as_f64().unwrap())
            .fold(0.0, f64::min);
        let page = std::fs::read_to_string(self.0.path().join(format!("{name}.html"))).unwrap();
        let verdict = ["not rejected", "rejected", "insufficient"]
            .into_iter()
            .find(|verdict| page.to_lowercase().contains(verdict))
            .unwrap();
        let tokens = file.pointer("/report/suspect/counts/tokens").unwrap();
        (p, verdict.to_owned(), tokens.as_u64().unwrap())
    }
}

/// A model behind an interface on the loopback; it ends with the test, and by itself.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn of(walk: &Walk, model: &str) -> Self {
        let mut child = program("watermark-eval")
            .current_dir(walk.0.path())
            .args(["endpoint", "--model", model, "--port", "0", "--for", "300"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = said["url"]
            .as_str()
            .unwrap()
            .trim_end_matches("/v1")
            .to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "run in release by the gate")]
fn walk() {
    let clock = Instant::now();
    let walk = Walk(tempfile::tempdir().unwrap());
    walk.watermark("key new --out provider.key");
    walk.watermark(
        "key commit --key-file provider.key --epoch e1 --profile greenlist-h1 --out commitment.json",
    );
    let write =
        "generate --key-file provider.key --profile greenlist-h1 --count 1280 --max-tokens 160";
    walk.watermark(&format!("{write} --out learned.jsonl"));
    walk.watermark(&format!("{write} --unmarked --out innocent.jsonl"));
    // First words exclude almost no window, and the students read nothing longer.
    let prompts: String = watermark_corpora::openings()
        .take(128)
        .enumerate()
        .map(|(at, opening)| {
            serde_json::json!({"id": format!("open-{at}"), "prompt": opening}).to_string() + "\n"
        })
        .collect();
    std::fs::write(walk.0.path().join("prompts.jsonl"), prompts).unwrap();
    walk.watermark(
        "plan new --id walk --commitment commitment.json --prompts prompts.jsonl --api completions --model local \
         --max-tokens 120 --mean-excess 0.1 --out plan.json",
    );
    walk.watermark("plan seal plan.json --out sealed.json");
    let (learned, verdict, tokens) = walk.suspect("learned");
    let (innocent, other, others) = walk.suspect("innocent");
    println!(
        "walk: {verdict} at 10^{learned:.1} on {tokens} tokens; {other} at 10^{innocent:.2} on {others} tokens; {:.0} s",
        clock.elapsed().as_secs_f64()
    );
    assert!(learned < -9.0 && verdict == "rejected");
    // The key is fresh, so the control is rejected once in 100,000 runs.
    assert!(innocent > -5.0 && other == "not rejected");
}
