//! How foreign kinds say it, a folder per family. Pure.

pub mod run;
pub mod size;
pub mod traffic;
