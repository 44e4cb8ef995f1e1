//! libtorch's c10d: TCPStore, process groups, the DDP reducer.
