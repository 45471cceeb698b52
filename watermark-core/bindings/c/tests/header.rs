//! The committed header is the one that the sources give. `WRITE_HEADER=1` writes it instead.

use std::path::Path;

#[test]
fn the_header_is_that_of_the_sources() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(directory.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for file in [
        "lib",
        "status",
        "scheme",
        "candidates",
        "outcome",
        "session",
        "batch",
        "rows",
        "detect",
        "llama",
    ] {
        builder = builder.with_src(directory.join("src").join(file).with_extension("rs"));
    }
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    let path = directory.join("include/watermark.h");
    if std::env::var_os("WRITE_HEADER").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read(&path).unwrap();
    assert!(
        made == committed,
        "include/watermark.h is not that of src/: WRITE_HEADER=1 cargo test --package watermark-c --test header, and \
         commit it"
    );
}
