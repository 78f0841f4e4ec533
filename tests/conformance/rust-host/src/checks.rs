//! What the host expects of the plugin, one function for each expectation. `Err` says what was seen instead.

use crate::abi::{FfiOption, LIVE};
use crate::plugin::*;
use crate::schema::{self, MethodJsonSchema, MethodSchema};
use crate::Options;
use prost::Message;
use prost_reflect::MessageDescriptor;
use serde_json::{json, Value};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub type Check = Result<String, String>;

/// A word of a stream's chunks, or of a result's text.
const PROMPT: &str = "Once upon a time";

pub struct Method {
    pub name: &'static str,
    pub args: MessageDescriptor,
    pub result: MessageDescriptor,
}

pub struct Context {
    pub plugin: Plugin,
    pub settings: MessageDescriptor,
    pub chat: Method,
    pub completion: Method,
    /// The encoded settings that every check loads.
    pub worker: Vec<u8>,
    pub n_cancels: usize,
    pub n_prefill: usize,
}

fn ensure(condition: bool, message: impl Into<String>) -> Result<(), String> {
    condition.then_some(()).ok_or_else(|| message.into())
}

fn err_of<T>(result: Result<T, String>, part: &str) -> Result<String, String> {
    match result {
        Ok(_) => Err(format!("no error; expected one about \"{part}\"")),
        Err(text) if text.to_lowercase().contains(&part.to_lowercase()) => Ok(text),
        Err(text) => Err(format!("expected an error about \"{part}\", got: {text}")),
    }
}

fn method(instance: &Instance, name: &'static str, args: &str, result: &str) -> Result<Method, String> {
    let map = instance.map(instance.vtable().method_proto_map);
    let bytes = map.get(name).ok_or(format!("there is no method {name}"))?;
    let schema = MethodSchema::decode(bytes.as_slice()).map_err(|e| e.to_string())?;
    ensure(schema.output_type == 2, format!("{name}: output_type is {}, not BOTH", schema.output_type))?;
    ensure(!schema.require_client_stream, "a client stream is required")?;
    ensure(schema.client_stream_data_proto.unwrap_or_default().is_empty(), "there is a client stream's proto")?;
    ensure(!schema.description.unwrap_or_default().is_empty(), "a method has no description")?;
    let message = |text: &str, expected: &str| {
        let first = schema::first_message(text).map_err(|e| format!("{expected}: {e}"))?;
        ensure(first.name() == expected, format!("the first message is {}, not {expected}", first.name()))?;
        Ok::<_, String>(first)
    };
    Ok(Method { name, args: message(&schema.args_proto, args)?, result: message(&schema.result_proto, result)? })
}

impl Context {
    /// Asks the plugin for its schemas. An error here ends the program: nothing else could be run.
    pub fn new(plugin: Plugin, options: &Options) -> Result<Self, String> {
        let instance = plugin.instance();
        let settings = schema::first_message(&instance.text(instance.vtable().runner_settings_proto))?;
        let chat = method(&instance, "chat", "LLMChatArgs", "LLMChatResult")?;
        let completion = method(&instance, "completion", "LLMCompletionArgs", "LLMCompletionResult")?;
        let mut json = serde_json::Map::new();
        if let Some(path) = &options.model {
            json.insert("gguf_model".into(), json!({"model_name_or_path": path}));
        }
        if options.context_size > 0 {
            json.insert("context_size".into(), options.context_size.into());
        }
        let worker = schema::encode(&settings, json.into());
        let (n_cancels, n_prefill) = (options.n_cancels, options.n_prefill);
        Ok(Context { plugin, settings, worker, chat, completion, n_cancels, n_prefill })
    }

    async fn loaded(&self) -> Result<Instance, String> {
        let instance = self.plugin.instance();
        instance.load(self.worker.clone()).await?;
        Ok(instance)
    }

    fn chat_args(&self, text: &str, max_tokens: i32) -> Vec<u8> {
        let messages = json!([{"role": "USER", "content": {"text": text}}]);
        let options = json!({"temperature": 0, "max_tokens": max_tokens});
        schema::encode(&self.chat.args, json!({"messages": messages, "options": options}))
    }

    /// A long text: at a high temperature a model rarely ends it early.
    fn long_args(&self, seed: usize) -> Vec<u8> {
        let options = json!({"temperature": 1.5, "max_tokens": 100_000, "seed": seed});
        schema::encode(&self.completion.args, json!({"prompt": PROMPT, "options": options}))
    }

    fn completion_args(&self, prompt: &str, max_tokens: i32) -> Vec<u8> {
        let options = json!({"temperature": 0, "max_tokens": max_tokens});
        schema::encode(&self.completion.args, json!({"prompt": prompt, "options": options}))
    }

    fn text_of(method: &Method, bytes: &[u8]) -> Result<(String, Value), String> {
        let value = schema::decode(&method.result, bytes)?;
        let text = value["content"]["text"].as_str().unwrap_or_default().to_owned();
        Ok((text, value))
    }

    async fn run_text(&self, instance: &Instance, method: &Method, args: Vec<u8>) -> Result<(String, Value), String> {
        let outcome = instance.run(args, &Vec::new(), Some(method.name)).await;
        Self::text_of(method, &outcome.result?)
    }

    /// All new text of a stream and its last chunk.
    async fn stream_text(
        &self,
        instance: &Instance,
        method: &Method,
        args: Vec<u8>,
        capacity: usize,
    ) -> Result<(String, Value, usize), String> {
        let (mut chunks, end) = instance.stream(args, &Vec::new(), Some(method.name), capacity);
        let (mut all, mut last, mut n) = (String::new(), Value::Null, 0);
        while let Some(bytes) = chunks.recv().await {
            ensure(last["done"] != true, "a chunk came after the one with done")?;
            let (text, value) = Self::text_of(method, &bytes)?;
            all += &text;
            last = value;
            n += 1;
        }
        end.await.map_err(|e| e.to_string())??;
        Ok((all, last, n))
    }
}

pub async fn versions_and_texts(c: &Context) -> Check {
    let instance = c.plugin.instance();
    let vtable = instance.vtable();
    ensure(vtable.abi_version == 1 << 16 | 1, "abi_version")?;
    ensure(vtable.vtable_size as usize == std::mem::size_of_val(vtable), "vtable_size")?;
    let name = instance.text(vtable.name);
    ensure(name == "MistralLocalLLM", format!("the name is {name}"))?;
    ensure(!instance.text(vtable.description).is_empty(), "the description is empty")?;
    ensure(c.settings.name() == "LocalRunnerSettings", "the first message of the settings' text")?;
    let schema = instance.text(vtable.settings_schema);
    serde_json::from_str::<Value>(&schema).map_err(|e| format!("the settings' JSON schema: {e}"))?;
    Ok(name)
}

pub async fn json_schemas(c: &Context) -> Check {
    let instance = c.plugin.instance();
    let map = instance.map(instance.vtable().method_json_schema_map);
    for name in ["chat", "completion", "embedding"] {
        let bytes = map.get(name).ok_or(format!("{name} has no JSON schema"))?;
        let schema = MethodJsonSchema::decode(bytes.as_slice()).map_err(|e| e.to_string())?;
        for text in [Some(schema.args_schema), schema.result_schema].into_iter().flatten() {
            let value: Value = serde_json::from_str(&text).map_err(|e| format!("{name}: {e}"))?;
            ensure(value["type"] == "object", format!("{name}: the schema is of no object"))?;
        }
    }
    Ok(format!("{} methods", map.len()))
}

pub async fn no_client_streams(c: &Context) -> Check {
    let instance = c.plugin.instance();
    let (vtable, state) = (instance.vtable(), instance.state());
    unsafe {
        ensure(!(vtable.supports_client_stream)(state, FfiOption::text(Some("chat"))), "supports_client_stream")?;
        let proto = (vtable.client_stream_data_proto)(state, FfiOption::text(None));
        ensure(proto.as_slice().is_empty(), "client_stream_data_proto")?;
        let channel = (vtable.setup_client_stream_channel)(state, FfiOption::text(Some("chat")));
        ensure(matches!(channel, FfiOption::None), "setup_client_stream_channel")?;
        let channel = (vtable.setup_client_stream_channel_v2)(state, FfiOption::text(None));
        ensure(matches!(channel, FfiOption::None), "setup_client_stream_channel_v2")?;
        for reserved in [vtable.reserved_method_0, vtable.reserved_method_1] {
            err_of(reserved(state).into_result(), "reserved")?;
        }
    }
    Ok("none".into())
}

pub async fn load_errors(c: &Context) -> Check {
    let instance = c.plugin.instance();
    let missing = json!({"gguf_model": {"model_name_or_path": "/nowhere/missing.gguf"}});
    let text = err_of(instance.load(schema::encode(&c.settings, missing)).await, "missing.gguf")?;
    err_of(instance.load(vec![0xff, 0xff, 0xff]).await, "settings")?;
    err_of(instance.run(c.chat_args("Hi", 4), &Vec::new(), None).await.result, "load")?;
    instance.load(c.worker.clone()).await?; /* an instance survives its errors */
    Ok(text)
}

pub async fn bad_jobs(c: &Context) -> Check {
    let instance = c.loaded().await?;
    let none = Vec::new();
    let text = err_of(instance.run(c.chat_args("Hi", 4), &none, Some("sing")).await.result, "chat, completion")?;
    err_of(instance.run(vec![0x0a, 0x7f, 1], &none, Some("chat")).await.result, "LLMChatArgs")?;
    err_of(instance.run(vec![0xff; 64], &none, Some("completion")).await.result, "LLMCompletionArgs")?;
    err_of(instance.run(Vec::new(), &none, Some("chat")).await.result, "message")?;
    let (mut chunks, end) = instance.stream(Vec::new(), &none, Some("chat"), 4);
    ensure(chunks.recv().await.is_none(), "a chunk came before the error")?;
    err_of(end.await.map_err(|e| e.to_string())?, "message")?;
    Ok(text)
}

pub async fn runs(c: &Context) -> Check {
    let instance = c.loaded().await?;
    let metadata = vec![
        ("traceparent".to_owned(), b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_vec()),
        ("anything".to_owned(), vec![0, 255, 7]),
        ("empty".to_owned(), Vec::new()),
    ];
    let outcome = instance.run(c.chat_args("Hello!", 24), &metadata, None).await;
    ensure(outcome.metadata == metadata, "the metadata came back changed")?;
    let (text, value) = Context::text_of(&c.chat, &outcome.result?)?;
    ensure(value["done"] == true, format!("done is not set: {value}"))?;
    ensure(!text.is_empty(), format!("no text: {value}"))?;
    ensure(value["usage"]["completion_tokens"].as_u64().unwrap_or(0) > 0, format!("no usage: {value}"))?;
    let (again, _) = c.run_text(&instance, &c.chat, c.chat_args("Hello!", 24)).await?;
    ensure(text == again, "greedy text differs between two runs")?;
    let (continued, _) = c.run_text(&instance, &c.completion, c.completion_args(PROMPT, 16)).await?;
    ensure(!continued.is_empty(), "the completion is empty")?;
    Ok(format!("{text:?}"))
}

pub async fn streams(c: &Context) -> Check {
    let instance = c.loaded().await?;
    let mut n_chunks = 0;
    for method in [&c.chat, &c.completion] {
        let args = || match method.name {
            "chat" => c.chat_args("Hello!", 48),
            _ => c.completion_args(PROMPT, 48),
        };
        let (whole, _) = c.run_text(&instance, method, args()).await?;
        for capacity in [1, 64] {
            let (text, last, n) = c.stream_text(&instance, method, args(), capacity).await?;
            ensure(text == whole, format!("the stream gave {text:?}, the run {whole:?}"))?;
            ensure(last["done"] == true, format!("the last chunk is {last}"))?;
            ensure(last["usage"]["completion_tokens"].as_u64().unwrap_or(0) > 0, "no usage at the end")?;
            n_chunks = n_chunks.max(n);
        }
    }
    ensure(n_chunks >= 3, format!("a text of 48 tokens came in {n_chunks} chunks"))?;
    let metadata = vec![("k".to_owned(), b"v".to_vec())];
    let (mut chunks, end) = instance.stream(c.chat_args("Hello!", 2), &metadata, None, 4);
    while chunks.recv().await.is_some() {}
    ensure(end.await.map_err(|e| e.to_string())?? == metadata, "the metadata came back changed")?;
    Ok(format!("{n_chunks} chunks"))
}

/// From the token's cancellation to the future's end, over many streams.
pub async fn cancels_mid_stream(c: &Context) -> Check {
    let instance = c.loaded().await?;
    let mut times = Vec::new();
    for round in 0..c.n_cancels * 3 {
        let token = Token::default();
        instance.set_token(&token);
        let (mut chunks, end) = instance.stream(c.long_args(round), &Vec::new(), Some("completion"), 1024);
        for _ in 0..1 + round % 5 {
            chunks.recv().await;
        }
        let start = Instant::now();
        token.cancel();
        let result = end.await.map_err(|e| e.to_string())?;
        let elapsed = start.elapsed();
        ensure(token.in_use() == 0, "the token was not let go")?;
        if result.is_ok() {
            continue; /* this text had ended before */
        }
        err_of(result, "cancel")?;
        times.push(elapsed.as_secs_f64() * 1e3);
        if times.len() == c.n_cancels {
            break;
        }
    }
    ensure(times.len() == c.n_cancels, format!("only {} texts were long enough to cancel", times.len()))?;
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    Ok(format!("token set to future ready: p50 {:.2} ms, p99 {:.2} ms, n = {}", at(0.5), at(0.99), times.len()))
}

/// A prompt of about that many tokens whose beginning no other round has, so that no cached prefix serves it.
fn long_prompt(round: usize, n_words: usize) -> String {
    const WORDS: [&str; 8] = ["the", "house", "and", "a", "dog", "in", "green", "rain"];
    let words = (0..n_words).map(|i| WORDS[(i * 5 + i / 8 + round * 3) % 8]);
    format!("{round} {}", words.collect::<Vec<_>>().join(" "))
}

/// From the token's cancellation to the future's end while a long prompt is read.
pub async fn cancels_a_prefill(c: &Context) -> Check {
    let instance = c.loaded().await?;
    let start = Instant::now();
    let args = |round| c.completion_args(&long_prompt(round, c.n_prefill), 1);
    let (_, whole) = c.run_text(&instance, &c.completion, args(0)).await?;
    let prefill = start.elapsed();
    let (mut times, mut n_late) = (Vec::new(), 0);
    for round in 1..=c.n_cancels.min(20) {
        let token = Token::default();
        instance.set_token(&token);
        let none = Vec::new();
        let run = instance.run(args(round), &none, Some("completion"));
        let cancel = async {
            tokio::time::sleep(prefill * (round as u32 % 9) / 10).await;
            token.cancel();
            Instant::now()
        };
        let (outcome, cancelled) = tokio::join!(
            async {
                let outcome = run.await;
                (outcome, Instant::now())
            },
            cancel
        );
        let (outcome, ended) = outcome;
        if outcome.result.is_ok() {
            n_late += 1;
            continue;
        }
        err_of(outcome.result, "cancel")?;
        times.push(ended.saturating_duration_since(cancelled).as_secs_f64() * 1e3);
    }
    ensure(!times.is_empty(), "no prefill took long enough to be cancelled")?;
    times.sort_by(f64::total_cmp);
    Ok(format!(
        "{} tokens read in {:.0} ms; token set to future ready: p50 {:.2} ms, worst {:.2} ms, n = {} ({n_late} too late)",
        whole["usage"]["prompt_tokens"],
        prefill.as_secs_f64() * 1e3,
        times[times.len() / 2],
        times[times.len() - 1],
        times.len()
    ))
}

pub async fn cancels_a_run(c: &Context) -> Check {
    let instance = c.loaded().await?;
    let token = Token::default();
    token.cancel();
    instance.set_token(&token);
    err_of(instance.run(c.long_args(1), &Vec::new(), Some("completion")).await.result, "cancel")?;
    ensure(token.in_use() == 0, "the token that was set before was not let go")?;
    let token = Token::default();
    instance.set_token(&token);
    let args = c.long_args(2);
    let none = Vec::new();
    let run = instance.run(args, &none, Some("completion"));
    let cancel = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        token.cancel();
    };
    let (outcome, ()) = tokio::join!(run, cancel);
    ensure(token.in_use() == 0, "the token was not let go")?;
    if outcome.result.is_err() {
        err_of(outcome.result, "cancel")?;
    }
    let unused = Token::default();
    instance.set_token(&unused);
    instance.set_token(&token);
    ensure(unused.in_use() == 0, "a token that was replaced was not let go")?;
    drop(instance);
    ensure(token.in_use() == 0, "the instance's token was not let go")?;
    Ok("before, during, unused".into())
}

/// Polls a future for about that long and drops it.
async fn drop_after<F: Future>(future: F, time: Duration) {
    let _ = tokio::time::timeout(time, timed(future)).await;
}

pub async fn drops_futures(c: &Context) -> Check {
    let instance = c.loaded().await?;
    let none = Vec::new();
    drop(instance.run_future(c.long_args(0), &none, Some("completion")));
    drop(c.plugin.instance().load_future(c.worker.clone()));
    for round in 0..12u64 {
        let time = Duration::from_micros(300 * round * round);
        drop_after(instance.run_future(c.long_args(round as usize), &none, Some("completion")), time).await;
        let (sink, mut chunks) = channel(1);
        let args = c.long_args(round as usize);
        let started = Instant::now();
        drop_after(instance.stream_future(args, &none, Some("completion"), sink), time).await;
        ensure(started.elapsed() < time + Duration::from_secs(5), "dropping a future waited")?;
        while chunks.recv().await.is_some() {} /* ends only when the sink was dropped */
        let fresh = c.plugin.instance();
        drop_after(fresh.load_future(c.worker.clone()), time / 4).await;
    }
    let orphan = instance.run_future(c.long_args(99), &none, Some("completion"));
    drop_after(orphan, Duration::from_millis(5)).await;
    let (text, _) = c.run_text(&instance, &c.chat, c.chat_args("Hello!", 8)).await?;
    drop_after(instance.run_future(c.long_args(98), &none, Some("completion")), Duration::from_millis(5)).await;
    drop(instance); /* while the work may still be unwinding */
    Ok(format!("the instance still answers {text:?}"))
}

pub async fn closes_sinks(c: &Context) -> Check {
    let instance = c.loaded().await?;
    let mut text = String::new();
    for n_taken in [0, 1, 3, 7] {
        let (mut chunks, end) = instance.stream(c.long_args(n_taken), &Vec::new(), Some("completion"), 1);
        for _ in 0..n_taken {
            chunks.recv().await;
        }
        drop(chunks);
        match end.await.map_err(|e| e.to_string())? {
            Ok(_) if n_taken > 3 => {} /* a short text */
            result => text = err_of(result, "receiver")?,
        }
    }
    let (again, _) = c.run_text(&instance, &c.chat, c.chat_args("Hello!", 8)).await?;
    ensure(!again.is_empty(), "no answer after a closed sink")?;
    Ok(text)
}

/// Eight instances stream and run at the same time, and each answers as if it were alone.
pub async fn eight_at_once(c: &'static Context) -> Check {
    const QUESTIONS: [&str; 8] =
        ["Hello!", "How are you?", "Tell me a story.", "What is rain?", "Who are you?", "Sing!", "Why?", "Good night."];
    let alone = c.loaded().await?;
    let mut expected = Vec::new();
    for question in QUESTIONS {
        expected.push(c.run_text(&alone, &c.chat, c.chat_args(question, 32)).await?.0);
    }
    drop(alone);
    let start = Instant::now();
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let expected = expected[i].clone();
            tokio::spawn(async move {
                let instance = c.loaded().await?;
                for round in 0..3 {
                    let args = c.chat_args(QUESTIONS[i], 32);
                    let text = match (i + round) % 2 {
                        0 => c.stream_text(&instance, &c.chat, args, 2).await?.0,
                        _ => c.run_text(&instance, &c.chat, args).await?.0,
                    };
                    ensure(text == expected, format!("instance {i}: {text:?}, alone: {expected:?}"))?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.map_err(|e| e.to_string())??;
    }
    Ok(format!("24 jobs in {:.2} s", start.elapsed().as_secs_f64()))
}

fn memory_kib() -> i64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn n_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map(|dir| dir.count()).unwrap_or(0)
}

/// Threads of jobs end a moment after their future; give them time.
async fn threads_down_to(n: usize) -> bool {
    for _ in 0..500 {
        if n_threads() <= n {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// Growth that is not a leak: the allocator's arenas keep what threads leave behind.
const GROWTH_KIB: i64 = 4096;
const WARM_UP: usize = 5;

pub async fn reloads_without_growth(c: &Context) -> Check {
    let threads_before = n_threads();
    let mut memory = Vec::new();
    for _ in 0..WARM_UP + 20 {
        let instance = c.loaded().await?;
        let (text, ..) = c.stream_text(&instance, &c.chat, c.chat_args("Hello!", 16), 8).await?;
        ensure(!text.is_empty(), "no answer")?;
        drop(instance);
        ensure(threads_down_to(threads_before).await, format!("{} threads stay", n_threads() - threads_before))?;
        memory.push(memory_kib());
    }
    let (first, last) = (memory[WARM_UP - 1], memory[memory.len() - 1]);
    ensure(
        last - first <= GROWTH_KIB,
        format!("memory grew by {} KiB in 20 cycles: {:?}", last - first, &memory[WARM_UP - 1..]),
    )?;
    Ok(format!("{first} KiB resident after the warm-up, {last} KiB 20 cycles later"))
}

pub async fn nothing_left(_: &Context) -> Check {
    for _ in 0..500 {
        if LIVE.load(Ordering::SeqCst) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let live = LIVE.load(Ordering::SeqCst);
    ensure(live == 0, format!("{live} values of the host were not dropped (or were dropped twice)"))?;
    let violations = SINK_VIOLATIONS.load(Ordering::SeqCst);
    ensure(violations == 0, format!("{violations} times a send was in flight when it must not be"))?;
    Ok("every value, sink, token and context was dropped once".into())
}

pub async fn polls_are_short(c: &Context) -> Check {
    let instance = c.plugin.instance();
    let pending = {
        let mut load = pin!(instance.load_future(c.worker.clone()));
        std::future::poll_fn(|cx| std::task::Poll::Ready(load.as_mut().poll(cx).is_pending())).await
    };
    ensure(pending, "the first poll of a load waited for the load")?;
    let longest = Duration::from_nanos(LONGEST_POLL_NS.load(Ordering::SeqCst));
    ensure(longest < Duration::from_secs(1), format!("a poll took {longest:?}"))?;
    Ok(format!("the longest poll took {:.2} ms", longest.as_secs_f64() * 1e3))
}
