//! Floating-point algorithms, written once over sixteen lanes.
