//! The parts of libtorch that need CUDA, on machines that have them.

use super::ffi::Loaded;

/// Lets libtorch see GPUs, if it is an install with CUDA; otherwise nothing changes.
///
/// The linker leaves libtorch_cuda out, as nothing refers to it, so that one program serves both kinds of install. Must come
/// before the first question about CUDA, whose answer libtorch remembers.
pub fn load_cuda() {
    // On a machine without it there is nothing to load, and nothing to say.
    drop(Loaded::new("libtorch_cuda.so", None));
}

/// What makes NCCL backends: from `libjmp_nccl.so` beside the program, else from where it was built.
#[cfg(feature = "distributed")]
pub(crate) fn nccl_plugin() -> Result<Loaded, String> {
    const FILE: &str = "libjmp_nccl.so";
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(FILE)));
    let built = option_env!("JMP_NCCL_PLUGIN").map(std::path::PathBuf::from);
    let Some(path) = [beside, built].into_iter().flatten().find(|path| path.is_file()) else {
        return Err(format!(
            "several ranks on GPUs need {FILE} beside jmp-train; it is built where LIBTORCH lies beside the CUDA and NCCL headers"
        ));
    };
    Loaded::new(&path.to_string_lossy(), Some("jmp_nccl_new"))
}
