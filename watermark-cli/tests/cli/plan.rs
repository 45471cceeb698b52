//! `plan power`.

use serde_json::Value;
use watermark_core::scheme::Null;
use watermark_core::stats::power::cells_needed;

use super::Bench;

fn json(bench: &Bench, arguments: &str) -> Value {
    let output = bench.run(&format!("plan power --format json {arguments}"));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn power_is_forecast() {
    let bench = Bench::new();
    let null = Null::Binomial {
        trials: 1,
        numerator: 1,
        bits: 2,
    };
    let needed = cells_needed(null, 0.45, 1e-5, 0.9).unwrap();
    let report = json(&bench, "--mean-excess 0.2");
    assert_eq!(report["type"], "watermark.power-forecast");
    assert_eq!(report["closedCells"]["cells"], needed);
    let tokens = (needed as f64 / 0.7).ceil() as u64;
    assert_eq!(report["closedCells"]["tokens"], tokens);
    assert_eq!(report["closedCells"]["method"], "exact");
    assert_eq!(report["other"], Value::Null);
    // Looking at any time costs something, and less than twice.
    let watched = report["anyTime"]["cells"].as_u64().unwrap();
    assert!(
        needed < watched && watched < 2 * needed,
        "{needed}, {watched}"
    );
    assert_eq!(report["anyTime"]["method"], "simulated");

    bench.write(
        "dose.json",
        br#"{"schema":"watermark.dose-curve/1","source":"t","points":[[0,0],[1,0.4]]}"#,
    );
    let report = json(
        &bench,
        "--share 0.5 --dose-curve dose.json --cells-per-token 1 --efficiency 4",
    );
    assert_eq!(report["closedCells"]["tokens"], needed);
    assert_eq!(report["other"]["tokens"], needed.div_ceil(4));
    let output = bench.run("plan power --profile gumbel-h2 --mean-excess 0.5");
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "profile gumbel-h2",
        "closed-cells",
        "exact",
        "any-time",
        "simulated",
    ] {
        assert!(text.contains(words), "{text}");
    }
    // An effect too small to simulate still has its exact number.
    let report = json(&bench, "--mean-excess 0.0002");
    assert!(report["closedCells"]["cells"].as_u64().unwrap() > 100_000_000);
    assert_eq!(report["anyTime"], Value::Null);
}

#[test]
fn what_cannot_be_planned() {
    let bench = Bench::new();
    bench.write("dose.json", b"{}");
    for (arguments, code, words) in [
        ("", 2, "--mean-excess"),
        ("--mean-excess 0.1 --share 0.1", 2, "--share"),
        ("--share 0.1", 2, "--dose-curve"),
        ("--share 0.1 --dose-curve dose.json", 4, "dose.json"),
        ("--mean-excess 0", 2, "above 0"),
        ("--mean-excess 0.75", 2, "below 0.75"),
        ("--mean-excess nan", 2, "above 0"),
        ("--mean-excess 0.1 --alpha 0", 2, "--alpha"),
        ("--mean-excess 0.1 --power 1", 2, "--power"),
        (
            "--mean-excess 0.1 --cells-per-token 0",
            2,
            "--cells-per-token",
        ),
        ("--mean-excess 0.1 --efficiency 0", 2, "--efficiency"),
        ("--mean-excess 0.1 --profile nothing", 2, "nothing"),
    ] {
        bench.refuses(&format!("plan power {arguments}"), code, &[words]);
    }
}
