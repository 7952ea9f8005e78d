//! Passes the library's name and properties to the linker.

fn main() {
    let versions = "src/personality/libaio/versions.map";
    println!("cargo:rerun-if-changed={versions}");

    // Of cargo's own libaio2.so, which the sanitizers run with; the one that is installed is linked by
    // scripts/build-lib.sh, which says why, in the same way.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libaio2.so.0");
    // Worker threads run the library's code: it must never be unmapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,relro,-z,now");
    // libaio's versions. The functions have these names only, not the ones that rustc exports them by.
    println!(
        "cargo:rustc-cdylib-link-arg=-Wl,--version-script={},--undefined-version",
        std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap())
            .join(versions)
            .display()
    );
}
