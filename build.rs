//! Generates the C header and passes the library's name and properties to the linker.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap());
    for input in [
        "src/abi.rs",
        "src/personality/aio2.rs",
        "src/inline.h",
        "cbindgen.toml",
        "include/aio2.h",
        "src/personality/libaio/versions.map",
    ] {
        println!("cargo:rerun-if-changed={input}");
    }
    println!("cargo:rerun-if-env-changed=AIO2_UPDATE_HEADER");
    header(&root);

    // Of cargo's own libaio2.so, which the sanitizers run with; the one that is installed is linked by
    // scripts/build-lib.sh, which says why, in the same way.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libaio2.so.0");
    // Worker threads run the library's code: it must never be unmapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,relro,-z,now");
    // libaio's versions. The functions have these names only, not the ones that rustc exports them by.
    println!(
        "cargo:rustc-cdylib-link-arg=-Wl,--version-script={},--undefined-version",
        root.join("src/personality/libaio/versions.map").display()
    );
}

/// Writes the header to OUT_DIR, where a test compares it with the committed one, which is
/// replaced only when asked for: a build must not change the tree that it builds.
fn header(root: &Path) {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/abi.rs"))
        .with_src(root.join("src/personality/aio2.rs"))
        .generate()
        .expect("cbindgen");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap()).join("aio2.h");
    let mut text = Vec::new();
    bindings.write(&mut text);
    let text = hex_constants(&String::from_utf8(text).unwrap());
    // The inline helpers go inside the include guard, which is where cbindgen puts nothing.
    let inline = fs::read_to_string(root.join("src/inline.h")).expect("src/inline.h");
    let end = text.rfind("#endif").expect("include guard");
    fs::write(
        &out,
        format!("{}{}\n{}", &text[..end], inline.trim(), &text[end - 1..]),
    )
    .expect("OUT_DIR");
    let committed = root.join("include/aio2.h");
    if env::var_os("AIO2_UPDATE_HEADER").is_some() {
        fs::copy(&out, &committed).expect("include/aio2.h");
    } else if fs::read(&out).ok() != fs::read(&committed).ok() {
        println!("cargo:warning=include/aio2.h is not what the Rust types say: run `make header`");
    }
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
                out += &format!("#define {name} {value:#x}ull")
            }
            Some((name, value)) if value > 0x7fff => out += &format!("#define {name} {value:#x}u"),
            _ => out += line,
        }
        out.push('\n');
    }
    out
}
