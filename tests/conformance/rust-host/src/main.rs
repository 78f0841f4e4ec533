//! A host of V2 runner plugins with real `async-ffi` futures on a multi-threaded tokio runtime: it loads the plugin as a
//! jobworkerp worker does and checks what such a worker relies on. The plugin's own `.proto` texts are compiled at run
//! time, so that they are also checked.
//!
//! `cargo run --release -- ../../../build/libplugin_runner_mistral.so`; the last line counts what passed and failed. It runs
//! under `valgrind --fair-sched=yes` too (with `--cancels 3 --prefill 60`, as that is slow); `reloads_without_growth` then
//! measures valgrind's own memory.

mod abi;
mod checks;
mod plugin;
mod schema;

use checks::Context;
use std::process::ExitCode;
use std::sync::OnceLock;

/// What all checks, which are tasks of their own, share.
static CONTEXT: OnceLock<Context> = OnceLock::new();

const USAGE: &str =
    "usage: rust-host PLUGIN.so [--model FILE.gguf] [--cancels N] [--prefill WORDS] [--context TOKENS] [--only WORD]\n\
                     Without --model the plugin's built-in model answers.";

pub struct Options {
    pub plugin: String,
    pub model: Option<String>,
    pub n_cancels: usize,
    pub n_prefill: usize,
    pub context_size: u32,
    pub only: String,
}

fn parse_options() -> Option<Options> {
    let mut args = std::env::args().skip(1);
    let mut options = Options {
        plugin: String::new(),
        model: None,
        n_cancels: 100,
        n_prefill: 400,
        context_size: 0,
        only: String::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--model" => options.model = Some(args.next()?),
            "--cancels" => options.n_cancels = args.next()?.parse().ok()?,
            "--prefill" => options.n_prefill = args.next()?.parse().ok()?,
            "--context" => options.context_size = args.next()?.parse().ok()?,
            "--only" => options.only = args.next()?,
            path if !path.starts_with('-') && options.plugin.is_empty() => options.plugin = arg,
            _ => return None,
        }
    }
    (!options.plugin.is_empty()).then_some(options)
}

struct Report {
    only: String,
    n_passed: usize,
    n_failed: usize,
}

impl Report {
    fn add(&mut self, name: &str, result: checks::Check) {
        match result {
            Ok(detail) => {
                self.n_passed += 1;
                println!("ok    {name}: {detail}");
            }
            Err(why) => {
                self.n_failed += 1;
                println!("FAIL  {name}: {why}");
            }
        }
    }

    async fn check(&mut self, name: &str, check: impl std::future::Future<Output = checks::Check> + Send + 'static) {
        if !name.contains(&self.only) {
            return;
        }
        let result = tokio::spawn(check).await.unwrap_or_else(|panic| Err(panic.to_string()));
        self.add(name, result);
    }
}

macro_rules! check_all {
    ($report:ident, $context:ident: $($check:ident),* $(,)?) => {
        $($report.check(stringify!($check), checks::$check($context)).await;)*
    };
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() -> ExitCode {
    let Some(options) = parse_options() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let context = plugin::Plugin::open(&options.plugin).and_then(|plugin| Context::new(plugin, &options));
    let context: &'static Context = match context {
        Ok(context) => CONTEXT.get_or_init(|| context),
        Err(why) => {
            println!("FAIL  open {}: {why}\n0 passed, 1 failed", options.plugin);
            return ExitCode::FAILURE;
        }
    };
    let mut report = Report { only: options.only.clone(), n_passed: 0, n_failed: 0 };
    check_all!(report, context:
        versions_and_texts, json_schemas, no_client_streams, load_errors, bad_jobs, runs, streams, cancels_mid_stream,
        cancels_a_prefill,
        cancels_a_run, drops_futures, closes_sinks, eight_at_once, reloads_without_growth, polls_are_short, nothing_left);
    println!("{} passed, {} failed", report.n_passed, report.n_failed);
    ExitCode::from(u8::from(report.n_failed > 0))
}
