//! Monopass launch.
