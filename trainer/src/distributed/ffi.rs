//! The C interface of `shim/dist_group.cpp` and `shim/dist_exchange.cpp`.

#![allow(unsafe_code, reason = "calls into C++; each block says why it is sound")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::ptr::NonNull;
use std::time::Duration;

use tch::Tensor;

use crate::native::{Loaded, last_error};

type Raw = *const c_void;
type Handle = NonNull<c_void>;

unsafe extern "C" {
    fn jmp_version_built() -> *const c_char;
    fn jmp_library_settings() -> *const c_char;
    fn jmp_store_serve(socket: i32, port: i32) -> bool;
    fn jmp_store_connect(
        host: *const c_char,
        port: i32,
        serve: bool,
        prefix: *const c_char,
        timeout_ms: i64,
    ) -> *mut c_void;
    fn jmp_store_set(store: *mut c_void, key: *const c_char, bytes: *const u8, length: usize) -> bool;
    fn jmp_store_peek(store: *mut c_void, key: *const c_char, bytes: *mut u8, room: usize) -> i64;
    fn jmp_store_free(store: *mut c_void);
    fn jmp_group_new(
        store: *const c_void,
        rank: i32,
        ranks: i32,
        timeout_ms: i64,
        address: *const c_char,
        make_nccl: *const c_void,
        device: i32,
    ) -> *mut c_void;
    fn jmp_group_sum(group: *const c_void, tensor: Raw) -> bool;
    fn jmp_group_broadcast(group: *const c_void, tensors: *const Raw, count: usize) -> bool;
    fn jmp_group_gather(group: *const c_void, outputs: *const Raw, count: usize, input: Raw) -> bool;
    fn jmp_group_free(group: *mut c_void);
    fn jmp_exchange_new(
        group: *const c_void,
        flat: Raw,
        bounds: *const i64,
        buckets: usize,
        always: usize,
        leaves: *const Raw,
        bucket_of: *const usize,
        count: usize,
    ) -> *mut c_void;
    fn jmp_exchange_arm(exchange: *mut c_void) -> bool;
    fn jmp_exchange_finish(exchange: *mut c_void) -> bool;
    fn jmp_exchange_free(exchange: *mut c_void);
}

fn raw(tensor: &Tensor) -> Raw {
    tensor.as_ptr().cast()
}

fn checked(done: bool) -> Result<(), String> {
    if done { Ok(()) } else { Err(last_error()) }
}

fn owned(handle: *mut c_void) -> Result<Handle, String> {
    NonNull::new(handle).ok_or_else(last_error)
}

fn text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("a zero byte in {text:?}"))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The version of libtorch that the shim was compiled for.
pub(super) fn version_built() -> String {
    // Sound: a string literal of the C++ side.
    unsafe { CStr::from_ptr(jmp_version_built()) }.to_string_lossy().into_owned()
}

/// How the loaded libtorch was built, its version included.
pub(super) fn library_settings() -> String {
    // Sound: a string of the C++ side that lives as long as the program.
    unsafe { CStr::from_ptr(jmp_library_settings()) }.to_string_lossy().into_owned()
}

/// Serves a store on `socket` until the program ends.
pub(super) fn serve_store(socket: TcpListener) -> Result<(), String> {
    let port = socket.local_addr().map_err(|e| e.to_string())?.port();
    // Sound: the descriptor is open and given away; nothing else uses it.
    checked(unsafe { jmp_store_serve(socket.into_raw_fd(), i32::from(port)) })
}

/// A connection to the store of a run.
#[derive(Debug)]
pub(super) struct Store(Handle);

// Sound: c10d's TCPStore locks a mutex in each call.
unsafe impl Send for Store {}

impl Store {
    /// Connects, and serves the store if `serve`. Keys of different `prefix` are apart.
    pub(super) fn connect(
        (host, port): (&str, u16),
        serve: bool,
        prefix: &str,
        timeout: Duration,
    ) -> Result<Self, String> {
        let (host, prefix) = (text(host)?, text(prefix)?);
        // Sound: the strings outlive the call; the result is new and ours.
        owned(unsafe {
            jmp_store_connect(host.as_ptr(), i32::from(port), serve, prefix.as_ptr(), milliseconds(timeout))
        })
        .map(Self)
    }

    /// Sets a value.
    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<(), String> {
        let key = text(key)?;
        // Sound: key and bytes outlive the call, which copies them.
        checked(unsafe { jmp_store_set(self.0.as_ptr(), key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// The first 4096 bytes of a value, if there is one.
    pub(super) fn peek(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let key = text(key)?;
        let mut bytes = vec![0; 4096];
        // Sound: at most as many bytes are written as there are.
        let length =
            unsafe { jmp_store_peek(self.0.as_ptr(), key.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
        match length {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| last_error())?;
                bytes.truncate(length);
                Ok(Some(bytes))
            }
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Sound: ours, and not used again.
        unsafe { jmp_store_free(self.0.as_ptr()) }
    }
}

/// What makes the NCCL backend, from the plug-in.
pub(super) type NewNccl = Loaded;

/// All ranks, able to talk.
///
/// Dropping it leaves the C++ side in place, on purpose: its destructor waits for what is under way, which after a failure
/// never ends. [`Group::free`] is the orderly way.
#[derive(Debug)]
pub(super) struct Group(Handle);

impl Group {
    /// Meets the other ranks; all must call it. `address` is what gloo binds to.
    pub(super) fn new(
        store: &Store,
        (rank, ranks): (u32, u32),
        timeout: Duration,
        address: Option<&str>,
        gpu: Option<(NewNccl, u32)>,
    ) -> Result<Self, String> {
        let address = address.map(text).transpose()?;
        let address = address.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        let (nccl, device) =
            gpu.map_or((std::ptr::null(), 0), |(nccl, device)| (nccl.as_ptr(), device as i32));
        let timeout = milliseconds(timeout);
        // Sound: the store outlives the call and is then shared by reference count; the plug-in's function has the type the C++
        // side declares, for it is compiled with it.
        owned(unsafe {
            jmp_group_new(self_ptr(store), rank as i32, ranks as i32, timeout, address, nccl, device)
        })
        .map(Self)
    }

    /// Adds up a tensor over all ranks, in place.
    pub(super) fn sum(&self, tensor: &Tensor) -> Result<(), String> {
        // Sound: the tensor outlives the call, which waits.
        checked(unsafe { jmp_group_sum(self.0.as_ptr(), raw(tensor)) })
    }

    /// Gives all ranks rank 0's values, in place.
    pub(super) fn broadcast(&self, tensors: &[Tensor]) -> Result<(), String> {
        let tensors: Vec<Raw> = tensors.iter().map(raw).collect();
        // Sound: an array of the length told, of tensors that outlive the call.
        checked(unsafe { jmp_group_broadcast(self.0.as_ptr(), tensors.as_ptr(), tensors.len()) })
    }

    /// Fills `outputs` with every rank's `input`.
    pub(super) fn gather(&self, outputs: &[Tensor], input: &Tensor) -> Result<(), String> {
        let outputs: Vec<Raw> = outputs.iter().map(raw).collect();
        // Sound: as above.
        checked(unsafe { jmp_group_gather(self.0.as_ptr(), outputs.as_ptr(), outputs.len(), raw(input)) })
    }

    /// Closes the connections; all ranks must have finished talking.
    pub(super) fn free(self) {
        // Sound: ours, and not used again.
        unsafe { jmp_group_free(self.0.as_ptr()) }
    }
}

fn self_ptr(store: &Store) -> *const c_void {
    store.0.as_ptr()
}

/// The exchange of one flat gradient.
#[derive(Debug)]
pub(super) struct RawExchange(Handle);

impl RawExchange {
    /// `bounds` cuts `flat` into buckets, of which every backward pass completes the first `always`; `bucket_of` tells the bucket of each of the leaves whose gradients it holds.
    pub(super) fn new(
        group: &Group,
        flat: &Tensor,
        bounds: &[i64],
        always: usize,
        leaves: &[Tensor],
        bucket_of: &[usize],
    ) -> Result<Self, String> {
        assert!(leaves.len() == bucket_of.len() && !bounds.is_empty());
        let leaves: Vec<Raw> = leaves.iter().map(raw).collect();
        // Sound: arrays of the lengths told; the C++ side keeps references of its own to the tensors and checks bucket numbers.
        owned(unsafe {
            jmp_exchange_new(
                group.0.as_ptr(),
                raw(flat),
                bounds.as_ptr(),
                bounds.len() - 1,
                always,
                leaves.as_ptr(),
                bucket_of.as_ptr(),
                leaves.len(),
            )
        })
        .map(Self)
    }

    /// Sends each bucket as soon as the next backward pass has completed it.
    pub(super) fn arm(&mut self) {
        // Sound: ours; no backward pass runs during the call. Where it fails, for want of memory, all is sent by `finish`.
        let _armed: bool = unsafe { jmp_exchange_arm(self.0.as_ptr()) };
    }

    /// Sends the rest and waits.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        // Sound: as above.
        checked(unsafe { jmp_exchange_finish(self.0.as_ptr()) })
    }
}

impl Drop for RawExchange {
    fn drop(&mut self) {
        // Sound: ours, and not used again. What is under way keeps its own references.
        unsafe { jmp_exchange_free(self.0.as_ptr()) }
    }
}
