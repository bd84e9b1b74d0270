// Panics in code of the standard library that is inlined here, so that a test can look for the line of the call.

#[inline(never)]
fn card(amount: Option<usize>) -> usize {
    let amount = amount.unwrap();
    amount + 1
}

fn main() {
    println!("{}", card(std::env::args().nth(100).map(|arg| arg.len())));
}
