//! Any bytes as a GGUF file: an error or a header whose windows are in bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tritwise_gguf::Header;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = Header::parse(bytes) {
        for tensor in header.tensors() {
            assert!(bytes.get(tensor.window.clone()).is_some(), "{} is out of bounds", tensor.name);
        }
    }
});
