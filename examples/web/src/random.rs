//! Random numbers for the seeds of hash tables, which the tokenizer asks for: no text depends on them.
//!
//! On this target the crate `getrandom` leaves it to the program where they come from (its documentation, "Custom
//! backend"). A program that uses wasm-bindgen turns on that crate's feature `wasm_js` instead.

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Fills `len` bytes.
    safe fn random(bytes: *mut u8, len: usize);
}

/// Fills `len` bytes at `bytes`.
///
/// # Safety
/// They are writable.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(bytes: *mut u8, len: usize) -> Result<(), getrandom::Error> {
    random(bytes, len);
    Ok(())
}
