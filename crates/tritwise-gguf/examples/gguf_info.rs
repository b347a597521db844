//! Prints what a GGUF file says about itself: `cargo run -p tritwise-gguf --example gguf_info FILE`.
use tritwise_gguf::{Header, types};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: gguf_info FILE")?;
    let header = Header::parse(&std::fs::read(path)?)?;
    for (key, value) in header.metadata().iter() {
        println!("{key} = {value}");
    }
    for tensor in header.tensors() {
        println!("{:40} {:?} {} at {:?}", tensor.name, tensor.dims, types::describe(tensor.type_id), tensor.window);
    }
    Ok(())
}
