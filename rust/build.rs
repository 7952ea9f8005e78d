//! Finds the installed library: `make install`, or the package libaio2-dev.

fn main() {
    if let Err(error) = pkg_config::Config::new()
        .atleast_version("0.1")
        .probe("aio2")
    {
        panic!(
            "libaio2 is not there, or PKG_CONFIG_PATH does not name the folder of its aio2.pc: {error}"
        );
    }
}
