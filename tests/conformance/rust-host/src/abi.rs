//! The V2 plugin ABI as its host sees it: `repr(C)` types with Rust ownership on top.

use async_ffi::FfiFuture;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI64, Ordering};

/// Values, sinks, tokens and contexts that the host made and nobody has dropped yet.
pub static LIVE: AtomicI64 = AtomicI64::new(0);

fn born() {
    LIVE.fetch_add(1, Ordering::SeqCst);
}

fn gone() {
    LIVE.fetch_sub(1, Ordering::SeqCst);
}

/// Counts itself in `LIVE` for as long as it lives.
pub struct Counted;

impl Counted {
    pub fn new() -> Self {
        born();
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        gone();
    }
}

type DropFn = unsafe extern "C" fn(*mut u8, usize, usize);

#[repr(C)]
pub struct FfiBytes {
    ptr: *mut u8,
    len: usize,
    cap: usize,
    drop_fn: DropFn,
}

unsafe impl Send for FfiBytes {}

unsafe extern "C" fn drop_host_bytes(ptr: *mut u8, len: usize, cap: usize) {
    drop(Vec::from_raw_parts(ptr, len, cap));
    gone();
}

impl From<Vec<u8>> for FfiBytes {
    fn from(bytes: Vec<u8>) -> Self {
        born();
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        FfiBytes { ptr: bytes.as_mut_ptr(), len: bytes.len(), cap: bytes.capacity(), drop_fn: drop_host_bytes }
    }
}

impl FfiBytes {
    pub fn as_slice(&self) -> &[u8] {
        assert!(!self.ptr.is_null(), "the plugin gave bytes with a null pointer");
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    pub fn to_text(&self) -> String {
        String::from_utf8(self.as_slice().to_vec()).expect("the plugin gave text that is not UTF-8")
    }
}

impl Drop for FfiBytes {
    fn drop(&mut self) {
        unsafe { (self.drop_fn)(self.ptr, self.len, self.cap) }
    }
}

#[repr(C)]
pub struct FfiVec<T> {
    ptr: *mut T,
    len: usize,
    cap: usize,
    drop_fn: DropFn,
}

unsafe impl<T: Send> Send for FfiVec<T> {}

unsafe extern "C" fn drop_host_vec<T>(ptr: *mut u8, len: usize, cap: usize) {
    drop(Vec::from_raw_parts(ptr.cast::<T>(), len, cap));
    gone();
}

impl<T> From<Vec<T>> for FfiVec<T> {
    fn from(items: Vec<T>) -> Self {
        born();
        let mut items = std::mem::ManuallyDrop::new(items);
        FfiVec { ptr: items.as_mut_ptr(), len: items.len(), cap: items.capacity(), drop_fn: drop_host_vec::<T> }
    }
}

impl<T> FfiVec<T> {
    /// Moves the elements out; the storage is freed with a length of 0, as the contract says.
    pub fn into_vec(self) -> Vec<T> {
        assert!(!self.ptr.is_null(), "the plugin gave a list with a null pointer");
        assert!(self.ptr.is_aligned(), "the plugin gave a list that is not aligned");
        let list = std::mem::ManuallyDrop::new(self);
        let items = (0..list.len).map(|i| unsafe { list.ptr.add(i).read() }).collect();
        unsafe { (list.drop_fn)(list.ptr.cast(), 0, list.cap) };
        items
    }
}

impl<T> Drop for FfiVec<T> {
    fn drop(&mut self) {
        unsafe { (self.drop_fn)(self.ptr.cast(), self.len, self.cap) }
    }
}

#[repr(C)]
pub struct FfiKvPair {
    pub key: FfiBytes,
    pub value: FfiBytes,
}

#[repr(C, u8)]
pub enum FfiOption<T> {
    Some(T),
    #[allow(dead_code)]
    None,
}

impl FfiOption<FfiBytes> {
    pub fn text(text: Option<&str>) -> Self {
        match text {
            Some(text) => FfiOption::Some(text.as_bytes().to_vec().into()),
            None => FfiOption::None,
        }
    }
}

#[repr(C, u8)]
#[allow(dead_code)]
pub enum FfiResult<T, E> {
    Ok(T),
    Err(E),
}

impl<T> FfiResult<T, FfiBytes> {
    pub fn into_result(self) -> Result<T, String> {
        match self {
            FfiResult::Ok(value) => Ok(value),
            FfiResult::Err(text) => Err(text.to_text()),
        }
    }
}

#[repr(C)]
pub struct V2RunOutcome {
    pub result: FfiResult<FfiBytes, FfiBytes>,
    pub metadata: FfiVec<FfiKvPair>,
}

pub type SendFuture = FfiFuture<FfiResult<(), FfiBytes>>;

#[repr(C)]
pub struct OutputSink {
    pub state: *mut c_void,
    pub send: unsafe extern "C" fn(*mut c_void, FfiBytes) -> SendFuture,
    pub drop_state: unsafe extern "C" fn(*mut c_void),
}

#[repr(C)]
pub struct OutputSinkWithFinal {
    pub state: *mut c_void,
    pub send_with_final: unsafe extern "C" fn(*mut c_void, FfiBytes, bool) -> SendFuture,
    pub drop_state: unsafe extern "C" fn(*mut c_void),
}

pub type CtxFn = unsafe extern "C" fn(*mut c_void);

#[repr(C)]
pub struct FfiCancellationToken {
    pub state: *const c_void,
    pub is_cancelled: unsafe extern "C" fn(*const c_void) -> bool,
    pub register_waker: unsafe extern "C" fn(*const c_void, *mut c_void, CtxFn, CtxFn) -> u64,
    pub unregister_waker: unsafe extern "C" fn(*const c_void, u64),
    pub clone_token: unsafe extern "C" fn(*const c_void) -> FfiCancellationToken,
    pub drop_token: unsafe extern "C" fn(*const c_void),
}

type State = *mut c_void;
type Text = unsafe extern "C" fn(State) -> FfiBytes;
type Map = unsafe extern "C" fn(State) -> FfiVec<FfiKvPair>;
type Using = FfiOption<FfiBytes>;
pub type StreamResult = FfiResult<FfiVec<FfiKvPair>, FfiBytes>;

#[repr(C)]
pub struct PluginVtable {
    pub abi_version: u32,
    pub vtable_size: u32,
    pub name: Text,
    pub description: Text,
    pub runner_settings_proto: Text,
    pub settings_schema: Text,
    pub method_proto_map: Map,
    pub method_json_schema_map: Map,
    pub supports_client_stream: unsafe extern "C" fn(State, Using) -> bool,
    pub client_stream_data_proto: unsafe extern "C" fn(State, Using) -> FfiBytes,
    pub setup_client_stream_channel: unsafe extern "C" fn(State, Using) -> FfiOption<OutputSink>,
    pub set_cancellation_token: unsafe extern "C" fn(State, FfiCancellationToken),
    pub load: unsafe extern "C" fn(State, FfiBytes) -> FfiFuture<FfiResult<(), FfiBytes>>,
    pub run: unsafe extern "C" fn(State, FfiBytes, FfiVec<FfiKvPair>, Using) -> FfiFuture<V2RunOutcome>,
    pub run_stream:
        unsafe extern "C" fn(State, FfiBytes, FfiVec<FfiKvPair>, Using, OutputSink) -> FfiFuture<StreamResult>,
    pub drop_state: unsafe extern "C" fn(State),
    pub reserved_method_0: unsafe extern "C" fn(State) -> FfiResult<FfiBytes, FfiBytes>,
    pub setup_client_stream_channel_v2: unsafe extern "C" fn(State, Using) -> FfiOption<OutputSinkWithFinal>,
    pub reserved_method_1: unsafe extern "C" fn(State) -> FfiResult<FfiBytes, FfiBytes>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PluginInstanceRaw {
    pub state: State,
    pub vtable: *const PluginVtable,
}

pub type Entry = unsafe extern "C" fn() -> PluginInstanceRaw;
