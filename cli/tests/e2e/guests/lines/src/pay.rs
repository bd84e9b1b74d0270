// Panics in a function of a function, so that a test can look for their lines.

#[inline(never)]
fn card(amounts: &[u8], at: usize) -> u8 {
    amounts[at]
}

#[inline(never)]
fn charge(amounts: &[u8]) -> u8 {
    card(amounts, amounts.len()) + 1
}

fn main() {
    let amounts: Vec<u8> = std::env::args().map(|arg| arg.len() as u8).collect();
    println!("{}", charge(&amounts));
}
