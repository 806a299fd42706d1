//! Images written as text.
//!
//! ```
//! # use carrack_testkit::ImageFixture;
//! let folder = tempfile::tempdir().unwrap();
//! let image = ImageFixture::new()
//!     .layer("/etc/ 0755\n/etc/hosts 0644 0:0 \"127.0.0.1 localhost\\n\"")
//!     .layer("/etc/hosts whiteout")
//!     .configure(|config| config.config.env = vec!["A=1".to_owned()]);
//! let manifest = image.write_layout(folder.path(), "latest");
//! assert_eq!(manifest.size, image.manifest_bytes().len() as u64);
//! ```

use std::fs;
use std::io::Write;
use std::path::Path;

use carrack_oci::{Descriptor, DiffId, Digest, History, ImageConfig, Index, Manifest, Platform, media_type};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::line;
use crate::tar::TarWriter;

/// How a layer's tar is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerFormat {
    /// As it is.
    Tar,
    /// Compressed with gzip.
    Gzip,
}

/// A layer of a fixture.
#[derive(Clone, Debug)]
pub struct FixtureLayer {
    /// The blob's descriptor.
    pub descriptor: Descriptor,
    /// The blob.
    pub bytes: Vec<u8>,
    /// The digest of the tar.
    pub diff_id: DiffId,
}

impl FixtureLayer {
    /// A layer of any bytes, for tars that no line of text can say.
    pub fn of_tar(tar: &[u8], format: LayerFormat) -> Self {
        let diff_id = DiffId(Digest::of(tar));
        let (media_type, bytes) = match format {
            LayerFormat::Tar => (media_type::OCI_LAYER, tar.to_vec()),
            LayerFormat::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(tar).expect("memory takes all");
                (media_type::OCI_LAYER_GZIP, encoder.finish().expect("memory takes all"))
            }
        };
        Self { descriptor: Descriptor::of(media_type, &bytes), bytes, diff_id }
    }
}

/// An image in memory; its layers are gzip unless [`ImageFixture::format`] says otherwise.
#[derive(Clone, Debug)]
pub struct ImageFixture {
    layers: Vec<FixtureLayer>,
    config: ImageConfig,
    format: LayerFormat,
}

impl Default for ImageFixture {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageFixture {
    /// An image for this machine, without layers.
    pub fn new() -> Self {
        let mut config = ImageConfig::empty(&Platform::host());
        config.created = Some("2020-02-02T02:02:02Z".to_owned());
        Self { layers: Vec::new(), config, format: LayerFormat::Gzip }
    }

    /// An image with one static busybox (`program`, a file of the host) and its most used names in `/bin`.
    pub fn busybox(program: &Path) -> Self {
        let mut lines =
            format!("/bin/\n/etc/\n/tmp/ 1777\n/root/ 0700\n/bin/busybox 0755 <({})\n", program.display());
        for name in [
            "sh",
            "cat",
            "echo",
            "env",
            "ls",
            "id",
            "true",
            "false",
            "sleep",
            "ps",
            "grep",
            "head",
            "mkdir",
            "rm",
            "cp",
            "mv",
            "ln",
            "stat",
            "touch",
            "chmod",
            "chown",
            "kill",
            "mount",
            "hostname",
            "nc",
            "wget",
            "ip",
            "ping",
            "seq",
            "dd",
            "yes",
            "tail",
            "wc",
            "test",
            "pwd",
            "stty",
            "tty",
            "httpd",
            "find",
            "sort",
            "uname",
            "date",
            "printf",
            "readlink",
            "sync",
            "nslookup",
            "tar",
            "vi",
            "df",
            "du",
            "cut",
            "tr",
            "sed",
            "awk",
            "md5sum",
            "sha256sum",
        ] {
            lines.push_str(&format!("/bin/{name} -> busybox\n"));
        }
        lines.push_str(
            "/etc/passwd \"root:x:0:0:root:/root:/bin/sh\\nnobody:x:65534:65534::/:/bin/false\\n\"\n",
        );
        lines.push_str("/etc/group \"root:x:0:\\nnogroup:x:65534:\\n\"\n");
        Self::new().layer(&lines).configure(|config| {
            config.config.cmd = Some(vec!["sh".to_owned()]);
            config.config.env =
                vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
        })
    }

    /// How the layers that follow are stored.
    pub fn format(mut self, format: LayerFormat) -> Self {
        self.format = format;
        self
    }

    /// Puts a layer on top, one entry a line.
    ///
    /// A line is a path, then any of mode, `uid:gid` and `"text"`; or `PATH -> TARGET`, `PATH => HARDLINK`,
    /// `PATH c 1:3`, `PATH b 8:0`, `PATH p`, `PATH whiteout`, `FOLDER/ opaque`; `mtime=N` and `user.key="value"`
    /// may follow. `<(/host/file)` is the content of a file of the host. A path without a leading slash is
    /// taken as it is.
    pub fn layer(self, lines: &str) -> Self {
        let tar = Self::tar(lines);
        let format = self.format;
        self.push(FixtureLayer::of_tar(&tar, format))
    }

    /// Puts any layer on top.
    pub fn push(mut self, layer: FixtureLayer) -> Self {
        self.config.rootfs.diff_ids.push(layer.diff_id.clone());
        let number = self.layers.len() + 1;
        self.config
            .history
            .push(History { created_by: Some(format!("layer {number}")), ..History::default() });
        self.layers.push(layer);
        self
    }

    /// Changes the config.
    pub fn configure(mut self, change: impl FnOnce(&mut ImageConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// The tar of entries written as text.
    pub fn tar(lines: &str) -> Vec<u8> {
        let mut tar = TarWriter::new();
        for (header, content) in lines.lines().filter_map(line::parse) {
            tar.entry(&header, &content);
        }
        tar.finish()
    }

    /// The layers, base first.
    pub fn layers(&self) -> &[FixtureLayer] {
        &self.layers
    }

    /// The config's bytes; their digest is the image ID.
    pub fn config_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.config).expect("a config has string keys only")
    }

    /// The image ID.
    pub fn id(&self) -> Digest {
        Digest::of(&self.config_bytes())
    }

    /// The manifest's bytes.
    pub fn manifest_bytes(&self) -> Vec<u8> {
        let config = Descriptor::of(media_type::OCI_CONFIG, &self.config_bytes());
        let layers = self.layers.iter().map(|layer| layer.descriptor.clone()).collect();
        serde_json::to_vec(&Manifest::oci(config, layers)).expect("a manifest has string keys only")
    }

    /// The manifest's descriptor.
    pub fn manifest(&self) -> Descriptor {
        Descriptor::of(media_type::OCI_MANIFEST, &self.manifest_bytes())
    }

    /// Every blob with its descriptor: layers, config, manifest.
    pub fn blobs(&self) -> Vec<(Descriptor, Vec<u8>)> {
        let layers = self.layers.iter().map(|layer| (layer.descriptor.clone(), layer.bytes.clone()));
        let config = self.config_bytes();
        let config = (Descriptor::of(media_type::OCI_CONFIG, &config), config);
        layers.chain([config, (self.manifest(), self.manifest_bytes())]).collect()
    }

    /// Writes the image as the only one of an OCI layout folder; returns the manifest's descriptor.
    pub fn write_layout(&self, folder: &Path, tag: &str) -> Descriptor {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("the folder can be made");
        for (descriptor, bytes) in self.blobs() {
            fs::write(blobs.join(descriptor.digest.hex()), bytes).expect("a blob can be written");
        }
        let mut entry = self.manifest();
        entry.annotations = Some([("org.opencontainers.image.ref.name".to_owned(), tag.to_owned())].into());
        let index = serde_json::to_vec(&Index::oci(vec![entry])).expect("an index has string keys only");
        fs::write(folder.join("index.json"), index).expect("the index can be written");
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("a file can be written");
        self.manifest()
    }
}
