//! One plugin library and its instances, used as the real host uses them.

use crate::abi::*;
use async_ffi::{FfiFuture, FutureExt};
use std::collections::HashMap;
use std::ffi::c_void;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::mpsc;

/// The longest time that any poll of a plugin's future took.
pub static LONGEST_POLL_NS: AtomicU64 = AtomicU64::new(0);

/// Drives a future of the plugin and keeps the time of each poll.
pub async fn timed<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        let start = Instant::now();
        let poll = future.as_mut().poll(cx);
        LONGEST_POLL_NS.fetch_max(start.elapsed().as_nanos() as u64, Ordering::SeqCst);
        poll
    })
    .await
}

pub type Metadata = Vec<(String, Vec<u8>)>;

fn metadata_in(pairs: &Metadata) -> FfiVec<FfiKvPair> {
    let pair = |(key, value): &(String, Vec<u8>)| FfiKvPair {
        key: key.as_bytes().to_vec().into(),
        value: value.clone().into(),
    };
    pairs.iter().map(pair).collect::<Vec<_>>().into()
}

fn pairs_out(list: FfiVec<FfiKvPair>) -> Metadata {
    list.into_vec().into_iter().map(|pair| (pair.key.to_text(), pair.value.as_slice().to_vec())).collect()
}

#[derive(Clone, Copy)]
pub struct Plugin {
    entry: Entry,
}

impl Plugin {
    /// Loads the library, which stays for good.
    pub fn open(path: &str) -> Result<Self, String> {
        let library = unsafe { libloading::Library::new(path) }.map_err(|e| e.to_string())?;
        let entry = *unsafe { library.get::<Entry>(b"load_multi_method_plugin_v2\0") }.map_err(|e| e.to_string())?;
        std::mem::forget(library);
        Ok(Plugin { entry })
    }

    pub fn instance(&self) -> Instance {
        let raw = unsafe { (self.entry)() };
        assert!(!raw.state.is_null(), "the plugin made no instance");
        Instance { raw }
    }
}

pub struct Instance {
    raw: PluginInstanceRaw,
}

unsafe impl Send for Instance {}
unsafe impl Sync for Instance {}

impl Drop for Instance {
    fn drop(&mut self) {
        unsafe { (self.vtable().drop_state)(self.raw.state) }
    }
}

pub struct Outcome {
    pub result: Result<Vec<u8>, String>,
    pub metadata: Metadata,
}

impl Instance {
    pub fn vtable(&self) -> &'static PluginVtable {
        unsafe { &*self.raw.vtable }
    }

    pub fn state(&self) -> *mut c_void {
        self.raw.state
    }

    pub fn text(&self, function: unsafe extern "C" fn(*mut c_void) -> FfiBytes) -> String {
        unsafe { function(self.raw.state) }.to_text()
    }

    pub fn map(&self, function: unsafe extern "C" fn(*mut c_void) -> FfiVec<FfiKvPair>) -> HashMap<String, Vec<u8>> {
        pairs_out(unsafe { function(self.raw.state) }).into_iter().collect()
    }

    pub async fn load(&self, settings: Vec<u8>) -> Result<(), String> {
        timed(self.load_future(settings)).await
    }

    pub fn load_future(&self, settings: Vec<u8>) -> impl Future<Output = Result<(), String>> {
        let future = unsafe { (self.vtable().load)(self.raw.state, settings.into()) };
        async move { future.await.into_result() }
    }

    pub fn run_future(&self, args: Vec<u8>, metadata: &Metadata, using: Option<&str>) -> FfiFuture<V2RunOutcome> {
        let using = FfiOption::text(using);
        unsafe { (self.vtable().run)(self.raw.state, args.into(), metadata_in(metadata), using) }
    }

    pub async fn run(&self, args: Vec<u8>, metadata: &Metadata, using: Option<&str>) -> Outcome {
        let outcome = timed(self.run_future(args, metadata, using)).await;
        let result = outcome.result.into_result().map(|bytes| bytes.as_slice().to_vec());
        Outcome { result, metadata: pairs_out(outcome.metadata) }
    }

    pub fn stream_future(
        &self,
        args: Vec<u8>,
        metadata: &Metadata,
        using: Option<&str>,
        sink: OutputSink,
    ) -> FfiFuture<StreamResult> {
        let using = FfiOption::text(using);
        unsafe { (self.vtable().run_stream)(self.raw.state, args.into(), metadata_in(metadata), using, sink) }
    }

    /// Runs a stream in a task of its own: the chunks, and the end. `capacity` is that of the channel between.
    pub fn stream(
        &self,
        args: Vec<u8>,
        metadata: &Metadata,
        using: Option<&str>,
        capacity: usize,
    ) -> (mpsc::Receiver<Vec<u8>>, tokio::task::JoinHandle<Result<Metadata, String>>) {
        let (sink, receiver) = channel(capacity);
        let future = self.stream_future(args, metadata, using, sink);
        let end = tokio::spawn(async move { timed(future).await.into_result().map(pairs_out) });
        (receiver, end)
    }

    pub fn set_token(&self, token: &Token) {
        unsafe { (self.vtable().set_cancellation_token)(self.raw.state, token.raw()) }
    }
}

/// Rules of a sink that the plugin broke.
pub static SINK_VIOLATIONS: AtomicI64 = AtomicI64::new(0);

struct SinkState {
    sender: mpsc::Sender<Vec<u8>>,
    in_flight: Arc<AtomicI64>,
    _counted: Counted,
}

struct InFlight(Arc<AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

unsafe extern "C" fn sink_send(state: *mut c_void, bytes: FfiBytes) -> SendFuture {
    let sink = &*state.cast::<SinkState>();
    if sink.in_flight.fetch_add(1, Ordering::SeqCst) != 0 {
        SINK_VIOLATIONS.fetch_add(1, Ordering::SeqCst);
    }
    let in_flight = InFlight(sink.in_flight.clone());
    let sender = sink.sender.clone();
    async move {
        let _in_flight = in_flight;
        match sender.send(bytes.as_slice().to_vec()).await {
            Ok(()) => FfiResult::Ok(()),
            Err(_) => FfiResult::Err(bytes),
        }
    }
    .into_ffi()
}

unsafe extern "C" fn sink_drop(state: *mut c_void) {
    let sink = Box::from_raw(state.cast::<SinkState>());
    if sink.in_flight.load(Ordering::SeqCst) != 0 {
        SINK_VIOLATIONS.fetch_add(1, Ordering::SeqCst);
    }
}

/// A sink over a bounded channel.
pub fn channel(capacity: usize) -> (OutputSink, mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let state = Box::new(SinkState { sender, in_flight: Arc::default(), _counted: Counted::new() });
    (OutputSink { state: Box::into_raw(state).cast(), send: sink_send, drop_state: sink_drop }, receiver)
}

/// What a plugin registered. Its context is dropped with the last holder, which may be a wake that is still running when
/// `unregister_waker` has returned.
struct Registration {
    ctx: *mut c_void,
    wake: CtxFn,
    drop_ctx: CtxFn,
    _counted: Counted,
}

unsafe impl Send for Registration {}
unsafe impl Sync for Registration {}

impl Drop for Registration {
    fn drop(&mut self) {
        unsafe { (self.drop_ctx)(self.ctx) }
    }
}

#[derive(Default)]
struct TokenState {
    cancelled: AtomicBool,
    next_id: AtomicU64,
    registrations: Mutex<HashMap<u64, Arc<Registration>>>,
}

#[derive(Clone, Default)]
pub struct Token(Arc<TokenState>);

impl Token {
    pub fn cancel(&self) {
        let registrations: Vec<_> = {
            let map = self.0.registrations.lock().unwrap();
            self.0.cancelled.store(true, Ordering::SeqCst);
            map.values().cloned().collect()
        };
        for registration in registrations {
            unsafe { (registration.wake)(registration.ctx) }
        }
    }

    /// How many owners and registered wakers there are beside this handle.
    pub fn in_use(&self) -> usize {
        Arc::strong_count(&self.0) - 1 + self.0.registrations.lock().unwrap().len()
    }

    fn raw(&self) -> FfiCancellationToken {
        FfiCancellationToken {
            state: Arc::into_raw(self.0.clone()).cast(),
            is_cancelled: token_is_cancelled,
            register_waker: token_register,
            unregister_waker: token_unregister,
            clone_token: token_clone,
            drop_token: token_drop,
        }
    }
}

unsafe fn token_state<'a>(state: *const c_void) -> &'a TokenState {
    &*state.cast::<TokenState>()
}

unsafe extern "C" fn token_is_cancelled(state: *const c_void) -> bool {
    token_state(state).cancelled.load(Ordering::SeqCst)
}

unsafe extern "C" fn token_register(state: *const c_void, ctx: *mut c_void, wake: CtxFn, drop_ctx: CtxFn) -> u64 {
    let token = token_state(state);
    let registration = Arc::new(Registration { ctx, wake, drop_ctx, _counted: Counted::new() });
    let mut map = token.registrations.lock().unwrap();
    if token.cancelled.load(Ordering::SeqCst) {
        return 0;
    }
    let id = token.next_id.fetch_add(1, Ordering::SeqCst) + 1;
    map.insert(id, registration);
    id
}

unsafe extern "C" fn token_unregister(state: *const c_void, id: u64) {
    let removed = token_state(state).registrations.lock().unwrap().remove(&id);
    drop(removed);
}

unsafe extern "C" fn token_clone(state: *const c_void) -> FfiCancellationToken {
    Arc::increment_strong_count(state.cast::<TokenState>());
    Token(Arc::from_raw(state.cast::<TokenState>())).raw()
}

unsafe extern "C" fn token_drop(state: *const c_void) {
    drop(Arc::from_raw(state.cast::<TokenState>()));
}
