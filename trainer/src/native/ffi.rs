//! The C interface of `shim/operators.cpp`, `shim/load.cpp` and `shim/profile.cpp`.

#![allow(unsafe_code, reason = "calls into C++; each block says why it is sound")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;

use tch::Tensor;

/// A tensor of the C++ side, or null for "none".
type Raw = *const c_void;

/// Settings of one AdamW step; the same layout as `jmp::AdamWRule`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) decay: f32,
    pub(super) first: f32,
    pub(super) second: f32,
    pub(super) step: f32,
    pub(super) root: f32,
    pub(super) eps: f32,
    pub(super) gradient_scale: f32,
    pub(super) limit: f32,
    pub(super) average: f32,
}

unsafe extern "C" {
    fn jmp_last_error() -> *const c_char;
    fn jmp_kernels() -> *const c_char;
    fn jmp_activation(x: Raw) -> *mut c_void;
    fn jmp_linear(x: Raw, weight: Raw) -> *mut c_void;
    fn jmp_activated_linear(pre: Raw, weight: Raw, bias: Raw) -> *mut c_void;
    fn jmp_gated_linear(
        pre: Raw,
        index: Raw,
        radial: Raw,
        radial_weight: Raw,
        weight: Raw,
        activated: bool,
    ) -> *mut c_void;
    fn jmp_gated_sum(m: Raw, radial: Raw, radial_weight: Raw, target: Raw, rows: i64) -> *mut c_void;
    fn jmp_batched(a: Raw, b: Raw) -> *mut c_void;
    fn jmp_bilinear(circular: Raw, sums: Raw, weight: Raw) -> *mut c_void;
    fn jmp_residual(x: Raw, pre: Raw) -> *mut c_void;
    fn jmp_half_sum(a: Raw, b: Raw) -> *mut c_void;
    fn jmp_symmetric_update(s: Raw, a: Raw, b: Raw, reverse: Raw) -> *mut c_void;
    fn jmp_edge_sum(x: Raw, a: Raw, source: Raw, b: Raw, target: Raw) -> *mut c_void;
    fn jmp_gather(x: Raw, index: Raw) -> *mut c_void;
    fn jmp_scatter(x: Raw, index: Raw, rows: i64) -> *mut c_void;
    fn jmp_recomputed(
        run: unsafe extern "C" fn(*mut c_void, *const Raw, usize, *mut *mut c_void, usize) -> bool,
        release: unsafe extern "C" fn(*mut c_void),
        state: *mut c_void,
        inputs: *const Raw,
        count: usize,
        outputs: *mut *mut c_void,
        expected: usize,
    ) -> bool;
    fn jmp_backward(loss: Raw, leaves: *const Raw, count: usize) -> bool;
    fn jmp_adamw(value: Raw, gradient: Raw, first: Raw, second: Raw, average: Raw, rule: *const Rule)
    -> bool;
    fn jmp_sum_of_squares(tensor: Raw, sum: *mut f64) -> bool;
    fn jmp_keep_memory();
    fn jmp_load(path: *const c_char, symbol: *const c_char) -> *mut c_void;
    fn jmp_profile_start();
    fn jmp_profile_stop() -> usize;
    fn jmp_profile_entry(index: usize, calls: *mut u64, seconds: *mut f64, flop: *mut f64) -> *const c_char;
}

fn raw(tensor: &Tensor) -> Raw {
    tensor.as_ptr().cast()
}

fn raw_or_null(tensor: Option<&Tensor>) -> Raw {
    tensor.map_or(std::ptr::null(), raw)
}

pub(crate) fn last_error() -> String {
    // Sound: the pointer is to a string of this thread that lives until the next failing call.
    unsafe { CStr::from_ptr(jmp_last_error()) }.to_string_lossy().into_owned()
}

/// Takes over a result.
///
/// # Panics
/// With libtorch's message if the operation failed, as tch's own operations do.
fn owned(result: *mut c_void) -> Tensor {
    assert!(!result.is_null(), "{}", last_error());
    // Sound: a result that is not null is a new at::Tensor that belongs to the caller, as torch-sys's are.
    unsafe { Tensor::from_ptr(result.cast()) }
}

/// # Errors
/// libtorch's message where `done` says that the operation failed.
fn checked(done: bool) -> Result<(), String> {
    if done { Ok(()) } else { Err(last_error()) }
}

/// The instruction set of the loops.
pub(super) fn kernels() -> String {
    // Sound: a string literal of the C++ side.
    unsafe { CStr::from_ptr(jmp_kernels()) }.to_string_lossy().into_owned()
}

// Sound, all of the following: the pointers come from references that outlive the call, the C++ side reads them as
// at::Tensor and catches every exception.

pub(super) fn activation(x: &Tensor) -> Tensor {
    owned(unsafe { jmp_activation(raw(x)) })
}

pub(super) fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    owned(unsafe { jmp_linear(raw(x), raw(weight)) })
}

pub(super) fn activated_linear(pre: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    owned(unsafe { jmp_activated_linear(raw(pre), raw(weight), raw_or_null(bias)) })
}

pub(super) fn gated_linear(
    pre: &Tensor,
    index: Option<&Tensor>,
    (radial, radial_weight): (&Tensor, &Tensor),
    weight: &Tensor,
    activated: bool,
) -> Tensor {
    let index = raw_or_null(index);
    owned(unsafe {
        jmp_gated_linear(raw(pre), index, raw(radial), raw(radial_weight), raw(weight), activated)
    })
}

pub(super) fn gated_sum(
    m: &Tensor,
    (radial, radial_weight): (&Tensor, &Tensor),
    target: &Tensor,
    rows: i64,
) -> Tensor {
    owned(unsafe { jmp_gated_sum(raw(m), raw(radial), raw(radial_weight), raw(target), rows) })
}

pub(super) fn batched(a: &Tensor, b: &Tensor) -> Tensor {
    owned(unsafe { jmp_batched(raw(a), raw(b)) })
}

pub(super) fn bilinear(circular: &Tensor, sums: &Tensor, weight: &Tensor) -> Tensor {
    owned(unsafe { jmp_bilinear(raw(circular), raw(sums), raw(weight)) })
}

pub(super) fn residual(x: &Tensor, pre: &Tensor) -> Tensor {
    owned(unsafe { jmp_residual(raw(x), raw(pre)) })
}

pub(super) fn half_sum(a: &Tensor, b: &Tensor) -> Tensor {
    owned(unsafe { jmp_half_sum(raw(a), raw(b)) })
}

pub(super) fn symmetric_update(s: &Tensor, a: &Tensor, b: &Tensor, reverse: &Tensor) -> Tensor {
    owned(unsafe { jmp_symmetric_update(raw(s), raw(a), raw(b), raw(reverse)) })
}

pub(super) fn edge_sum(
    x: &Tensor,
    (a, source): (&Tensor, &Tensor),
    (b, target): (&Tensor, &Tensor),
) -> Tensor {
    owned(unsafe { jmp_edge_sum(raw(x), raw(a), raw(source), raw(b), raw(target)) })
}

pub(super) fn gather(x: &Tensor, index: &Tensor) -> Tensor {
    owned(unsafe { jmp_gather(raw(x), raw(index)) })
}

pub(super) fn scatter(x: &Tensor, index: &Tensor, rows: i64) -> Tensor {
    owned(unsafe { jmp_scatter(raw(x), raw(index), rows) })
}

/// A function of tensors that is run once now and once in the backward pass.
type Segment = Box<dyn Fn(&[Tensor]) -> Vec<Tensor>>;

/// Called by the C++ side with the state that [`recomputed`] gave it.
unsafe extern "C" fn run_segment(
    state: *mut c_void,
    inputs: *const Raw,
    count: usize,
    outputs: *mut *mut c_void,
    expected: usize,
) -> bool {
    // Sound: `state` is the box below, alive until `release_segment`. The segment may hold what is not Sync; this crate, the
    // only one that can make segments, runs one backward pass at a time and waits for it, and keeps outputs on its thread. Inputs and outputs are arrays of the lengths told.
    let segment = unsafe { &*state.cast::<Segment>() };
    let run = || {
        let inputs = unsafe { std::slice::from_raw_parts(inputs, count) };
        let inputs: Vec<Tensor> =
            inputs.iter().map(|input| unsafe { Tensor::clone_from_ptr(input.cast_mut().cast()) }).collect();
        segment(&inputs)
    };
    // A panic must not cross into C++.
    let Ok(made) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) else { return false };
    if made.len() != expected {
        return false;
    }
    let outputs = unsafe { std::slice::from_raw_parts_mut(outputs, expected) };
    for (place, tensor) in outputs.iter_mut().zip(made) {
        // The C++ side owns and deletes it.
        *place = std::mem::ManuallyDrop::new(tensor).as_mut_ptr().cast();
    }
    true
}

unsafe extern "C" fn release_segment(state: *mut c_void) {
    // Sound: called once, with the box that `recomputed` leaked.
    drop(unsafe { Box::from_raw(state.cast::<Segment>()) });
}

pub(super) fn recomputed(inputs: &[Tensor], outputs: usize, segment: Segment) -> Vec<Tensor> {
    let inputs: Vec<Raw> = inputs.iter().map(raw).collect();
    let state = Box::into_raw(Box::new(segment)).cast();
    let mut made = vec![std::ptr::null_mut(); outputs];
    let done = unsafe {
        jmp_recomputed(
            run_segment,
            release_segment,
            state,
            inputs.as_ptr(),
            inputs.len(),
            made.as_mut_ptr(),
            outputs,
        )
    };
    assert!(done, "{}", last_error());
    made.into_iter().map(owned).collect()
}

pub(super) fn backward(loss: &Tensor, leaves: &[Tensor]) -> Result<(), String> {
    let leaves: Vec<Raw> = leaves.iter().map(raw).collect();
    checked(unsafe { jmp_backward(raw(loss), leaves.as_ptr(), leaves.len()) })
}

pub(super) fn adamw(
    [value, gradient, first, second]: [&Tensor; 4],
    average: Option<&Tensor>,
    rule: &Rule,
) -> Result<(), String> {
    let average = raw_or_null(average);
    checked(unsafe { jmp_adamw(raw(value), raw(gradient), raw(first), raw(second), average, rule) })
}

pub(super) fn sum_of_squares(tensor: &Tensor) -> Result<f64, String> {
    let mut sum = 0.0;
    checked(unsafe { jmp_sum_of_squares(raw(tensor), &raw mut sum) }).map(|()| sum)
}

pub(super) fn keep_memory() {
    unsafe { jmp_keep_memory() }
}

/// A function of a shared object that stays loaded as long as the program runs.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "distributed"), expect(dead_code, reason = "only ranks ask for addresses"))]
pub(crate) struct Loaded(NonNull<c_void>);

impl Loaded {
    /// Loads a shared object and finds a function of it; without a name, the object itself.
    pub(crate) fn new(path: &str, symbol: Option<&str>) -> Result<Self, String> {
        let text = |text: &str| CString::new(text).map_err(|_| format!("a zero byte in {text:?}"));
        let (path, symbol) = (text(path)?, symbol.map(text).transpose()?);
        let symbol = symbol.as_ref().map_or(std::ptr::null(), |symbol| symbol.as_ptr());
        // Sound: the strings outlive the call. What a shared object does when it is loaded is its own.
        NonNull::new(unsafe { jmp_load(path.as_ptr(), symbol) }).map(Self).ok_or_else(last_error)
    }

    /// The function's address.
    #[cfg(feature = "distributed")]
    pub(crate) fn as_ptr(self) -> *const c_void {
        self.0.as_ptr()
    }
}

pub(super) fn profile_start() {
    unsafe { jmp_profile_start() }
}

/// Ends the recording: name, calls, seconds, floating-point operations of each operation.
pub(super) fn profile_stop() -> Vec<(String, u64, f64, f64)> {
    let count = unsafe { jmp_profile_stop() };
    let entry = |index| {
        let (mut calls, mut seconds, mut flop) = (0, 0.0, 0.0);
        // Sound: the name lives until the next recording stops; null is only given beyond the count.
        let name =
            unsafe { jmp_profile_entry(index, &raw mut calls, &raw mut seconds, &raw mut flop).as_ref() }?;
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        Some((name, calls, seconds, flop))
    };
    (0..count).filter_map(entry).collect()
}
