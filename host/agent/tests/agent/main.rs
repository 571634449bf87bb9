//! Real agents against a scripted host: real processes, real files, real sockets.

fn main() {}
