//! Doctor, completions, manual pages, configuration.

use super::Bench;

#[test]
fn the_doctor_says_what_is_missing_and_what_is_broken() {
    let bench = Bench::new();
    let output = bench.run("doctor");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("kernel") && text.contains("fetch.sh"),
        "{text}"
    );
    bench.write("config.toml", b"key_file = \"none.key\"\nalpha = 1e-6\n");
    let output = bench.with_config("doctor --format json");
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = |name: &str| {
        let checks = found["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap()
    };
    assert_eq!(check("key_file")["health"], "broken");
    assert!(
        check("key_file")["found"]
            .as_str()
            .unwrap()
            .contains("none.key")
    );
    assert_eq!(check("alpha")["health"], "works");
}

#[test]
fn a_configuration_stands_in_for_flags() {
    let bench = Bench::new();
    bench.refuses("detect text.txt", 2, &["--key-file"]);
    bench.write(
        "config.toml",
        b"key_file = \"m.key\"\nprofile = \"greenlist-h2\"\n",
    );
    let output = bench.with_config("detect text.txt --format jsonl");
    assert_eq!(output.status.code(), Some(0));
    bench.write(
        "config.toml",
        b"alpha = 1e-6\nkey = \"WMK-SECRET-KEY-1QQ\"\n",
    );
    let output = bench.with_config("detect text.txt");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(!error.contains("WMK-SECRET"), "{error}");
    assert!(
        error.contains("config.toml, line 2") && error.contains("`key`"),
        "{error}"
    );
}

#[test]
fn every_command_has_a_manual_page_and_completions() {
    let bench = Bench::new();
    assert!(bench.run("man --out pages").status.success());
    let pages: Vec<String> = std::fs::read_dir(bench.path("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["watermark.1", "watermark-detect.1", "watermark-key-slot.1"] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
    }
    let page = std::fs::read_to_string(bench.path("pages").join("watermark-distill.1")).unwrap();
    assert!(page.contains("open\\-suspect"), "{page}");
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.run(&format!("completions {shell}")).stdout;
        assert!(String::from_utf8(script).unwrap().contains("distill"));
    }
}
