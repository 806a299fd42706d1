//! Export: the root filesystem of a container as a tar.

use std::io::BufWriter;

use carrack_container::Container;
use carrack_image::transport::Output;
use carrack_layer::ArchiveOptions;
use carrack_sys::IoContext;
use carrack_sys::rooted::Root;

use crate::error::OperationContext;
use crate::{Engine, Result};

impl Engine {
    /// Writes the files of a container, running or not, without what is mounted into it. Names come sorted.
    pub fn export(&self, text: &str, output: Output) -> Result<()> {
        let container = self.containers.find(text)?;
        self.export_container(&container, output).operation("export container", text)?;
        self.container_event(&container.record, "export", &[]);
        Ok(())
    }

    fn export_container(&self, container: &Container, output: Output) -> Result<()> {
        let root = self.open_merged(container)?;
        let name = output.path().to_owned();
        let mut out = BufWriter::with_capacity(1 << 20, output);
        carrack_layer::archive(&root, &ArchiveOptions::default(), &mut out)?;
        let output = out.into_inner().map_err(std::io::IntoInnerError::into_error);
        Ok(output.during("write", name)?.finish()?)
    }

    /// What a container's root filesystem looks like now, to read only, without mounts on it.
    pub(crate) fn open_merged(&self, container: &Container) -> Result<Root> {
        Ok(self.root_mount(&container.record)?.read_only().open_root()?)
    }
}
