//! What the process tells about itself: log lines through `tracing`, numbers through `metrics`, rendered at `/metrics`.
//!
//! No listener of its own and no exporter thread; names of tenants and agents never become labels (residency).

use std::sync::OnceLock;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

pub mod metrics;
pub mod process;

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` is in `tracing-subscriber`'s syntax: `info,nethical_cluster=debug`.
pub fn start_logging(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log filter {filter:?}"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging could not start: {error}"))
}

/// Installs the recorder that [`render`] reads. A second call changes nothing.
pub fn start_metrics() -> anyhow::Result<()> {
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(metrics::LATENCY_SECONDS.to_owned()), &metrics::LATENCY_BUCKETS_SECONDS)
        .context("latency buckets")?
        .install_recorder()
        .context("metrics recorder")?;
    let _ = RECORDER.set(recorder);
    metrics::describe();
    Ok(())
}

/// Folds recorded samples into their histograms, so that memory stays bounded where nobody scrapes. Call it every few
/// seconds.
pub fn upkeep() {
    if let Some(recorder) = RECORDER.get() {
        recorder.run_upkeep();
    }
}

/// All numbers in Prometheus' text format; empty where [`start_metrics`] was not called.
pub fn render() -> String {
    process::refresh();
    RECORDER.get().map(PrometheusHandle::render).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promised_name_is_rendered() {
        start_metrics().expect("one recorder a process");
        start_metrics().expect("again changes nothing");
        metrics::Batch::start("test").finish(&[]);
        metrics::touch();
        process::watch_storage(std::env::temp_dir());
        let text = render();
        for name in metrics::PROMISED {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
        assert!(text.contains("nethical_latency_seconds_bucket{"), "latency has buckets");
    }
}
