//! Compiles the shim on libtorch, and makes binaries and tests of this crate find libtorch without LD_LIBRARY_PATH.

use std::env;
use std::path::{Path, PathBuf};

#[allow(clippy::disallowed_methods, reason = "cargo tells build scripts by variables")]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shim");
    // Set by torch-sys (`links = "tch"`), which must be a direct dependency for that.
    let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    let x86 = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    operators(&PathBuf::from(&lib), x86);
    loops(x86);
    if env::var("CARGO_FEATURE_DISTRIBUTED").is_ok() {
        ranks(Path::new(&lib));
    }
    // libtorch's own threads: the shim's parallel loops are OpenMP regions of the same runtime.
    println!("cargo:rustc-link-lib=gomp");
}

/// A compiler of files that include libtorch's headers.
fn libtorch(lib: &Path) -> cc::Build {
    let torch = lib.parent().unwrap_or(lib).join("include");
    let mut build = cc::Build::new();
    // libtorch is built with NDEBUG, and some of its classes have other members without it.
    build.cpp(true).std("c++20").opt_level(2).warnings(false).flag("-fopenmp").define("NDEBUG", None);
    build.include(torch.join("torch/csrc/api/include")).include(torch);
    build
}

/// What adds operations to libtorch.
fn operators(lib: &Path, x86: bool) {
    let mut build = libtorch(lib);
    if x86 {
        build.define("JMP_X86", None);
    }
    for file in
        ["primitives", "functions", "product", "operators", "recompute", "profile", "dispatch", "load"]
    {
        build.file(format!("shim/{file}.cpp"));
    }
    build.compile("jmp_operators");
}

/// The loops, once for each instruction set.
fn loops(x86: bool) {
    let avx2: &[&str] = &["-mavx2", "-mfma"];
    let avx512: &[&str] =
        &["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"];
    let sets = [("portable", &[][..]), ("avx2", avx2), ("avx512", avx512)];
    for (name, flags) in sets.into_iter().take(if x86 { 3 } else { 1 }) {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(3).define("KERNELS", name).file("shim/kernels.cpp");
        for flag in ["-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"].iter().chain(flags) {
            build.flag(flag);
        }
        build.compile(&format!("jmp_kernels_{name}"));
    }
}

/// Training on several ranks; its NCCL part is a shared object of its own, built where CUDA's and NCCL's headers are.
#[allow(clippy::disallowed_methods, reason = "cargo tells build scripts by variables")]
fn ranks(lib: &Path) {
    let mut build = libtorch(lib);
    build.include("shim/gloo_fwd").define("USE_C10D_GLOO", None);
    build.file("shim/dist_group.cpp").file("shim/dist_exchange.cpp").compile("jmp_ranks");
    let Some(packages) = lib.parent().and_then(Path::parent) else { return };
    let (cuda, nccl) = (packages.join("nvidia/cu13/include"), packages.join("nvidia/nccl/include"));
    let has = |file: PathBuf| file.exists();
    if has(lib.join("libtorch_cuda.so")) && has(cuda.join("cuda_runtime.h")) && has(nccl.join("nccl.h")) {
        let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default()).join("libjmp_nccl.so");
        if nccl_plugin(lib, &[cuda, nccl], &out) {
            println!("cargo:rustc-env=JMP_NCCL_PLUGIN={}", out.display());
        } else {
            println!("cargo:warning=the NCCL plug-in did not compile: several ranks will run on CPUs only");
        }
    }
}

fn nccl_plugin(lib: &Path, includes: &[PathBuf], out: &Path) -> bool {
    let mut build = libtorch(lib);
    build.includes(includes).define("USE_C10D_NCCL", None).define("USE_CUDA", None).pic(true);
    let mut compiler = build.get_compiler().to_command();
    compiler.arg("-shared").arg("-o").arg(out).arg("shim/dist_nccl.cpp").arg(format!("-L{}", lib.display()));
    compiler.args(["-ltorch_cuda", "-lc10_cuda", "-ltorch_cpu", "-lc10", "-Wl,--allow-shlib-undefined"]);
    compiler.arg(format!("-Wl,-rpath,{}", lib.display()));
    compiler.status().is_ok_and(|status| status.success())
}
