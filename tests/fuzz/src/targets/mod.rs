//! The targets, a file each; [`crate::TARGETS`] lists them.

pub mod aof;
pub mod canary;
pub mod config;
pub mod dump;
pub mod lzf;
pub mod manifest;
pub mod rdb;
pub mod resp;
