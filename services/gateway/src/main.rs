//! The `fanway` binary: cryptography, command line, logging, runtime, node - in this order.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::ExitCode;

use fanway_gateway::cli::{self, Action, Mode};
use fanway_gateway::config::Settings;
use fanway_gateway::telemetry::Telemetry;
use fanway_gateway::{app, auth, telemetry};

/// Long-lived connections of very different sizes would fragment the system's allocator. Its options are set at build
/// time, in `.cargo/config.toml`: memory that is free for a second goes back to the system, by a thread of its own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    auth::install_crypto();
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(Action::Run(settings, mode)) => run(*settings, mode),
        Ok(Action::Publish(request)) => say(request.send()),
        Ok(Action::Drain(request)) => say(request.send()),
        Ok(Action::Print(text)) => {
            print(&text);
            Ok(())
        }
        Err(refusal) if refusal.exit_code == 0 => {
            print(refusal.text.trim_end());
            Ok(())
        }
        Err(refusal) => {
            eprintln!("{}", refusal.text.trim_end());
            return ExitCode::from(refusal.exit_code);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanway: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a node until it is told to stop.
fn run(settings: Settings, mode: Mode) -> anyhow::Result<()> {
    // As many workers as the container may use: the standard library reads the cgroup's quota.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let telemetry = {
        let _within = runtime.enter();
        Telemetry::start(&settings.telemetry)?
    };
    let traces = telemetry.traces.clone();
    telemetry::logging::init(&settings.telemetry, traces.as_ref());
    tracing::info!(version = telemetry::metrics::VERSION, ?mode, listen = %settings.server.listen, "starting");
    // And a thread to hear what is published, which must not queue behind their work: however much that is, the kernel
    // gives this thread its share at once.
    let feed =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("feed").enable_all().build()?;
    let outcome = runtime.block_on(app::run(settings, mode, feed.handle().clone(), telemetry));
    // Not in the runtime: it is waited for by blocking.
    if let Some(traces) = traces {
        traces.stop();
    }
    // Everything has ended or been told to. Dropping the runtimes would wait for what blocks a thread, and that may be the
    // system's lookup of a name (of Redis, of the collector), which nobody can end: while no name server answers, it takes
    // longer than Kubernetes waits.
    feed.shutdown_background();
    runtime.shutdown_background();
    outcome
}

/// Prints what comes of a request.
fn say(request: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    print(&runtime.block_on(request)?);
    Ok(())
}

/// Prints a text. Who has stopped reading, such as `head`, has what he wanted.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
