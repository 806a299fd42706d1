//! Descriptors of the caller that a program in a container gets.

use carrack_engine::runtime::{check_descriptors, descriptors_from_3};
use clap::Args;

use crate::failure::Result;

/// `--preserve-fds` and `--preserve-fd`.
#[derive(Args)]
pub struct PreservedDescriptors {
    /// Give the program so many open descriptors of this process, from number 3 on
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    preserve_fds: u32,
    /// Give the program these open descriptors of this process, under their numbers
    #[arg(long, value_name = "NUMBER,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(3..))]
    preserve_fd: Vec<u32>,
}

impl PreservedDescriptors {
    /// Their numbers. To be called before anything is opened here, which would get a number that is free.
    pub fn take(&self) -> Result<Vec<u32>> {
        let mut numbers = descriptors_from_3(self.preserve_fds);
        numbers.extend(&self.preserve_fd);
        numbers.sort_unstable();
        numbers.dedup();
        check_descriptors(&numbers, true).map_err(carrack_engine::Error::from)?;
        Ok(numbers)
    }
}
