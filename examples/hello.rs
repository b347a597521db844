//! The smallest program: open a model, continue a text.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/stories-8m.gguf");
    let model = tritwise::Model::open(path)?;
    let mut session = model.session();
    session.push("Once upon a time")?;
    for piece in session.generate(&tritwise::Sampling::default().max_tokens(64))? {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
