//! `carrack manifest remove`, `carrack manifest rm`

use clap::Args;

use super::Command;
use crate::commands::for_each;
use crate::context::Context;
use crate::failure::Result;
use crate::output::print_line;

/// Takes images from a manifest list.
#[derive(Args)]
pub struct Remove {
    /// The list
    #[arg(value_name = "LIST")]
    list: String,
    /// The images: the digests of their manifests, their names or IDs here, or the references they were added by
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Command for Remove {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        for_each(&self.images, |image| {
            let list = engine.remove_from_list(&self.list, image)?;
            print_line(list.descriptor().digest)
        })
    }
}

/// Removes manifest lists; images that have a name of their own stay.
#[derive(Args)]
pub struct Rm {
    /// The lists
    #[arg(value_name = "LIST", required = true)]
    lists: Vec<String>,
}

impl Command for Rm {
    fn run(self, context: &Context) -> Result<u8> {
        let engine = context.engine()?;
        for_each(&self.lists, |list| {
            let removed = engine.remove_list(list)?;
            print_line(format_args!("Untagged: {}", removed.reference.familiar()))?;
            print_line(format_args!("Deleted: {}", removed.descriptor().digest))
        })
    }
}
