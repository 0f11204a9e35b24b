//! The process as the operating system sees it: CPU, memory, bytes on disk. Read when somebody asks for metrics.
//!
//! Linux only (`/proc`); elsewhere the gauges stay at zero.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use metrics::gauge;
use parking_lot::Mutex;

use super::metrics::{CPU_USAGE_PERCENT, RESIDENT_BYTES, STORAGE_BYTES};

/// Ticks a second in `/proc/self/stat`: part of Linux's ABI, 100 on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
/// Folders below the data folder that are looked into; a bound against loops of links.
const STORAGE_DEPTH_MAX: usize = 6;

static DATA_DIR: Mutex<Option<PathBuf>> = Mutex::new(None);
static LAST_CPU: Mutex<Option<(Instant, u64)>> = Mutex::new(None);

/// Names the folder whose bytes count as storage.
pub fn watch_storage(data_dir: PathBuf) {
    *DATA_DIR.lock() = Some(data_dir);
}

/// Sets the gauges.
pub fn refresh() {
    if let Some(percent) = cpu_percent() {
        gauge!(CPU_USAGE_PERCENT).set(percent);
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().and_then(|text| resident_bytes(&text)) {
        gauge!(RESIDENT_BYTES).set(bytes as f64);
    }
    let data_dir = DATA_DIR.lock().clone();
    if let Some(data_dir) = data_dir {
        gauge!(STORAGE_BYTES).set(folder_bytes(&data_dir, STORAGE_DEPTH_MAX) as f64);
    }
}

/// CPU since the last call, in percent of one core; nothing on the first call.
#[allow(clippy::disallowed_methods, reason = "measures this process from its outermost layer; decides nothing")]
fn cpu_percent() -> Option<f64> {
    let ticks = cpu_ticks(&fs::read_to_string("/proc/self/stat").ok()?)?;
    let now = Instant::now();
    let (before, ticks_before) = LAST_CPU.lock().replace((now, ticks))?;
    let elapsed_s = now.duration_since(before).as_secs_f64();
    (elapsed_s > 0.0).then(|| ticks.saturating_sub(ticks_before) as f64 / TICKS_PER_SECOND / elapsed_s * 100.0)
}

/// User and system ticks: fields 14 and 15 of proc(5) stat, counted after the name, which may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn folder_bytes(folder: &Path, depth_left: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth_left > 0 => folder_bytes(&entry.path(), depth_left - 1),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_texts_are_read() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(150), "fields count from the last bracket");
        assert_eq!(cpu_ticks("nonsense"), None);
        assert_eq!(resident_bytes("VmHWM:\t 9 kB\nVmRSS:\t  12 kB\n"), Some(12_288));
        assert_eq!(resident_bytes(""), None);
    }
}
