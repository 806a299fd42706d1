//! Where this parser differs from Docker's, and why.
//!
//! - A flag that carrack cannot honour (`RUN --security=insecure`, `RUN --device`) is an error at its place: a build
//!   that ignored it would make another image than the one asked for.
//! - The `syntax` directive is read and kept, but no other frontend is ever loaded: a build does not run code that a
//!   comment names.
//! - An exec form that is not valid JSON is taken as shell form, as Docker does, but with a warning.
//! - An empty line after a continuation gives a warning, as Docker does; it stays a warning.
//! - A file is at most 4 MiB, an expanded text at most 1 MiB and 100 levels deep, and pattern substitution has a
//!   bounded number of steps: a few lines of `ENV A=$A$A$A` must not take all memory.
