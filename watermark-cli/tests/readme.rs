//! The README's commands run, and its demo shows what it says. Release only: the demo trains two
//! students.

use std::path::Path;
use std::process::Command;

#[path = "schemas/conform.rs"]
#[allow(dead_code)]
mod conform;

const README: &str = include_str!("../../README.md");

fn watermark(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watermark"));
    command.current_dir(directory).env("WATERMARK_CONFIG", "");
    command
}

#[test]
#[cfg_attr(debug_assertions, ignore = "run in release by the gate")]
fn the_shell_section_runs_as_printed() {
    let directory = tempfile::tempdir().unwrap();
    let commands: Vec<&str> = README
        .lines()
        .filter_map(|line| line.strip_prefix("$ watermark "))
        .collect();
    assert!(commands.len() >= 5);
    for arguments in commands {
        let output = watermark(directory.path())
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "watermark {arguments}: {error}");
        if arguments.starts_with("detect") {
            let text = String::from_utf8(output.stdout).unwrap();
            let last = text.lines().last().unwrap();
            assert!(
                last.starts_with("rejected") && last.contains("all inputs"),
                "{text}"
            );
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "run in release by the gate")]
fn the_demo_tells_the_student_from_the_control() {
    assert!(README.contains("cargo run --release -p watermark-cli -- demo"));
    let directory = tempfile::tempdir().unwrap();
    let output = watermark(directory.path())
        .args(["demo", "--format", "json"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    conform::conforms("demo", &result);
    let number = |path: &str| {
        result
            .pointer(path)
            .and_then(serde_json::Value::as_f64)
            .unwrap()
    };
    println!(
        "demo: suspect 10^{:.1}, control 10^{:.2}, {:.0} s",
        number("/suspect/pLog10"),
        number("/control/pLog10"),
        number("/seconds")
    );
    assert!(number("/suspect/pLog10") < -9.0, "{result}");
    assert_eq!(
        (number("/decoys/rank"), number("/decoys/of")),
        (1.0, 1001.0)
    );
    // One fixed seed: these fail only if something changed.
    assert!(number("/control/pLog10") > -3.0, "{result}");
    assert!(number("/decoys/ksPLog10") > -3.0, "{result}");
    assert_eq!(
        result.pointer("/collapsed"),
        Some(&serde_json::json!(false))
    );
    for file in [
        "figure.svg",
        "report.json",
        "suspect.jsonl",
        "control.jsonl",
    ] {
        assert!(
            directory.path().join("watermark-demo").join(file).exists(),
            "{file}"
        );
    }
}
