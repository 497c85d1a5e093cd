mod call;
fn main() {}
