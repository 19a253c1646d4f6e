//! Debian's docker-registry on loopback, with its blobs below the run's folder. It dies with the bench.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::guard;
use super::measure::quietly;

/// A registry that serves.
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    child: Child,
}

impl Registry {
    /// Starts one; it answers when this returns.
    pub(crate) fn start(folder: &Path) -> Registry {
        fs::create_dir_all(folder).expect("a folder");
        let file = folder.join("registry.yml");
        let blobs = folder.join("blobs");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: 127.0.0.1:0}}\n",
            blobs.display()
        );
        fs::write(&file, text).expect("the settings");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let address = format!("127.0.0.1:{port}");
        let mut child = guard::mortal(Path::new("docker-registry"))
            .arg("serve")
            .arg(&file)
            .env("REGISTRY_HTTP_ADDR", &address)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry; `make bench` installs it");
        while TcpStream::connect(&address).is_err() {
            assert!(child.try_wait().expect("its state").is_none(), "docker-registry ended");
            thread::sleep(Duration::from_millis(5));
        }
        Registry { address, child }
    }

    /// Bytes of all layers of an image as they were sent.
    pub(crate) fn compressed_bytes(&self, reference: &str) -> u64 {
        let text = quietly(
            Command::new("skopeo")
                .args(["inspect", "--raw", "--tls-verify=false"])
                .arg(format!("docker://{reference}")),
        );
        let manifest: Value = serde_json::from_str(&text).expect("skopeo prints JSON");
        let layers = manifest["layers"].as_array().expect("a manifest");
        layers.iter().map(|layer| layer["size"].as_u64().expect("a size")).sum()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
