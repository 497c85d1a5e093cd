//! See the library.

fn main() -> std::process::ExitCode {
    call_history::main()
}
