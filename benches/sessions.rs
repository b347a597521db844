//! What a program that embeds the library waits for: cancellations, batches, saved sessions, of the bundled model.
//!
//! `cargo bench --bench sessions`, or `… -- cancel` for one of them.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tritwise::{Cancel, Model, Sampling, Session};

fn model() -> Model {
    Model::builder().context(2100).open(support::bundled()).unwrap_or_else(|e| panic!("{e}"))
}

fn tokens(model: &Model, count: usize) -> Vec<u32> {
    let vocab = model.config().vocab;
    (0..count).map(|i| ((i * 7919 + 3) % vocab) as u32).collect()
}

/// From the moment of a cancellation until the generation returns, anywhere in a prompt of 2,048 tokens.
fn cancel(c: &mut Criterion) {
    let model = model();
    let prompt = tokens(&model, 2048);
    let read = |session: &mut Session, cancel: &Cancel| {
        session.set_tokens(&[]).unwrap();
        session.set_tokens(&prompt).unwrap();
        assert!(session.generate_until(&Sampling::greedy().max_tokens(1), cancel).unwrap().all(|piece| piece.is_ok()));
        Instant::now()
    };
    let start = Instant::now();
    let mut session = model.session();
    let whole = read(&mut session, &Cancel::new()) - start;
    let mut all = Vec::new();
    let mut once = || {
        let cancel = Cancel::new();
        // Low-discrepancy places, the same in every run.
        let place = whole.mul_f64((all.len() as f64 * 0.618_034).fract() * 0.95);
        let end = std::thread::scope(|scope| {
            let reader = scope.spawn(|| read(&mut session, &cancel));
            std::thread::sleep(place);
            let start = Instant::now();
            cancel.cancel();
            reader.join().unwrap().saturating_duration_since(start)
        });
        all.push(end);
        end
    };
    c.bench_function("cancel", |b| b.iter_custom(|n| (0..n).map(|_| once()).sum::<Duration>()));
    all.sort();
    println!(
        "of {} cancellations the median took {:?}, the longest {:?}",
        all.len(),
        all[all.len() / 2],
        all[all.len() - 1]
    );
}

/// Sixteen prompts of 16 tokens continued by 32 each.
fn complete(c: &mut Criterion) {
    let model = model();
    let prompts: Vec<String> = (0..16).map(|i| format!("Once upon a time there were {i} kings, and the")).collect();
    let sampling = Sampling::default().max_tokens(32);
    let texts = |in_flight| {
        let mut all: Vec<_> = model.complete(&prompts, &sampling).in_flight(in_flight).collect();
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, completion)| completion.unwrap()).collect::<Vec<_>>()
    };
    let expected = texts(1);
    let tokens = expected.iter().map(|completion| completion.summary.tokens as u64).sum();
    let mut group = c.benchmark_group("complete");
    group.throughput(Throughput::Elements(tokens)).sample_size(10);
    for in_flight in [1, 2, 4, 8, 16] {
        let found = texts(in_flight);
        assert!(found.iter().zip(&expected).all(|(a, b)| a.text == b.text), "{in_flight} in flight");
        group.bench_function(format!("{in_flight} in flight"), |b| b.iter(|| texts(in_flight)));
    }
    group.finish();
}

/// A session of 1,024 tokens, to memory and back.
fn save(c: &mut Criterion) {
    let model = model();
    let mut session = model.session();
    session.push_tokens(&tokens(&model, 1024)).unwrap();
    session.logits().unwrap();
    let mut file = Vec::new();
    session.save_to(&mut file).unwrap();
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Bytes(file.len() as u64)).sample_size(10);
    group.bench_function("save", |b| {
        b.iter(|| {
            let mut copy = Vec::with_capacity(file.len());
            session.save_to(&mut copy).unwrap();
            assert!(copy == file);
        });
    });
    let mut other = model.session();
    group.bench_function("restore", |b| b.iter(|| other.restore_from(&file[..]).unwrap()));
    group.finish();
}

criterion_group!(benches, cancel, complete, save);
criterion_main!(benches);
