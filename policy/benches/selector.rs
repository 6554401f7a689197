//! What a selector costs by itself: read, put into the canonical form and printed, and asked of one object's labels.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use selvage_policy::model::Labels;
use selvage_policy::selector::{Chosen, Expression, Selector};

const TEXTS: [(&str, &str); 3] = [
    ("one label", "app == 'web'"),
    ("usual", "app in {'web', 'api'} && tier != 'legacy' && has(release) && !has(canary)"),
    (
        "nested",
        "(app == 'a' || app == 'b' && (zone in {'x', 'y', 'z'} || !(env == 'dev' || env == 'test'))) \
         && projectcalico.org/namespace != 'kube-system' && name starts with 'job-' && !has(skip)",
    ),
];

fn canonical(text: &str) -> Selector {
    match Expression::parse(text) {
        Ok(Some(expression)) => expression.lower(Chosen::PodsAndSets).canonical(),
        Ok(None) | Err(_) => Selector::nothing(),
    }
}

fn selectors(criterion: &mut Criterion) {
    let labels: Labels = [("app", "b"), ("zone", "y"), ("env", "prod"), ("name", "job-7"), ("release", "1")]
        .map(|(key, value)| (key.into(), value.into()))
        .into();
    for (name, text) in TEXTS {
        let selector = canonical(text);
        assert_ne!(selector, Selector::nothing(), "{text}");
        let mut group = criterion.benchmark_group("selector");
        group.bench_function(format!("parse/{name}"), |bencher| {
            bencher.iter(|| Expression::parse(black_box(text)));
        });
        group.bench_function(format!("parse_and_print_canonical/{name}"), |bencher| {
            bencher.iter(|| canonical(black_box(text)).to_string());
        });
        group.bench_function(format!("match/{name}"), |bencher| {
            bencher.iter(|| black_box(&selector).matches(black_box(&labels)));
        });
        group.finish();
    }
}

criterion_group!(benches, selectors);
criterion_main!(benches);
