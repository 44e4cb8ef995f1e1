//! Memory of this process and machine, in MiB.
/// Largest resident set so far.
pub fn peak_rss_mib() -> f64 { unimplemented!() }
/// Resident set now.
pub fn rss_mib() -> f64 { unimplemented!() }
/// Memory the machine could still give.
pub fn available_mib() -> f64 { unimplemented!() }
