//! The cluster's folder: one cluster at a time, on ports that are free.
#![allow(clippy::disallowed_methods, reason = "the development cluster's folder is no node's data")]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, test_kill_process};

use super::NodePlace;
use crate::output::{Exit, stop};

/// A folder that is locked for us until this is dropped.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder where needed and locks it.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        // Nodes are started with absolute paths: they may not share our working folder.
        let dir = dir.canonicalize().with_context(|| format!("resolving {}", dir.display()))?;
        let path = dir.join("dev.lock");
        let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut lock = lock.with_context(|| format!("opening {}", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            lock.read_to_string(&mut holder).context("reading the lock file")?;
            let message = format!(
                "a cluster already runs in {} (process {}); use it, stop it, or name another folder with --data",
                dir.display(),
                holder.trim()
            );
            return Err(stop(Exit::Refused, message));
        }
        lock.set_len(0).context("writing the lock file")?;
        lock.write_all(std::process::id().to_string().as_bytes()).context("writing the lock file")?;
        Ok(Self { dir, _lock: lock })
    }

    /// The folder, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The authority's certificate.
    pub fn ca_path(&self) -> PathBuf {
        self.dir.join("ca").join("ca.pem")
    }

    /// A node that outlived an earlier parent still writes to its data: a second one on it would destroy it.
    pub fn refuse_living_nodes(&self) -> anyhow::Result<()> {
        for id in 1..=super::NODES_MAX {
            let dir = self.dir.join(format!("node-{id}"));
            let Ok(text) = std::fs::read_to_string(dir.join("pid")) else { continue };
            let Ok(pid) = text.trim().parse::<u32>() else { continue };
            if is_alive(pid) && runs_from(pid, &dir) {
                let message =
                    format!("node {id} of an earlier cluster still runs as process {pid}; stop it: kill {pid}");
                return Err(stop(Exit::Refused, message));
            }
        }
        Ok(())
    }
}

/// True while a process of that id exists.
pub fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| match test_kill_process(pid) {
        Ok(()) => true,
        Err(error) => error == rustix::io::Errno::PERM,
    })
}

/// True where that process was started with a path inside `dir`: process ids are used again by others.
fn runs_from(pid: u32, dir: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).split('\0').any(|word| Path::new(word).starts_with(dir))
}

/// Binds every port once and lets it go, so that a taken one is named before anything starts.
pub fn refuse_busy_ports(places: &[NodePlace]) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    for place in places {
        if TcpListener::bind(&place.http).is_err() {
            taken.push(format!("{} (HTTP of node {})", place.http, place.id));
        }
        for (address, what) in [(&place.quic, "QUIC"), (&place.peer, "peers")] {
            if UdpSocket::bind(address).is_err() {
                taken.push(format!("{address}/udp ({what} of node {})", place.id));
            }
        }
    }
    if taken.is_empty() {
        return Ok(());
    }
    let message =
        format!("taken by another program: {}; choose others with --http-base and --quic-base", taken.join(", "));
    Err(stop(Exit::Failed, message))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_second_cluster_in_the_same_folder_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = Folder::open(dir.path()).expect("free");
        let error = Folder::open(dir.path()).expect_err("taken");
        assert_eq!(crate::output::exit_code(&error), Exit::Refused as u8);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        Folder::open(dir.path()).expect("free again");
    }

    #[test]
    fn a_living_node_of_an_earlier_parent_is_refused_and_a_stale_pid_is_not() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::open(dir.path()).expect("free");
        let node = folder.dir().join("node-2");
        std::fs::create_dir_all(&node).expect("made");
        // Alive, but not from this folder: an id that was used again.
        std::fs::write(node.join("pid"), std::process::id().to_string()).expect("written");
        folder.refuse_living_nodes().expect("somebody else's process");
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg("echo here; while :; do sleep 0.02; done").arg(node.join("config.toml"));
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("sh");
        // Its command line is there once it runs, which is later than that it was started.
        let mut word = [0; 4];
        child.stdout.take().expect("piped").read_exact(&mut word).expect("a word");
        std::fs::write(node.join("pid"), child.id().to_string()).expect("written");
        let refused = folder.refuse_living_nodes();
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert_eq!(crate::output::exit_code(&refused.expect_err("it lives")), Exit::Refused as u8);
        folder.refuse_living_nodes().expect("gone");
    }

    #[test]
    fn a_taken_port_is_named_with_its_use() {
        let (tcp, udp) =
            (TcpListener::bind("127.0.0.1:0").expect("free"), UdpSocket::bind("127.0.0.1:0").expect("free"));
        let place = NodePlace {
            id: 4,
            region: "us-west-2".into(),
            http: tcp.local_addr().expect("bound").to_string(),
            quic: "127.0.0.1:0".into(),
            peer: udp.local_addr().expect("bound").to_string(),
            dir: PathBuf::new(),
        };
        let told = refuse_busy_ports(&[place]).expect_err("taken").to_string();
        assert!(
            told.contains("HTTP of node 4") && told.contains("peers of node 4") && !told.contains("QUIC of"),
            "{told}"
        );
    }
}
