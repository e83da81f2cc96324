//! Makes binaries and tests of this crate find libtorch without LD_LIBRARY_PATH.

use std::env;

#[allow(clippy::disallowed_methods, reason = "cargo tells build scripts by variables")]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by torch-sys (`links = "tch"`), which must be a direct dependency for that.
    if let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    }
}
