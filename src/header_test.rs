//! The C header is generated from the Rust types. A test compares it with the committed one: so only tests need cbindgen, and a
//! build of the library does not.

use std::path::Path;
use std::{env, fs};

fn generated(root: &Path) -> String {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/abi.rs"))
        .with_src(root.join("src/personality/aio2.rs"))
        .generate()
        .expect("cbindgen");
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = hex_constants(&String::from_utf8(text).unwrap());
    // C89 has no such comments.
    let text = text.replace("  // extern \"C\"", "");
    let text = text.replace("// __cplusplus", "/* __cplusplus */");
    // The inline helpers go inside the include guard, which is where cbindgen puts nothing.
    let inline = fs::read_to_string(root.join("src/inline.h")).expect("src/inline.h");
    let end = text.rfind("#endif").expect("include guard");
    format!("{}{}\n{}", &text[..end], inline.trim(), &text[end - 1..])
}

/// cbindgen writes every constant in decimal and without a suffix; magics and masks read better,
/// and compare without warnings, as unsigned hexadecimal.
fn hex_constants(header: &str) -> String {
    let mut out = String::new();
    for line in header.lines() {
        let value = line
            .strip_prefix("#define ")
            .and_then(|rest| rest.split_once(' '));
        match value.and_then(|(name, value)| Some((name, value.parse::<u64>().ok()?))) {
            Some((name, value)) if value > u64::from(u32::MAX) => {
                out += &format!("#define {name} {value:#x}ul")
            }
            Some((name, value)) if value > 0x7fff => out += &format!("#define {name} {value:#x}u"),
            _ => out += line,
        }
        out.push('\n');
    }
    out
}

/// With AIO2_UPDATE_HEADER, whose value is the name of a file, the header is written there.
#[test]
fn header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = generated(root);
    if let Some(to) = env::var_os("AIO2_UPDATE_HEADER") {
        return fs::write(to, generated).expect("AIO2_UPDATE_HEADER");
    }
    assert!(
        fs::read_to_string(root.join("include/aio2.h")).unwrap() == generated,
        "include/aio2.h is not what the Rust types say: run `make header`"
    );
}
