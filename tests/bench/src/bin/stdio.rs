//! The logic as a process on standard input and output: a line of JSON in, a line out. With `--once` it ends after the first.

use std::io::{BufRead, Write};

fn main() -> std::io::Result<()> {
    let once = std::env::args().any(|argument| argument == "--once");
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let mut said = bench_logic::answer(line?.as_bytes())?;
        said.push(b'\n');
        out.write_all(&said)?;
        out.flush()?;
        if once {
            break;
        }
    }
    Ok(())
}
